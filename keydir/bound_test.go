package keydir

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/keydir/keylog"
	"github.com/sealmq/sealmq/seal"
	"github.com/sealmq/sealmq/seal/ciphermq"
)

// entryOf is the entry that an office shows.
func (o *office) entryOf(name string) []byte {
	o.t.Helper()
	f, err := o.log.Find(o.as(name).id, name, "")
	o.must(err)
	return f.Entry
}

// elsewhere is a town with the same authorities and another log.
func (w *town) elsewhere() *town {
	w.t.Helper()
	other := *w
	signer, _, err := keylog.NewSigner()
	w.must(err)
	other.signer = signer
	return &other
}

// An entry that was signed for one broker's directory is neither taken nor believed by
// another one.
func TestEntryOfAnotherDirectory(t *testing.T) {
	w := newTown(t)
	o, key := w.office(), generate(t, small)
	o.publish("alice", key)
	entry := o.entryOf("alice")

	there := w.elsewhere()
	_, err := there.office().as("alice").Command(t.Context(), "put_key "+string(small)+" "+base64.StdEncoding.EncodeToString(entry))
	if sealmq.CodeOf(err) != sealmq.BadArgument || !strings.Contains(err.Error(), "another key directory") {
		t.Errorf("put: %v", err)
	}
	f := there.forger()
	f.add(entry, w.identity(w.ca, "alice").Issuer)
	d, err := New(f, Config{Verifier: w.verifier()})
	w.must(err)
	if _, err := d.Find(t.Context(), "alice", small); !errors.Is(err, ErrDirectory) || hintOf(err) == "" {
		t.Errorf("find: %v", err)
	}
	if keys, err := d.Pins().Keys(); err != nil || len(keys) != 0 {
		t.Errorf("pinned: %v, %v", keys, err)
	}
}

// Entries of older versions name no directory. They stay good and are marked, and publishing
// the same key replaces them.
func TestEntryWithoutADirectory(t *testing.T) {
	w := newTown(t)
	o, key := w.office(), generate(t, small)
	old, err := seal.NewKeyEntry(w.signs(w.ca, "alice"), seal.KeyEntry{Key: key, Created: time.Now()})
	w.must(err)
	_, err = o.as("alice").Command(t.Context(), "put_key "+string(small)+" "+base64.StdEncoding.EncodeToString(old))
	w.must(err)

	var notices []string
	bob := o.directory(o.as("bob"), func(cfg *Config) { cfg.Notice = func(text string) { notices = append(notices, text) } })
	verified := func(unbound bool, serial uint64) {
		t.Helper()
		finds(t, bob, "alice", "", key, nil)
		v, err := bob.Verify(t.Context(), "alice")
		w.must(err)
		if len(v.Keys) != 1 || v.Keys[0].Unbound != unbound || v.Keys[0].Serial != serial {
			t.Errorf("%+v", v.Keys)
		}
	}
	verified(true, 1)
	if len(notices) != 1 || !strings.Contains(notices[0], "names no key directory") {
		t.Errorf("%q", notices)
	}
	for range 2 {
		e := o.publish("alice", key)
		if e.Serial != 2 || e.Directory != keylog.ID(w.signer.Public()) {
			t.Errorf("%+v", e)
		}
	}
	verified(false, 2)
	if len(notices) != 2 || !strings.Contains(notices[1], "renewed, with the same key") {
		t.Errorf("%q", notices)
	}
	if e, err := seal.ParseKeyEntry(old, ciphermq.Suites{}); err != nil || e.Directory != [32]byte{} {
		t.Errorf("%+v, %v", e, err)
	}
}
