package local_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealmq/sealmq/engine"
	"github.com/sealmq/sealmq/engine/local"
	"github.com/sealmq/sealmq/internal/testing/faultfs"
)

// exposed are the figures as a scrape shows them.
func exposed(tb testing.TB, e *local.Engine) map[string]float64 {
	tb.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(local.NewCollector(e))
	families, err := registry.Gather()
	if err != nil {
		tb.Fatal(err)
	}
	all := map[string]float64{}
	for _, f := range families {
		m := f.GetMetric()[0]
		all[f.GetName()] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
	}
	return all
}

// figure is one of them.
func (r *rig) figure(name string) float64 { return exposed(r.tb, r.Engine)["sealmq_"+name] }

// TestSegmentMetrics: the life of segment files can be followed.
func TestSegmentMetrics(t *testing.T) {
	r := newRig(t, nil)
	declare(t, r.Engine, "q", nil)
	s := r.consumer("q")
	n := 0
	r.eventually("a segment is used again", func() bool {
		for range 20 {
			n++
			r.put(fmt.Sprintf("id-%d", n), string(bytes.Repeat([]byte("x"), 1000)), "q")
		}
		if err := r.settle(s, engine.Ack, r.take(s, 1000)...); err != nil {
			t.Fatal(err)
		}
		m := exposed(t, r.Engine)
		return m["sealmq_journal_recycled_segments_total"] > 0 && m["sealmq_journal_free_segments"] > 0
	})
	r.eventually("one that is too many is removed", func() bool {
		for range 200 {
			n++
			r.put(fmt.Sprintf("id-%d", n), string(bytes.Repeat([]byte("x"), 1000)), "q")
		}
		for list := r.take(s, 1000); len(list) > 0; list = r.take(s, 1000) {
			if err := r.settle(s, engine.Ack, list...); err != nil {
				t.Fatal(err)
			}
		}
		return r.figure("journal_removed_segments_total") > 0
	})
	m := exposed(t, r.Engine)
	if got := m["sealmq_journal_created_segments_total"]; got < 2 {
		t.Errorf("%v segments were made", got)
	}
	if m["sealmq_journal_batches_total"] == 0 {
		t.Error("no batch is counted")
	}
}

// TestDroppedTailIsCounted: what a power cut tore, and what was never promised, is told.
func TestDroppedTailIsCounted(t *testing.T) {
	for seed := range uint64(100) {
		r := newRig(t, nil)
		declare(t, r.Engine, "q", nil)
		syncing := make(chan struct{}, 100)
		r.fs.Hook(func(op faultfs.Op) *faultfs.Fault {
			if op.Kind != faultfs.Sync {
				return nil
			}
			syncing <- struct{}{}
			return &faultfs.Fault{Hang: make(chan struct{})}
		})
		r.Publish([]engine.Publish{message("id", string(bytes.Repeat([]byte("x"), 3000)), "q")}, func([]engine.PublishResult) {})
		<-syncing
		r.fs = r.fs.Crash(faultfs.KeepRandom, seed)
		_ = r.Engine.Close()
		r.cfg.FS = r.fs
		r.open()
		want := len(r.Report().Dropped)
		if got := r.figure("journal_dropped_tails_total"); got != float64(want) {
			t.Fatalf("%v torn places, the report has %d", got, want)
		}
		if want > 0 {
			return
		}
	}
	t.Error("nothing was torn")
}
