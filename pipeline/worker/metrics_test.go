package worker_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealmq/sealmq/pipeline/worker"
)

// TestQueueDepth: the queue is asked at a scrape, once a second at most, and has no series
// while it does not answer.
func TestQueueDepth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue("m1", "m2", "m3")
		w, err := worker.New(worker.Config{Name: "w", Queue: q, Main: &server{}})
		if err != nil {
			t.Fatal(err)
		}
		reg := prometheus.NewRegistry()
		reg.MustRegister(w.Metrics())
		scrape := func() (lines []string) {
			families, err := reg.Gather()
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range families {
				if f.GetName() != "worker_queue_depth" && !strings.HasPrefix(f.GetName(), "worker_oldest") {
					continue
				}
				for _, m := range f.Metric {
					label := ""
					for _, l := range m.Label {
						label = l.GetValue()
					}
					lines = append(lines, fmt.Sprint(f.GetName(), " ", label, " ", m.Gauge.GetValue()))
				}
			}
			return lines
		}
		want := []string{"worker_oldest_message_age_seconds  60", "worker_queue_depth dead 1", "worker_queue_depth processing 0",
			"worker_queue_depth ready 3", "worker_queue_depth retry 2"}
		for range 3 {
			if diff := cmp.Diff(want, scrape()); diff != "" {
				t.Error(diff)
			}
		}
		if q.counted != 1 {
			t.Errorf("three scrapes at a time asked the queue %d times", q.counted)
		}
		q.setAway(errors.New("away"))
		time.Sleep(time.Second)
		if lines := scrape(); len(lines) > 0 {
			t.Errorf("series of a queue that is away: %v", lines)
		}
	})
}
