package atrest

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestTokens(t *testing.T) {
	const number = "+4915200000000"
	salt := "old"
	old := NewHasher(mustRing(t, 1, map[uint16]Key{1: testKey(1)}), &salt)
	newer := NewHasher(mustRing(t, 2, map[uint16]Key{1: testKey(1), 2: testKey(2)}), &salt)
	other := NewHasher(mustRing(t, 1, map[uint16]Key{1: testKey(3)}), &salt)
	now := time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC)
	token := old.Token(number, now.Add(time.Hour))
	if again := old.Token(number, now.Add(time.Hour)); again == token {
		t.Error("two tokens of one number are alike")
	}
	for name, h := range map[string]*Hasher{"its own": old, "one with a newer key": newer} {
		got, err := h.Hashes(token, now)
		if err != nil || !slices.Equal(got, old.Candidates(number)) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	bad := []byte(token)
	bad[len(bad)/2] ^= 1
	for name, tc := range map[string]struct {
		h     *Hasher
		token string
		at    time.Time
	}{
		"after its time": {old, token, now.Add(time.Hour + time.Second)}, "another key": {other, token, now}, "changed": {old, string(bad), now}, "cut": {old, token[:20], now},
		"empty": {old, "", now}, "a number": {old, number, now}, "long": {old, strings.Repeat("A", 5000), now},
	} {
		if got, err := tc.h.Hashes(tc.token, tc.at); err == nil {
			t.Errorf("%s: %v", name, got)
		}
	}
}
