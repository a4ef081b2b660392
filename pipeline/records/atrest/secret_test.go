package atrest_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/sealmq/sealmq/pipeline/records/atrest"
)

func TestSecret(t *testing.T) {
	one, two := atrest.NewKey(), atrest.NewKey()
	old, err := atrest.NewRing(1, map[uint16]atrest.Key{1: one})
	if err != nil {
		t.Fatal(err)
	}
	both, err := atrest.NewRing(2, map[uint16]atrest.Key{1: one, 2: two})
	if err != nil {
		t.Fatal(err)
	}
	text := old.SealSecret("totp 7", "GEZDGNBVGY3TQOJQ")
	if got, err := both.OpenSecret("totp 7", text); got != "GEZDGNBVGY3TQOJQ" || err != nil || strings.Contains(text, "GEZD") {
		t.Errorf("%q, %v", got, err)
	}
	if strings.HasPrefix(text, both.CurrentSecrets()) || !strings.HasPrefix(text, old.CurrentSecrets()) {
		t.Errorf("%s is under the wrong key", text)
	}
	for _, bad := range []string{"", "u1.", "u1.1.", "u1.x." + text[5:], "u1.1.AAAA", text[:len(text)-1], text + "A", "u1.2." + text[5:]} {
		if _, err := both.OpenSecret("totp 7", bad); !errors.Is(err, atrest.ErrUnreadable) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if _, err := both.OpenSecret("totp 8", text); !errors.Is(err, atrest.ErrUnreadable) {
		t.Errorf("of another owner: %v", err)
	}
	if _, err := old.OpenSecret("totp 7", both.SealSecret("totp 7", "x")); err == nil {
		t.Error("opened without its key")
	}
}
