package client_test

import (
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sealmq/sealmq/internal/testing/liar"
	"github.com/sealmq/sealmq/keydir"
	"github.com/sealmq/sealmq/keydir/keylog"
	"github.com/sealmq/sealmq/seal"
)

// A log that is too long is not read for a first look, and that is said, once for a name.
func TestFirstLookAtALongLogIsSaid(t *testing.T) {
	w := newTown(t)
	n := w.broker()
	first, second := generate(t, seal.HPKEX25519), generate(t, seal.HPKEX25519)
	w.publish(n.Addr, "alice", first)
	w.publish(n.Addr, "carol", second)
	var notices []string
	pins := keydir.NewPins()
	bob := func(firstLook int64) *keydir.Directory {
		return w.directory(n.Addr, "bob", with(pins), func(c *keydir.Config) {
			c.FirstLook, c.Notice = firstLook, func(s string) { notices = append(notices, s) }
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
func TestFirstLooksReadOnlyWhatIsNew(t *testing.T) {
	w := newTown(t)
	n := w.broker()
	l := w.proxy(n)
	names := []string{"alice", "carol", "dave", "erin"}
	keys := make(map[string]*seal.PublicKey)
	for _, name := range names {
		keys[name] = generate(t, seal.HPKEX25519)
	}
	var mu sync.Mutex
	var asked []string
	swap := false
	l.Lie(liar.Lies{ToBroker: func(_ *liar.Conn, line string) []string {
		mu.Lock()
		defer mu.Unlock()
		if strings.HasPrefix(line, "key_log ") {
			asked = append(asked, line)
		}
		return []string{line}
	}, ToClient: func(_ *liar.Conn, line string) []string {
		mu.Lock()
		defer mu.Unlock()
		text, ok := strings.CutPrefix(line, "Key log: ")
		var p keylog.Page
		if !ok || !swap || json.Unmarshal([]byte(text), &p) != nil {
			return []string{line}
		}
		slices.Reverse(p.Leaves)
		return []string{"Key log: " + asJSON(t, p)}
	}})
	bob := w.directory(l.Addr(), "bob")
	w.publish(n.Addr, "alice", keys["alice"])
	finds(t, bob, "alice", "", keys["alice"], nil)
	w.publish(n.Addr, "carol", keys["carol"])
	w.publish(n.Addr, "dave", keys["dave"])
	mu.Lock()
	swap = true
	mu.Unlock()
	finds(t, bob, "carol", "", nil, keydir.ErrLog)
	mu.Lock()
	swap = false
	mu.Unlock()
	finds(t, bob, "carol", "", keys["carol"], nil) // nothing is kept of what was wrong
	finds(t, bob, "dave", "", keys["dave"], nil)
	w.publish(n.Addr, "erin", keys["erin"])
	finds(t, bob, "erin", "", keys["erin"], nil)
	mu.Lock()
	defer mu.Unlock()
	if want := []string{"key_log 0 1", "key_log 1 2", "key_log 0 3", "key_log 3 1"}; !slices.Equal(asked, want) {
		t.Errorf("asked %q, want %q", asked, want)
	}
}

// A replaced entry is found out also if the log was read before it was replaced.
func TestFirstLookAfterOthersKnowsWhatIsNewer(t *testing.T) {
	w := newTown(t)
	n := w.broker()
	l := w.proxy(n)
	first, other := generate(t, seal.HPKEX25519), generate(t, seal.HPKEX25519)
	w.publish(n.Addr, "alice", first)
	w.publish(n.Addr, "carol", other)
	old := rawFind(t, n, "find_key alice")
	bob := w.directory(l.Addr(), "bob")
	finds(t, bob, "carol", "", other, nil)
	w.publish(n.Addr, "alice", generate(t, seal.HPKEX25519))
	l.Lie(liar.Lies{ToClient: func(_ *liar.Conn, line string) []string {
		if strings.HasPrefix(line, "Key: ") {
			line = oldInNewTree(t, n, old)
		}
		return []string{line}
	}})
	finds(t, bob, "alice", "", nil, keydir.ErrRollback)
}
