package broker_test

import (
	"fmt"
	"maps"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/sealmq/sealmq/broker"
)

// TestFrozenIsAMapThatNeverChanges compares it with maps, and looks at every version
// again after all others were made from it.
func TestFrozenIsAMapThatNeverChanges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type version struct {
			got  broker.Frozen
			want map[string]int
		}
		start := make(map[string]int)
		for range rapid.IntRange(0, 200).Draw(t, "size") {
			start[fmt.Sprint(rapid.IntRange(0, 300).Draw(t, "key"))] = 1
		}
		versions := []version{{broker.Frozen{}, map[string]int{}}, {broker.Freeze(start), start}}
		for i := range rapid.IntRange(0, 60).Draw(t, "changes") {
			from := versions[rapid.IntRange(0, len(versions)-1).Draw(t, "from")]
			to := version{from.got, maps.Clone(from.want)}
			key := fmt.Sprint(rapid.IntRange(0, 300).Draw(t, "key"))
			if rapid.Bool().Draw(t, "remove") {
				to.got = to.got.Without(key)
				delete(to.want, key)
			} else {
				to.got = to.got.With(key, i)
				to.want[key] = i
			}
			versions = append(versions, to)
		}
		for _, v := range versions {
			if diff := cmp.Diff(v.want, v.got.All()); diff != "" {
				t.Fatalf("(-want +got):\n%s", diff)
			}
			if v.got.Len() != len(v.want) {
				t.Fatalf("length %d, want %d", v.got.Len(), len(v.want))
			}
			for i := range 300 {
				key := fmt.Sprint(i)
				want, there := v.want[key]
				if got, ok := v.got.Get(key); ok != there || got != want {
					t.Fatalf("get %s: %d %v, want %d %v", key, got, ok, want, there)
				}
			}
		}
	})
}

func TestFrozenGrowsLarge(t *testing.T) {
	const n = 20_000
	var f broker.Frozen
	for i := range n {
		f = f.With(fmt.Sprint(i), i)
	}
	for i := range n {
		if got, ok := f.Get(fmt.Sprint(i)); !ok || got != i {
			t.Fatalf("get %d: %d %v", i, got, ok)
		}
	}
	for i := range n {
		f = f.Without(fmt.Sprint(i))
	}
	if f.Len() != 0 || len(f.All()) != 0 {
		t.Errorf("%d left after everything was removed", f.Len())
	}
}

func BenchmarkFrozenWith(b *testing.B) {
	for _, n := range []int{10, 1_000, 100_000, 1_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			m := make(map[string]int, n)
			for i := range n {
				m[fmt.Sprint(i)] = i
			}
			f := broker.Freeze(m)
			b.ResetTimer()
			for i := range b.N {
				f.With(fmt.Sprint("new", i%1000), i)
			}
		})
	}
}
