package local_test

import (
	"fmt"
	"io"
	"path"
	"strings"
	"testing"

	"github.com/sealmq/sealmq/engine"
	"github.com/sealmq/sealmq/engine/local"
	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/internal/testing/faultfs"
)

// TestCopyUnderLoad: a copy that is made while messages are published and settled, and segments
// are used again, has everything that was confirmed before it began, and nothing that was acked.
func TestCopyUnderLoad(t *testing.T) {
	disk := faultfs.New()
	cfg := local.Config{Dir: "/store", FS: disk, SegmentBytes: 64 << 10}
	e := mustOpen(t, cfg)
	declare(t, e, "kept", nil)
	declare(t, e, "busy", nil)
	s := e.NewSession(engine.SessionConfig{})
	s.Consume("busy", engine.ConsumeOptions{Prefetch: 100}, func(error) {})
	body := strings.Repeat("b", 2000)
	confirmed, acked := 0, 0
	load := func(n int) {
		for range n {
			batch := []engine.Publish{message(fmt.Sprintf("id-%d", confirmed), fmt.Sprint(confirmed), "kept")}
			for k := range 10 {
				batch = append(batch, message(fmt.Sprintf("busy-%d-%d", confirmed, k), body, "busy"))
			}
			for _, r := range publish(t, e, batch...) {
				if r.Outcome != engine.Stored {
					t.Errorf("%+v", r)
				}
			}
			confirmed++
			ds, _ := s.Take(nil, 10, 1<<20)
			var acks []engine.Settlement
			for _, d := range ds {
				acks = append(acks, engine.Settlement{Tag: d.Tag, Verdict: engine.Ack})
			}
			done := make(chan error, 1)
			s.Settle(acks, func(err error) { done <- err })
			if err := <-done; err != nil {
				t.Error(err)
			}
			acked += len(ds)
		}
	}
	for round := range 3 {
		load(30)
		least, gone, dir := confirmed, acked, fmt.Sprintf("/copy-%d", round)
		err := e.Copy(t.Context(), func(name string, size int64, content io.Reader) error {
			load(3)
			b, err := io.ReadAll(content)
			if err != nil || int64(len(b)) != size {
				return fmt.Errorf("%s: %d of %d bytes: %w", name, len(b), size, err)
			}
			file := path.Join(dir, name)
			if err := durable.MkdirAll(disk, path.Dir(file), 0o700); err != nil {
				return err
			}
			return durable.WriteFile(disk, file, b, 0o600)
		})
		if err != nil || t.Failed() {
			t.Fatal(err)
		}
		copied := cfg
		copied.Dir = dir
		c := mustOpen(t, copied)
		if r := c.Report(); len(r.Damage)+len(r.Dropped) > 0 {
			t.Fatalf("damaged: %v, dropped: %v", r.Damage, r.Dropped)
		}
		kept, _ := c.Queue("kept")
		busy, err := c.Queue("busy")
		if err != nil || kept.Ready < least || 10*kept.Ready-busy.Ready < gone {
			t.Fatalf("%d kept, %d busy, %v; %d were confirmed and %d acked before", kept.Ready, busy.Ready, err, least, gone)
		}
		s := c.NewSession(engine.SessionConfig{})
		s.Consume("kept", engine.ConsumeOptions{Prefetch: 1000}, func(error) {})
		for next := 0; next < kept.Ready; {
			ds, err := s.Take(nil, 100, 1<<20)
			if err != nil || len(ds) == 0 {
				t.Fatalf("at %d: %d %v", next, len(ds), err)
			}
			for _, d := range ds {
				if string(d.Body) != fmt.Sprint(next) {
					t.Fatalf("message %d is %q", next, d.Body)
				}
				next++
			}
		}
	}
}
