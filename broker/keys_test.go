package broker_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/broker"
)

func key(b byte) []byte { return bytes.Repeat([]byte{b}, broker.KeyBytes) }

func TestKeys(t *testing.T) {
	n := open(t)
	if _, ok := n.Key(bob, "alice"); ok {
		t.Error("a key that was never registered is found")
	}
	put := func(k []byte, wantChanged bool) {
		t.Helper()
		changed, err := n.putKey(alice, "alice", k)
		if err != nil || changed != wantChanged {
			t.Errorf("changed %v, error %v, want %v", changed, err, wantChanged)
		}
	}
	put(key(1), true)
	put(key(1), false)
	put(key(2), true)
	for range 2 {
		if got, ok := n.Key(bob, "alice"); !ok || !bytes.Equal(got, key(2)) {
			t.Errorf("key %x, found %v", got, ok)
		}
		put(key(2), false)
		n.restart()
	}
	audited := 0
	for _, e := range n.audit.entries {
		if e.command == "write_key" {
			audited++
		}
	}
	if audited != 2 {
		t.Errorf("%d changes in the audit, want 2", audited)
	}
}

func TestKeyOfTheCallerIsCopied(t *testing.T) {
	n := open(t)
	k := key(1)
	n.PutKey(alice, "alice", k, func(bool, error) {})
	clear(k)
	if got, _ := n.Key(bob, "alice"); !bytes.Equal(got, key(1)) {
		t.Errorf("key %x", got)
	}
}

func TestKeysAreRefused(t *testing.T) {
	n := open(t)
	nameless := broker.Caller{Identity: sealmq.Identity{ID: "sha256:00", Role: sealmq.RoleClient}}
	spaced := broker.Caller{Identity: sealmq.Identity{ID: "a b", CommonName: "Lab 1 Receiver", Role: sealmq.RoleClient}}
	for _, tc := range []struct {
		name   string
		id     broker.Caller
		client string
		key    []byte
		code   sealmq.Code
	}{
		{"somebody else's", bob, "alice", key(1), sealmq.Denied},
		{"near miss", alice, "Alice", key(1), sealmq.Denied},
		{"id is not the common name", broker.Caller{Identity: sealmq.Identity{ID: "a", CommonName: "b", Role: sealmq.RoleClient}}, "a", key(1), sealmq.Denied},
		{"no common name", nameless, "sha256:00", key(1), sealmq.Denied},
		{"no client", nameless, "", key(1), sealmq.BadName},
		{"short", alice, "alice", key(1)[1:], sealmq.BadArgument},
		{"long", alice, "alice", append(key(1), 0), sealmq.BadArgument},
		{"empty", alice, "alice", nil, sealmq.BadArgument},
		{"line break", admin, "a\nb", key(1), sealmq.BadName},
		{"broken UTF-8", admin, "a\xff", key(1), sealmq.BadName},
		{"long name", admin, strings.Repeat("x", 256), key(1), sealmq.BadName},
	} {
		if _, err := n.putKey(tc.id, tc.client, tc.key); sealmq.CodeOf(err) != tc.code {
			t.Errorf("%s: error %v, want code %s", tc.name, err, tc.code)
		}
	}
	if changed, err := n.putKey(spaced, spaced.CommonName, key(1)); err != nil || !changed {
		t.Errorf("a common name with spaces: changed %v, error %v", changed, err)
	}
	if changed, err := n.putKey(admin, "alice", key(1)); err != nil || !changed {
		t.Errorf("an administrator: changed %v, error %v", changed, err)
	}
	n.restart()
	if _, ok := n.Key(alice, "Lab 1 Receiver"); !ok {
		t.Error("the key of a common name with spaces is lost")
	}
}
