package keydir

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/sealmq/sealmq/keydir/keylog"
	"github.com/sealmq/sealmq/seal"
	"golang.org/x/mod/sumdb/tlog"
)

// A log that says it is endless is not read.
func TestAuditOfAnEndlessLog(t *testing.T) {
	w := newTown(t)
	checkpoint, err := w.signer.Checkpoint(tlog.Tree{N: keylog.MaxLog + 1})
	w.must(err)
	c := w.office().lying("bob", "Key log: ", func(string) string {
		return asJSON("Key log: ", keylog.Page{Leaves: []string{}, Size: keylog.MaxLog + 1, Checkpoint: checkpoint, LogKey: w.signer.Public()})
	})
	if _, err = w.directory(c).Audit(t.Context(), ""); !errors.Is(err, ErrLog) || len(c.asked) != 1 {
		t.Errorf("%q, error %v", c.asked, err)
	}
}

func TestAuditOfAForgedLog(t *testing.T) {
	w := newTown(t)
	f := w.forger()
	issuer := w.identity(w.ca, "alice").Issuer
	first, key := f.entry(w.ca, 1, [32]byte{})
	f.add(first, issuer)
	f.add(first, issuer) // the same record again harms nobody
	bob := w.directory(f)
	if _, err := bob.Audit(t.Context(), "alice"); err != nil {
		t.Errorf("an honest log: %v", err)
	}
	third, _ := f.entry(w.ca, 3, hashOf(t, first))
	f.add(third, issuer)
	if _, err := bob.Audit(t.Context(), "alice"); !errors.Is(err, ErrLog) {
		t.Errorf("an entry is left out: %v", err)
	}
	// The same log under another key is another log.
	var err error
	f.signer, _, err = keylog.NewSigner()
	w.must(err)
	if _, err := bob.Audit(t.Context(), ""); !errors.Is(err, ErrLog) || !strings.Contains(err.Error(), "signed with another key than before") {
		t.Errorf("another key: %v", err)
	}
	finds(t, bob, "alice", "", key, ErrLog)
}

// A log that is too long is not read for a look-up; a notice says so, once for a name.
func TestLongLogIsNotReadForALookUp(t *testing.T) {
	w := newTown(t)
	o := w.office()
	first, second := generate(t, small), generate(t, small)
	o.publish("alice", first)
	o.publish("carol", second)
	var notices []string
	pins := NewPins()
	bob := func(maxLogRead int64) *Directory {
		return w.directory(o.as("bob"), with(pins), func(c *Config) {
			c.MaxLogRead, c.Notice = maxLogRead, func(s string) { notices = append(notices, s) }
		})
	}
	finds(t, bob(2), "alice", "", first, nil)
	if len(notices) != 1 || !strings.HasPrefix(notices[0], "key of alice pinned: ") {
		t.Errorf("%q", notices)
	}
	for range 2 {
		finds(t, bob(1), "carol", "", second, nil)
	}
	if len(notices) != 3 || !strings.HasPrefix(notices[1], "key of carol: the log of the key directory has 2 records, too many") {
		t.Errorf("%q", notices)
	}
}

// What was read of the log is not read again, and is proven together with what is new.
func TestFirstLookUpsReadOnlyWhatIsNew(t *testing.T) {
	w := newTown(t)
	o := w.office()
	keys := make(map[string]*seal.PublicKey)
	publish := func(name string) {
		keys[name] = generate(t, small)
		o.publish(name, keys[name])
	}
	swap := false
	c := o.lying("bob", "Key log: ", func(reply string) string {
		var p keylog.Page
		if !swap || json.Unmarshal([]byte(strings.TrimPrefix(reply, "Key log: ")), &p) != nil {
			return reply
		}
		slices.Reverse(p.Leaves)
		return asJSON("Key log: ", p)
	})
	bob := w.directory(c)
	publish("alice")
	finds(t, bob, "alice", "", keys["alice"], nil)
	publish("carol")
	publish("dave")
	swap = true
	finds(t, bob, "carol", "", nil, ErrLog)
	swap = false
	finds(t, bob, "carol", "", keys["carol"], nil) // nothing is kept of what was wrong
	finds(t, bob, "dave", "", keys["dave"], nil)
	publish("erin")
	finds(t, bob, "erin", "", keys["erin"], nil)
	asked := slices.DeleteFunc(c.asked, func(line string) bool { return !strings.HasPrefix(line, "key_log ") })
	if want := []string{"key_log 0 1", "key_log 1 2", "key_log 0 3", "key_log 3 1"}; !slices.Equal(asked, want) {
		t.Errorf("asked %q, want %q", asked, want)
	}
}

// A replaced entry is found out also if the log was read before it was replaced.
func TestFirstLookUpAfterOthersKnowsWhatIsNewer(t *testing.T) {
	w := newTown(t)
	o := w.office()
	first, other := generate(t, small), generate(t, small)
	o.publish("alice", first)
	o.publish("carol", other)
	old := o.found("find_key alice")
	c := o.as("bob")
	bob := w.directory(c)
	finds(t, bob, "carol", "", other, nil)
	o.publish("alice", generate(t, small))
	c.lie = func(line, reply string, err error) (string, error) {
		if strings.HasPrefix(line, "find_key ") {
			reply = asJSON("Key: ", o.reprove(old))
		}
		return reply, err
	}
	finds(t, bob, "alice", "", nil, ErrRollback)
}

// Verify demands the newest entries of the log, although the ones before are pinned.
func TestVerify(t *testing.T) {
	w := newTown(t)
	o := w.office()
	first, hybrid, second := generate(t, small), generate(t, seal.HPKEHybrid), generate(t, small)
	o.publish("alice", first)
	old := o.found("find_key alice")
	pins := NewPins()
	finds(t, w.directory(o.as("bob"), with(pins)), "alice", small, first, nil)
	o.publish("alice", hybrid)
	o.publish("alice", second)
	liar := o.lying("bob", "Key: ", func(string) string { return asJSON("Key: ", o.reprove(old)) })
	finds(t, w.directory(liar, with(pins)), "alice", small, first, nil)
	if v, err := w.directory(liar, with(pins)).Verify(t.Context(), "alice"); err == nil {
		t.Errorf("an old entry: %+v", v)
	}
	v, err := w.directory(o.as("bob"), with(pins)).Verify(t.Context(), "alice")
	w.must(err)
	if len(v.Records) != 3 || len(v.Keys) != 2 || v.Keys[0].Key.Fingerprint() != hybrid.Fingerprint() || v.Keys[1].Key.Fingerprint() != second.Fingerprint() || v.Keys[1].Serial != 2 {
		t.Errorf("%+v", v)
	}
	o.reset("alice", small)
	v, err = w.directory(o.as("bob")).Verify(t.Context(), "alice")
	if err != nil || len(v.Keys) != 1 || !v.Records[3].Reset || !v.Records[3].Newest || v.Records[2].Newest {
		t.Errorf("%+v, %v", v, err)
	}
	// A reset that is hidden from a client that has pinned the key.
	last := o.found("find_key alice " + string(seal.HPKEHybrid))
	o.reset("alice", seal.HPKEHybrid)
	liar = o.lying("bob", "", func(reply string) string { return reply })
	liar.lie = func(line, reply string, err error) (string, error) {
		if strings.HasPrefix(line, "find_key ") {
			return asJSON("Key: ", o.reprove(last)), nil
		}
		return reply, err
	}
	if _, err = w.directory(liar, with(pins)).Verify(t.Context(), "alice"); !errors.Is(err, ErrRollback) && !errors.Is(err, ErrLog) {
		t.Errorf("a hidden reset: %v", err)
	}
	finds(t, w.directory(liar, with(pins)), "alice", seal.HPKEHybrid, hybrid, nil)
}
