package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/receive"
	"github.com/sealmq/sealmq/seal"
)

// TestGapsAreReported: a gap that stays is reported once, one that closes in time is not, and
// neither is one of an earlier run.
func TestGapsAreReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ledger, epoch := receive.NewLedger(receive.LedgerConfig{}), &seal.Epoch{Created: time.Now(), MaxMessages: 100}
		arrive := func(sender string, numbers ...uint64) {
			t.Helper()
			for _, n := range numbers {
				m := &seal.Message{ID: fmt.Sprint(sender, n), Sender: seal.Sender{Identity: sealmq.Identity{ID: sender}}, Epoch: epoch, Sequence: n, SealedAt: time.Now()}
				if err := ledger.Commit(receive.Output{}, m); err != nil {
					t.Fatal(err)
				}
			}
		}
		arrive("alice", 1, 3)
		w := newGapWatch(ledger)
		var mu sync.Mutex
		var notes []string
		want := func(missing uint64, now ...string) {
			t.Helper()
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if got := w.missing(); got != missing {
				t.Errorf("%d are missing, want %d", got, missing)
			}
			if len(notes) != len(now) {
				t.Fatalf("the notes are %q, want %q", notes, now)
			}
			for i := range now {
				if !strings.HasPrefix(notes[i], now[i]+" missing so far") {
					t.Errorf("the note is %q, want %q", notes[i], now[i])
				}
			}
			notes = nil
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go w.run(ctx, func(format string, args ...any) {
			mu.Lock()
			defer mu.Unlock()
			notes = append(notes, fmt.Sprintf(format, args...))
		})
		arrive("alice", 6)
		want(2)
		time.Sleep(gapTime + time.Second) // seen for the first time
		arrive("alice", 4)
		arrive("bob", 2)
		want(2)
		time.Sleep(gapTime) // bob's is seen for the first time
		want(2, "1 message of alice")
		arrive("carol", 4)
		time.Sleep(2 * gapTime)
		want(5, "1 message of bob")
		time.Sleep(4 * gapTime)
		want(5, "3 messages of carol")
		time.Sleep(100 * gapTime)
		want(5)
		arrive("carol", 2)
		arrive("alice", 2)
		time.Sleep(100 * gapTime)
		want(4)
	})
}
