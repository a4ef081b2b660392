package atrest

import (
	"slices"
	"testing"
)

func TestHasher(t *testing.T) {
	salt := "old-salt"
	a := NewHasher(mustRing(t, 1, map[uint16]Key{1: testKey(1)}), nil)
	b := NewHasher(mustRing(t, 2, map[uint16]Key{1: testKey(1), 2: testKey(2), 3: testKey(3)}), &salt)
	const number = "+4915200000000"
	old, key := a.Hash(number)
	if key != 1 || len(old) != 64 {
		t.Errorf("hash %q with key %d", old, key)
	}
	now, key := b.Hash(number)
	if key != 2 || now == old {
		t.Errorf("hash %q with key %d", now, key)
	}
	third, _ := b.HashWith(3, number)
	// sha256sum of "old-salt+4915200000000"
	const salted = "01471e4a53d40a4a56c718fabcf088c12fd835202dde108d702399f7dbb9a114"
	if got, want := b.Candidates(number), []string{now, third, old, salted}; !slices.Equal(got, want) {
		t.Errorf("candidates %q, want %q", got, want)
	}
	if got := a.Candidates(number); !slices.Equal(got, []string{old}) {
		t.Errorf("candidates %q", got)
	}
	if _, ok := a.HashWith(9, number); ok {
		t.Error("a hash without a key")
	}
}

func TestMask(t *testing.T) {
	for number, want := range map[string]string{
		"": "****", "12345": "****", "123456": "123****56", "+1234567": "+12****67", "+123456789": "+123****6789", "+4915200001234": "+491****1234", "ääöößß": "ääö****ßß",
	} {
		if got := Mask(number); got != want {
			t.Errorf("%q: %q, want %q", number, got, want)
		}
	}
	if got := MaskHash("0123456789"); got != "hash:01234567" {
		t.Errorf("%q", got)
	}
	if got := MaskHash("01"); got != "hash:01" {
		t.Errorf("%q", got)
	}
}
