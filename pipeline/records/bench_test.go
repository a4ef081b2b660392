package records_test

import (
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealmq/sealmq/pipeline"
	"github.com/sealmq/sealmq/pipeline/records"
)

// BenchmarkDeliver stores messages as delivered, each once, synced: what a worker's deliveries
// cost if nothing was registered before. One operation is one message.
//
//	go test ./pipeline/records -run '^$' -bench Deliver -benchtime 100000x
func BenchmarkDeliver(b *testing.B) {
	for _, db := range []string{"sqlite", "mariadb"} {
		for _, load := range []struct{ callers, batch int }{{1, 1}, {16, 50}, {4, 500}, {256, 1}} {
			b.Run(fmt.Sprintf("%s/callers=%d/batch=%d", db, load.callers, load.batch), func(b *testing.B) {
				e := benchEnv(b, db)
				var next atomic.Int64
				var wg sync.WaitGroup
				b.ResetTimer()
				for range load.callers {
					wg.Go(func() {
						for {
							first := next.Add(int64(load.batch)) - int64(load.batch)
							n := min(int64(load.batch), int64(b.N)-first)
							if n <= 0 {
								return
							}
							r, err := e.s.Deliver(b.Context(), deliveries(benchMessages(int(first), int(n))))
							if err != nil || r[0].Status != pipeline.StatusDelivered {
								b.Errorf("%+v, %v", r, err)
								return
							}
						}
					})
				}
				wg.Wait()
				b.StopTimer()
				c := e.s.Counters()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "rows/s")
				b.ReportMetric(float64(c.Entries)/float64(c.Groups), "rows/commit")
			})
		}
	}
}

// BenchmarkRegisterThenDeliver is the same with a registration before each delivery.
func BenchmarkRegisterThenDeliver(b *testing.B) {
	for _, db := range []string{"sqlite", "mariadb"} {
		b.Run(db, func(b *testing.B) {
			e := benchEnv(b, db)
			const batch = 100
			var next atomic.Int64
			var wg sync.WaitGroup
			b.ResetTimer()
			for range 8 {
				wg.Go(func() {
					for {
						first := next.Add(batch) - batch
						n := min(batch, int64(b.N)-first)
						if n <= 0 {
							return
						}
						list := benchMessages(int(first), int(n))
						if _, err := e.s.Register(b.Context(), list); err != nil {
							b.Error(err)
							return
						}
						if _, err := e.s.Deliver(b.Context(), deliveries(list)); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}

func benchEnv(b *testing.B, db string) *env {
	e := &env{t: b, keys: ring(b, 1, 1), hash: hasher(b)}
	if db == "sqlite" {
		e.url = "sqlite:" + filepath.Join(b.TempDir(), "records.db")
	} else {
		var err error
		if e.url, e.name, err = mariaDB(b).Database(); err != nil {
			b.Fatal(err)
		}
	}
	e.s = e.open(func(c *records.Config) { c.Clock = nil })
	return e
}

// benchMessages are messages of twenty clients with ids as the proxy makes them.
func benchMessages(first, n int) (list []records.Message) {
	now := time.Now()
	for i := range n {
		m := message(first + i)
		m.ID, m.Client, m.QueuedAt = pipeline.NewMessageID(now), fmt.Sprintf("client-%d", (first+i)%20), now
		m.Body = "Your code is 123456. It is valid for ten minutes. Do not give it to anybody, whatever they say; we never ask for it by telephone."
		list = append(list, m)
	}
	return list
}
