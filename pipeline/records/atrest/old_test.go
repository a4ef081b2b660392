package atrest

import (
	"crypto/aes"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
)

// Made with Python's cryptography 48.0.0: Fernet(urlsafe_b64encode(bytes(range(32)))).
const (
	fernetGreeting = "gAAAAABlU_EAa3dVYxaqfqcbakxwGdTJfIrdgdEqpE8ZaPjb4T10Q1PpmtNRE84Y2Ka0vhCiSTtB8RmgEswIAwh4i3PDXltrjV4AEnDqT4WWLo3YsUeTyls="
	fernetDoubled  = "Z0FBQUFBQmxVX0VBYTNkVll4YXFmcWNiYWt4d0dkVEpmSXJkZ2RFcXBFOFphUGpiNFQxMFExUHBtdE5SRTg0WTJLYTB2aENpU1R0QjhSbWdFc3dJQXdoNGkzUERYbHRyalY0QUVuRHFUNFdXTG8zWXNVZVR5bHM9"
	fernetEmpty    = "gAAAAABlU_EABf4vnVh3YfkZm5BPD9nZiS76GDmN_iQ9FHqi6dt1K61nQohAPIZhGxJruV8hTTSeH69tP5eV7Owgs311dKmdBw=="
	greeting       = "Grüße aus dem Labor"
)

func TestFernet(t *testing.T) {
	ring := mustRing(t, 2, map[uint16]Key{1: testKey(0), 2: testKey(9)})
	for _, version := range []uint16{1, 2, 7} { // the right one, a wrong one, an unknown one
		for text, want := range map[string]string{fernetGreeting: greeting, fernetDoubled: greeting, fernetEmpty: ""} {
			got, err := ring.OpenOld(version, "id", "acme", text)
			if err != nil || got != want {
				t.Errorf("version %d: %q, %v", version, got, err)
			}
			if form, _ := Inspect(text); form != Fernet {
				t.Errorf("form %v", form)
			}
		}
	}
	raw, err := base64.URLEncoding.DecodeString(fernetGreeting)
	if err != nil {
		t.Fatal(err)
	}
	for i := range raw {
		raw[i] ^= 1
		if _, err := ring.OpenOld(1, "id", "acme", base64.URLEncoding.EncodeToString(raw)); !errors.Is(err, ErrUnreadable) {
			t.Errorf("byte %d does not count: %v", i, err)
		}
		raw[i] ^= 1
	}
	for _, text := range []string{"", "gAAAA", "Z0FBQUFB", "Z0FBQUFB!", fernetGreeting[:40], "gAAAA" + strings.Repeat("A", MaxText)} {
		if got, err := ring.OpenOld(1, "id", "acme", text); !errors.Is(err, ErrUnreadable) || got != "" {
			t.Errorf("%.20q: %q, %v", text, got, err)
		}
	}
	var missing *NoKeyError
	if _, err := mustRing(t, 2, map[uint16]Key{2: testKey(9)}).OpenOld(1, "id", "acme", fernetGreeting); !errors.As(err, &missing) {
		t.Errorf("without the key: %v", err)
	}
}

func TestVersion2(t *testing.T) {
	k := testKey(4)
	ring := mustRing(t, 1, map[uint16]Key{1: k})
	nonce := []byte("123456789012")
	text := "v2." + base64.URLEncoding.EncodeToString(gcm(k.derive(nil, v2Info)).Seal(nonce, nonce, []byte("hello"), []byte("id|acme")))
	if got, err := ring.OpenOld(1, "id", "acme", text); err != nil || got != "hello" {
		t.Errorf("%q, %v", got, err)
	}
	if form, _ := Inspect(text); form != V2 {
		t.Errorf("form %v", form)
	}
	if got, err := ring.OpenOld(1, "id", "other", text); !errors.Is(err, ErrUnreadable) {
		t.Errorf("another client: %q, %v", got, err)
	}
}

func FuzzFernet(f *testing.F) {
	k := testKey(0)
	f.Add(fernetGreeting)
	f.Add(fernetDoubled)
	f.Add(fernetEmpty)
	f.Fuzz(func(t *testing.T, text string) {
		plain, err := openFernet(k, text)
		if err != nil && (!errors.Is(err, ErrUnreadable) || plain != nil) {
			t.Fatalf("%v", err)
		}
		if err == nil && string(plain) != greeting && len(plain) != 0 {
			t.Fatalf("a forged token of %d bytes was read", len(plain))
		}
		if len(plain) > len(text)-aes.BlockSize && err == nil {
			t.Fatal("more text than token")
		}
	})
}
