package local_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/sealmq/sealmq/engine"
	"github.com/sealmq/sealmq/engine/local"
	"github.com/sealmq/sealmq/internal/testing/faultfs"
	"github.com/sealmq/sealmq/journal"
)

// These tests stop the disk at a moment, let everything else that can go on do so, and cut
// the power. What is in memory is then as far ahead of the journal as it can be, and
// nothing that was written meanwhile may have been of use to it.

// isRecord tells a write of records from one that prepares a segment.
func isRecord(op faultfs.Op) bool {
	return op.Kind == faultfs.Write && strings.HasSuffix(op.Path, ".seg") && op.Off > 0
}

// aheadConfig has the smallest segments.
func aheadConfig(fs *faultfs.FS) local.Config {
	return local.Config{Dir: "store", FS: fs, SegmentBytes: journal.MinSegmentBytes}
}

// fill publishes messages of a kilobyte.
func fill(tb testing.TB, e *local.Engine, queue string, n int) {
	tb.Helper()
	for i := range n {
		r := publish(tb, e, message(fmt.Sprintf("%s-%d", queue, i), strings.Repeat("x", 1000), queue))
		if r[0].Outcome != engine.Stored {
			tb.Fatalf("message %d: %+v", i, r[0])
		}
	}
}

// afterCut cuts the power, opens what is left, and returns how many messages wait.
func afterCut(tb testing.TB, fs *faultfs.FS, e *local.Engine, queues ...string) int {
	tb.Helper()
	left := fs.Crash(faultfs.DropUnsynced, 0)
	_ = e.Close() // everything it does fails now
	e = mustOpen(tb, aheadConfig(left))
	ready := 0
	for _, name := range queues {
		q, _ := e.Queue(name)
		ready += q.Ready
	}
	return ready
}

// TestCheckpointIsNotAheadOfTheJournal: a checkpoint may be captured while a message is on
// its way from one queue to another. If it says that the message left its queue, the
// journal says where it went.
func TestCheckpointIsNotAheadOfTheJournal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := faultfs.New()
		e := mustOpen(t, aheadConfig(fs))
		declare(t, e, "from", nil)
		declare(t, e, "to", nil)
		declare(t, e, "other", nil)
		publish(t, e, message("m", "body", "from"))

		// The journal stops where it begins the second segment, then right after it.
		rolling, sealed, held := false, make(chan struct{}), make(chan struct{})
		fs.Hook(func(op faultfs.Op) *faultfs.Fault {
			switch {
			case !isRecord(op):
				return nil
			case op.Off == 4096:
				rolling = true
				return &faultfs.Fault{Hang: sealed}
			case rolling:
				return &faultfs.Fault{Hang: held}
			}
			return nil
		})
		for i := 0; !rolling; i++ {
			e.Publish([]engine.Publish{message(fmt.Sprint(i), strings.Repeat("x", 1000), "other")}, func([]engine.PublishResult) {})
			synctest.Wait()
		}
		moved := false
		e.Move("from", "to", 1, func(int, error) { moved = true })
		synctest.Wait()
		if q, _ := e.Queue("from"); q.Ready != 0 || moved {
			t.Fatalf("the move is not on its way: %d ready", q.Ready)
		}
		close(sealed)
		synctest.Wait() // the checkpoint is as far as it can get
		if n := afterCut(t, fs, e, "from", "to"); n != 1 {
			t.Errorf("after the power cut there are %d messages, want 1", n)
		}
	})
}

// TestSegmentsAreKeptUntilTheirAcksAreSynced: what is acked in memory only comes again
// after a power cut, so its segment must be there, also if the journal is short of
// prepared ones.
func TestSegmentsAreKeptUntilTheirAcksAreSynced(t *testing.T) {
	const total = 150 // about ten segments
	synctest.Test(t, func(t *testing.T) {
		fs := faultfs.New()
		e := mustOpen(t, aheadConfig(fs))
		declare(t, e, "q", nil)
		fill(t, e, "q", total)
		synctest.Wait()
		s := e.NewSession(engine.SessionConfig{})
		s.Consume("q", engine.ConsumeOptions{Prefetch: total}, func(error) {})
		deliveries, err := s.Take(nil, total, 1<<30)
		if err != nil || len(deliveries) != total {
			t.Fatalf("took %d: %v", len(deliveries), err)
		}
		held := make(chan struct{})
		fs.Hook(func(op faultfs.Op) *faultfs.Fault {
			if isRecord(op) {
				return &faultfs.Fault{Hang: held}
			}
			return nil
		})
		var acks []engine.Settlement
		for _, d := range deliveries {
			acks = append(acks, engine.Settlement{Tag: d.Tag, Verdict: engine.Ack})
		}
		s.Settle(acks, func(error) {})
		synctest.Wait() // the reclaimer is as far as it can get
		if n := afterCut(t, fs, e, "q"); n != total {
			t.Errorf("after the power cut there are %d messages, want %d", n, total)
		}
	})
}

// TestWhatIsWrittenIsNotDelivered: a message that is in the file but not synced is not
// seen by anybody, because a power cut may take it back.
func TestWhatIsWrittenIsNotDelivered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := faultfs.New()
		e := mustOpen(t, aheadConfig(fs))
		declare(t, e, "q", nil)
		notified := make(chan struct{}, 10)
		s := e.NewSession(engine.SessionConfig{Notify: func() { notified <- struct{}{} }})
		s.Consume("q", engine.ConsumeOptions{Prefetch: 10}, func(error) {})
		fetcher, fetched := e.NewSession(engine.SessionConfig{}), 0
		synctest.Wait()
		held := make(chan struct{})
		fs.Hook(func(op faultfs.Op) *faultfs.Fault {
			if op.Kind == faultfs.Sync && strings.HasSuffix(op.Path, ".seg") {
				return &faultfs.Fault{Hang: held}
			}
			return nil
		})
		stored := false
		e.Publish([]engine.Publish{message("m", "body", "q")}, func(r []engine.PublishResult) {
			stored = r[0].Outcome == engine.Stored
		})
		synctest.Wait() // it is written
		if list, err := s.Take(nil, 10, 1<<20); len(list) > 0 || err != nil {
			t.Errorf("took %d: %v", len(list), err)
		}
		fetcher.Fetch("q", false, func(engine.Fetched, error) { fetched++ })
		synctest.Wait()
		if fetched > 0 {
			t.Error("a fetch was answered that finds nothing but this message")
		}
		if len(notified) > 0 || stored {
			t.Errorf("consumers were told %d times, the publisher: %v", len(notified), stored)
		}
		close(held)
		synctest.Wait()
		if list, err := s.Take(nil, 10, 1<<20); len(list)+fetcher.Unacked() != 1 || fetched != 1 || len(notified) == 0 || !stored {
			t.Errorf("after the sync: took %d, %d fetches answered: %v", len(list), fetched, err)
		}
	})
}
