package records_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/sealmq/sealmq/pipeline/records"
)

// TestIssuedByMainServers: a reader that goes on behind the last number that it has seen gets each
// record once, also while several main servers add theirs, of which all have some.
func TestIssuedByMainServers(t *testing.T) {
	onBoth(t, func(t *testing.T, e *env) {
		const writers, each = 3, 12
		entry := func(serial string) records.Issued {
			return records.Issued{Serial: serial, Entry: `{"serial":"` + serial + `"}`}
		}
		common := make([]records.Issued, records.MaxIssued+10)
		for i := range common {
			common[i] = entry(fmt.Sprintf("c%d", i))
		}
		var all sync.WaitGroup
		for w := range writers {
			all.Go(func() {
				if err := e.s.AddIssued(ctx(t), "sha256:a", common); err != nil {
					t.Error(err)
				}
				for i := range each {
					if err := e.s.AddIssued(ctx(t), "sha256:a", []records.Issued{common[i], entry(fmt.Sprintf("w%d-%d", w, i))}); err != nil {
						t.Error(err)
					}
				}
			})
		}
		written := make(chan struct{})
		go func() { all.Wait(); close(written) }()
		seen := make(map[string]bool)
		last := int64(0)
		for done := false; !done; {
			select {
			case <-written:
				done = true
			default:
			}
			for {
				list, err := e.s.IssuedAfter(ctx(t), "sha256:a", last)
				if err != nil {
					t.Fatal(err)
				}
				for _, c := range list {
					if c.Number != last+1 || seen[c.Serial] || c != (records.Issued{Number: c.Number, Serial: c.Serial, Entry: entry(c.Serial).Entry}) {
						t.Fatalf("%+v follows %d", c, last)
					}
					seen[c.Serial], last = true, c.Number
				}
				if len(list) < records.MaxIssued {
					break
				}
			}
		}
		if want := len(common) + writers*each; len(seen) != want {
			t.Errorf("%d were read, want %d", len(seen), want)
		}
		if list, err := e.s.IssuedAfter(ctx(t), "sha256:b", 0); err != nil || len(list) != 0 {
			t.Errorf("of another authority: %v, %v", list, err)
		}
	})
}
