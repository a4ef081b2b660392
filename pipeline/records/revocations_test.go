package records_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
)

// TestRevocationsOfMainServers: each is stored once, in order, and apart from those of another
// authority, also while several store them.
func TestRevocationsOfMainServers(t *testing.T) {
	onBoth(t, func(t *testing.T, e *env) {
		var want []string
		for i := range 600 {
			want = append(want, fmt.Sprintf(`{"client_id":"acme-%d"}`, i))
		}
		var all sync.WaitGroup
		for range 3 {
			all.Go(func() {
				if err := e.s.AddRevocations(ctx(t), "sha256:a", want); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		more := append(slices.Clone(want), strings.ToUpper(want[0]))
		for range 2 {
			if err := e.s.AddRevocations(ctx(t), "sha256:a", more); err != nil {
				t.Fatal(err)
			}
		}
		got, err := e.s.Revocations(ctx(t), "sha256:a")
		n, errCount := e.s.CountRevocations(ctx(t), "sha256:a")
		slices.Sort(got)
		slices.Sort(more)
		if err != nil || errCount != nil || n != len(more) || !slices.Equal(got, more) {
			t.Errorf("%d are counted, %d listed, want %d: %v, %v", n, len(got), len(more), err, errCount)
		}
		if got, err := e.s.Revocations(ctx(t), "sha256:b"); err != nil || len(got) != 0 {
			t.Errorf("of another authority: %v, %v", got, err)
		}
		if e.s.Shared() != (e.name != "") {
			t.Errorf("shared: %v", e.s.Shared())
		}
	})
}
