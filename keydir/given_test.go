package keydir

import (
	"errors"
	"strings"
	"testing"

	"github.com/sealmq/sealmq/seal"
	"github.com/sealmq/sealmq/seal/ciphermq"
)

// Keys that come in a file are judged by the pins and the directory, too.
func TestGivenKeysAreCompared(t *testing.T) {
	w := newTown(t)
	o := w.office()
	first, second, other, bare := generate(t, small), generate(t, small), generate(t, small), generate(t, ciphermq.G5)
	o.publish("lab", first)
	pins := NewPins()
	finds(t, w.directory(o.as("bob"), with(pins)), "lab", "", first, nil)
	o.publish("lab", second)
	o.register("old", bare)
	for _, tc := range []struct {
		what, name string
		key        *seal.PublicKey
		pinned     bool
		want       error // under strict pins
		named      []*seal.PublicKey
	}{
		{"what the directory shows, which nothing is pinned of", "lab", second, false, nil, nil},
		{"another one, which nothing is pinned of", "lab", other, false, ErrShown, []*seal.PublicKey{other, second}},
		{"the pinned one, which was replaced", "lab", first, true, nil, []*seal.PublicKey{first, second}},
		{"the one that replaced the pinned one", "lab", second, true, ErrPinned, []*seal.PublicKey{first, second}},
		{"another one than pinned and shown", "lab", other, true, ErrPinned, []*seal.PublicKey{first, second, other}},
		{"one of another suite", "lab", bare, true, nil, nil},
		{"one that nobody knows", "eve", other, true, nil, nil},
		{"the bare one that is shown", "old", bare, true, nil, nil},
		{"another bare one", "old", generate(t, ciphermq.G5), false, ErrShown, []*seal.PublicKey{bare}},
	} {
		t.Run(tc.what, func(t *testing.T) {
			for _, strict := range []bool{false, true} {
				var notices []string
				d := w.directory(o.as("bob"), func(c *Config) {
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
	if keys, err := pins.Keys(); err != nil || keys["lab"][string(small)].Fingerprint != first.Fingerprint() || len(keys) != 1 {
		t.Errorf("comparing has pinned %+v, %v", keys, err)
	}
}

// What the directory says in place of a key is no reason to take one under strict pins.
func TestGivenKeysAndALyingDirectory(t *testing.T) {
	w := newTown(t)
	f := w.forger()
	entry, _ := f.entry(w.ca, 1, [32]byte{})
	f.add(entry, "sha256:11")
	given := generate(t, small)
	told := ""
	notice := func(c *Config) { c.Notice = func(text string) { told = text } }
	if err := w.directory(f, notice).CheckKey(t.Context(), "alice", given); err != nil || !strings.Contains(told, given.Digits()) {
		t.Errorf("%v, %q", err, told)
	}
	if err := w.directory(f, strict).CheckKey(t.Context(), "alice", given); !errors.Is(err, ErrLog) {
		t.Errorf("%v", err)
	}
}
