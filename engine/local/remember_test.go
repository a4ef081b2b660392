package local_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/sealmq/sealmq/engine"
	"github.com/sealmq/sealmq/engine/local"
	"github.com/sealmq/sealmq/internal/testing/faultfs"
)

// TestIDsOutliveTheirSegments: a message that was acked is recognised when it is published
// again, also when its segment holds something else by now, the checkpoint does not
// know it any more, and the power was cut.
func TestIDsOutliveTheirSegments(t *testing.T) {
	const total, rounds = 60, 3 // about four segments a round
	synctest.Test(t, func(t *testing.T) {
		fs := faultfs.New()
		e := mustOpen(t, aheadConfig(fs))
		for round := range rounds {
			name := fmt.Sprint("q", round)
			declare(t, e, name, nil)
			fill(t, e, name, total)
			ackAll(t, e, name, total)
			synctest.Wait() // segments are released
			left := fs.Crash(faultfs.DropUnsynced, 0)
			_ = e.Close() // everything it does fails now
			fs, e = left, mustOpen(t, aheadConfig(left))
			for published := range round + 1 {
				name := fmt.Sprint("q", published)
				repeated(t, e, name, total)
			}
		}
		segments := 0
		for _, name := range fs.Files() {
			if strings.HasSuffix(name, ".seg") {
				segments++
			}
		}
		if segments > 8 {
			t.Errorf("%d segments are left: none was used again", segments)
		}
	})
}

// TestDigestsOutliveTheirSegments: what a digest stood for is known when only the index
// file of the segment is left.
func TestDigestsOutliveTheirSegments(t *testing.T) {
	r := newRig(t, nil)
	declare(t, r.Engine, "q", nil)
	send := func(digest, body string) engine.Outcome {
		req := message("id", body, "q")
		req.Message.Digest = []byte(digest)
		return publish(t, r.Engine, req)[0].Outcome
	}
	if got := send("digest", "body"); got != engine.Stored {
		t.Fatalf("outcome %d", got)
	}
	for i := range 200 {
		r.put(fmt.Sprintf("other-%d", i), string(bytes.Repeat([]byte("x"), 500)), "q")
	}
	s := r.consumer("q")
	for list := r.take(s, 50); len(list) > 0; list = r.take(s, 50) {
		if err := r.settle(s, engine.Ack, list...); err != nil {
			t.Fatal(err)
		}
	}
	r.eventually("segments are used again", func() bool { return r.figure("journal_free_segments") > 0 })
	s.Close(true)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	r.open()
	for _, tt := range []struct {
		digest, body string
		want         engine.Outcome
	}{{"digest", "other", engine.Repeated}, {"other", "body", engine.Conflict}, {"", "body", engine.Conflict}} {
		if got := send(tt.digest, tt.body); got != tt.want {
			t.Errorf("digest %q: outcome %d, want %d", tt.digest, got, tt.want)
		}
	}
}

// ackAll takes and acks everything that waits.
func ackAll(tb testing.TB, e *local.Engine, queue string, total int) {
	tb.Helper()
	s := e.NewSession(engine.SessionConfig{})
	defer s.Close(true)
	s.Consume(queue, engine.ConsumeOptions{Prefetch: total}, func(error) {})
	deliveries, err := s.Take(nil, total, 1<<30)
	if err != nil || len(deliveries) != total {
		tb.Fatalf("took %d: %v", len(deliveries), err)
	}
	var acks []engine.Settlement
	for _, d := range deliveries {
		acks = append(acks, engine.Settlement{Tag: d.Tag, Verdict: engine.Ack})
	}
	done := make(chan error, 1)
	s.Settle(acks, func(err error) { done <- err })
	if err := <-done; err != nil {
		tb.Fatal(err)
	}
}

// repeated publishes what fill has published again.
func repeated(tb testing.TB, e *local.Engine, queue string, total int) {
	tb.Helper()
	for i := range total {
		id := fmt.Sprintf("%s-%d", queue, i)
		r := publish(tb, e, message(id, strings.Repeat("x", 1000), queue), message(id, "another", queue))
		if r[0].Outcome != engine.Repeated || r[1].Outcome != engine.Conflict {
			tb.Fatalf("message %s again: %+v, with another body: %+v", id, r[0], r[1])
		}
	}
}
