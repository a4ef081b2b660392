package atrest

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"
)

func mustScope(t testing.TB, r *Ring, id uint32, client string) *Scope {
	t.Helper()
	text, version := r.NewScope(client)
	s, err := r.OpenScope(id, version, client, text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSealAndOpen(t *testing.T) {
	s := mustScope(t, mustRing(t, 5, map[uint16]Key{5: testKey(1)}), 77, "acme")
	for _, plain := range []string{"", "a", "Grüße", strings.Repeat("x", 64<<10), "\x00\xff\xfe"} {
		text := s.Seal(Body, "id-1", plain)
		got, err := s.Open(Body, "id-1", text)
		if err != nil || got != plain {
			t.Errorf("%d bytes: %v", len(plain), err)
		}
		if form, scope := Inspect(text); form != V3 || scope != 77 {
			t.Errorf("form %v of scope %d", form, scope)
		}
		if text == s.Seal(Body, "id-1", plain) {
			t.Error("two texts are equal")
		}
	}
}

// A text is of its row, its column and its client only, and every byte of it counts.
func TestTextsCannotBeMoved(t *testing.T) {
	ring := mustRing(t, 1, map[uint16]Key{1: testKey(1)})
	s, other := mustScope(t, ring, 1, "acme"), mustScope(t, ring, 1, "acme")
	text := s.Seal(Body, "id-1", "hello")
	for name, try := range map[string]func() (string, error){
		"another column":    func() (string, error) { return s.Open(Number, "id-1", text) },
		"another message":   func() (string, error) { return s.Open(Body, "id-2", text) },
		"another scope key": func() (string, error) { return other.Open(Body, "id-1", text) },
		"cut":               func() (string, error) { return s.Open(Body, "id-1", text[:len(text)-4]) },
		"empty":             func() (string, error) { return s.Open(Body, "id-1", "v3.") },
		"no text":           func() (string, error) { return s.Open(Body, "id-1", "hello") },
		"long":              func() (string, error) { return s.Open(Body, "id-1", "v3."+strings.Repeat("A", MaxText)) },
	} {
		if got, err := try(); !errors.Is(err, ErrUnreadable) || got != "" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	raw, err := base64.RawURLEncoding.DecodeString(text[3:])
	if err != nil {
		t.Fatal(err)
	}
	for i := range raw {
		raw[i] ^= 1
		if _, err := s.Open(Body, "id-1", "v3."+base64.RawURLEncoding.EncodeToString(raw)); !errors.Is(err, ErrUnreadable) {
			t.Errorf("byte %d does not count", i)
		}
		raw[i] ^= 1
	}
}

func TestScopeKeysAreOfOneClient(t *testing.T) {
	ring := mustRing(t, 2, map[uint16]Key{1: testKey(1), 2: testKey(2)})
	text, version := ring.NewScope("acme")
	if version != 2 {
		t.Errorf("version %d", version)
	}
	if _, err := ring.OpenScope(1, 2, "Acme", text); !errors.Is(err, ErrUnreadable) {
		t.Errorf("another client: %v", err)
	}
	if _, err := ring.OpenScope(1, 1, "acme", text); !errors.Is(err, ErrUnreadable) {
		t.Errorf("another file key: %v", err)
	}
	var missing *NoKeyError
	if _, err := ring.OpenScope(1, 3, "acme", text); !errors.As(err, &missing) || missing.Version != 3 {
		t.Errorf("a missing file key: %v", err)
	}
}

func FuzzOpen(f *testing.F) {
	s := mustScope(f, mustRing(f, 1, map[uint16]Key{1: testKey(1)}), 1, "acme")
	f.Add(s.Seal(Body, "id-1", "hello"), "id-2")
	f.Add("v3.", "")
	f.Fuzz(func(t *testing.T, text, id string) {
		Inspect(text)
		if plain, err := s.Open(Body, id, text); err == nil && plain != "hello" {
			t.Fatalf("opened a text that it did not make: %q", plain)
		}
	})
}
