package seal_test

import (
	"regexp"
	"testing"

	"github.com/sealmq/sealmq/seal"
)

func TestNewID(t *testing.T) {
	form := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	seen := make(map[string]bool)
	for range 10_000 {
		id := seal.NewID()
		if !form.MatchString(id) || seen[id] {
			t.Fatalf("id %q, seen before: %t", id, seen[id])
		}
		seen[id] = true
	}
}
