package main

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
	"github.com/sealmq/sealmq/engine/local"
	"github.com/sealmq/sealmq/internal/alert"
	"github.com/sealmq/sealmq/internal/testing/faultfs"
	"github.com/sealmq/sealmq/pipeline/records"
	"github.com/sealmq/sealmq/pipeline/records/atrest"
)

// opened is a part of a node whose start the test has done.
func (n *node) opened(t *testing.T, name string) part {
	t.Helper()
	parts := n.parts()
	i := slices.IndexFunc(parts, func(p part) bool { return p.name == name })
	if i < 0 {
		t.Fatalf("there is no part %q", name)
	}
	parts[i].start = func() error { return nil }
	return parts[i]
}

// harmed runs a part. Harm comes to it while it runs, or when only those that use it are left to be
// stopped. It returns the errors of the node.
func harmed(t *testing.T, p part, stopping bool, harm func() error) []string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	run, ended := p.run, make(chan struct{})
	p.run = func(ctx context.Context) error { defer close(ended); return run(ctx) }
	user := part{name: "user", start: func() error { return nil }}
	if stopping {
		user.run = func(context.Context) error { cancel(); return nil }
		user.stop = func(context.Context) error { <-ended; return harm() }
	} else {
		user.run = func(context.Context) error { return harm() }
	}
	err := runParts(ctx, []part{p, user})
	if err == nil {
		return nil
	}
	var list []string
	for _, e := range flatten(err) {
		list = append(list, e.Error())
	}
	return list
}

// TestStoreThatFailsLate: the node ends with the failure of its store, once, also if it fails while
// the node stops.
func TestStoreThatFailsLate(t *testing.T) {
	for name, tc := range map[string]struct{ stopping, inClose bool }{
		"while it runs": {}, "while its users stop": {stopping: true}, "with its last sync": {stopping: true, inClose: true},
	} {
		t.Run(name, func(t *testing.T) {
			fs := faultfs.New()
			e, err := local.Open(local.Config{Dir: "store", FS: fs, SegmentBytes: 1 << 20})
			if err != nil {
				t.Fatal(err)
			}
			declare := func(queue string) {
				done := make(chan struct{})
				e.DeclareQueue(queue, sealmq.QueueOptions{}.Normalize(), 0, func(engine.QueueInfo, bool, error) { close(done) })
				<-done
			}
			declare("first")
			n := &node{roles: []string{"broker"}, engine: e}
			got := harmed(t, n.opened(t, "store"), tc.stopping, func() error {
				fs.Hook(func(op faultfs.Op) *faultfs.Fault {
					if op.Kind == faultfs.Sync && strings.HasSuffix(op.Path, ".seg") {
						return &faultfs.Fault{Err: syscall.EIO}
					}
					return nil
				})
				if !tc.inClose {
					declare("second")
				}
				return nil
			})
			if len(got) != 1 || !strings.Contains(got[0], syscall.EIO.Error()) {
				t.Errorf("errors %q", got)
			}
		})
	}
}

// TestRecordsThatFailLate is the same for the database.
func TestRecordsThatFailLate(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a database that has failed keeps its file open until the process ends")
	}
	for name, stopping := range map[string]bool{"while it runs": false, "while its users stop": true} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "records.db")
			key, err := atrest.ParseKey([]byte(strings.Repeat("1", 63) + "0"))
			if err != nil {
				t.Fatal(err)
			}
			ring, err := atrest.NewRing(1, map[uint16]atrest.Key{1: key})
			if err != nil {
				t.Fatal(err)
			}
			store, err := records.Open(t.Context(), records.Config{URL: "sqlite:" + file, Keys: ring, Numbers: atrest.NewHasher(ring, nil)})
			if err != nil {
				t.Fatal(err)
			}
			n := &node{roles: []string{"main"}, pipeline: pipelineNode{store: store}}
			got := harmed(t, n.opened(t, "records"), stopping, func() error {
				if err := corrupt(file); err != nil {
					return err
				}
				if err := store.PutNote(t.Context(), "kind", "id", "text"); store.Failure() == nil {
					return fmt.Errorf("the harm was not noticed: %w", err)
				}
				return nil
			})
			if len(got) != 1 || !strings.Contains(got[0], "the database has failed") {
				t.Errorf("errors %q", got)
			}
		})
	}
}

// corrupt makes a database one that nobody can write to.
func corrupt(file string) error {
	db, err := sql.Open("sqlite", "file:"+file)
	if err != nil {
		return err
	}
	defer db.Close()
	_, err = db.Exec("PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = 'nothing' WHERE type = 'table'; PRAGMA schema_version = 4711")
	return err
}

// checkedStore is a store as metrics show it. To look at it takes a while.
type checkedStore struct {
	mu     sync.Mutex
	closed bool
}

func (s *checkedStore) Describe(chan<- *prometheus.Desc) {}

func (s *checkedStore) Collect(out chan<- prometheus.Metric) {
	time.Sleep(time.Second)
	s.mu.Lock()
	defer s.mu.Unlock()
	value := 0.0
	if s.closed {
		value = 2
	}
	out <- prometheus.MustNewConstMetric(prometheus.NewDesc("sealmq_health_check", "", []string{"component", "check"}, nil), prometheus.GaugeValue, value, "broker", "store")
}

// TestCleanStopAlertsNobody: the last look at the store comes before it is closed.
func TestCleanStopAlertsNobody(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := &checkedStore{}
		registry := prometheus.NewRegistry()
		registry.MustRegister(s)
		told := make(chan alert.Message, 1)
		alerts, err := alert.New(alert.Config{Node: "n", File: filepath.Join(dir, "alerts.json"), Metrics: registry, Repeat: time.Hour,
			Channels: []alert.Channel{{Name: "c", Send: func(_ context.Context, m alert.Message) error { told <- m; return nil }}}})
		if err != nil {
			t.Fatal(err)
		}
		n := &node{alerts: alerts}
		store := part{name: "store", start: func() error { return nil }, stop: func(context.Context) error {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.closed = true
			return nil
		}}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- runParts(ctx, []part{store, n.opened(t, "alerts")}) }()
		synctest.Wait()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		select {
		case m := <-told:
			t.Errorf("%+v", m)
		default:
		}
	})
}
