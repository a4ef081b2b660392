package client_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/keydir"
	"github.com/sealmq/sealmq/seal"
)

// Keys that come in a file are judged by the pins and the directory, too.
func TestGivenKeysAreCompared(t *testing.T) {
	w := newTown(t)
	n := w.broker()
	first, second, other, bare := generate(t, seal.HPKEX25519), generate(t, seal.HPKEX25519), generate(t, seal.HPKEX25519), generate(t, seal.CipherMQG5)
	w.publish(n.Addr, "lab", first)
	pins := keydir.NewPins()
	finds(t, w.directory(n.Addr, "bob", with(pins)), "lab", "", first, nil)
	w.publish(n.Addr, "lab", second)
	if _, err := n.Dial(client.Config{}).Command(t.Context(), fmt.Sprintf("register_key old %s", b64(bare))); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		what, name string
		key        *seal.PublicKey
		pinned     bool
		want       error // under strict pins
		named      []*seal.PublicKey
	}{
		{"what the directory shows, which nothing is pinned of", "lab", second, false, nil, nil},
		{"another one, which nothing is pinned of", "lab", other, false, keydir.ErrShown, []*seal.PublicKey{other, second}},
		{"the pinned one, which was replaced", "lab", first, true, nil, []*seal.PublicKey{first, second}},
		{"the one that replaced the pinned one", "lab", second, true, keydir.ErrPinned, []*seal.PublicKey{first, second}},
		{"another one than pinned and shown", "lab", other, true, keydir.ErrPinned, []*seal.PublicKey{first, second, other}},
		{"one of another suite", "lab", bare, true, nil, nil},
		{"one that nobody knows", "eve", other, true, nil, nil},
		{"the bare one that is shown", "old", bare, true, nil, nil},
		{"another bare one", "old", generate(t, seal.CipherMQG5), false, keydir.ErrShown, []*seal.PublicKey{bare}},
	} {
		t.Run(tc.what, func(t *testing.T) {
			for _, strict := range []bool{false, true} {
				var notices []string
				d := w.directory(n.Addr, "bob", func(c *keydir.Config) {
					c.StrictPins, c.Notice = strict, func(text string) { notices = append(notices, text) }
					if tc.pinned {
						c.Pins = pins
					}
				})
				err := d.CheckKey(t.Context(), tc.name, tc.key)
				if strict && tc.want != nil {
					refused(t, err, tc.want, tc.named...)
					continue
				}
				if err != nil || len(notices) != min(1, len(tc.named)) {
					t.Errorf("strict %v: %v, %q", strict, err, notices)
				}
				for _, key := range tc.named {
					if !strings.Contains(strings.Join(notices, ""), key.Digits()) {
						t.Errorf("%q does not name %s", notices, key.Digits())
					}
				}
			}
		})
	}
	if keys, err := pins.Keys("town"); err != nil || keys["lab"][string(seal.HPKEX25519)].Fingerprint != first.Fingerprint() || len(keys) != 1 {
		t.Errorf("comparing has pinned %+v, %v", keys, err)
	}
}

// What the directory says in place of a key is no reason to take one under strict pins.
func TestGivenKeysAndALyingDirectory(t *testing.T) {
	w := newTown(t)
	f := newForger(t, w)
	entry, _ := f.entry(w.ca, 1, [32]byte{})
	f.add(entry, "sha256:11")
	given := generate(t, seal.HPKEX25519)
	told := ""
	notice := func(c *keydir.Config) { c.Notice = func(text string) { told = text } }
	if err := w.directory(f.addr, "bob", notice).CheckKey(t.Context(), "alice", given); err != nil || !strings.Contains(told, given.Digits()) {
		t.Errorf("%v, %q", err, told)
	}
	strict := func(c *keydir.Config) { c.StrictPins = true }
	if err := w.directory(f.addr, "bob", strict).CheckKey(t.Context(), "alice", given); !errors.Is(err, keydir.ErrLog) {
		t.Errorf("%v", err)
	}
}
