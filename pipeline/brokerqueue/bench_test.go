package brokerqueue_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/broker"
	"github.com/sealmq/sealmq/engine/local"
	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/pipeline"
)

// BenchmarkEnqueue stores full batches of items with the size of a sealed text, on a disk and
// within the process. The time of a real disk is mostly that of its syncs: see -cpuprofile.
func BenchmarkEnqueue(b *testing.B) {
	e, err := local.Open(local.Config{Dir: b.TempDir(), FS: durable.OS()})
	if err != nil {
		b.Fatal(err)
	}
	defer e.Close()
	br, err := broker.New(broker.Config{Engine: e, PipelineQueue: pipeline.QueueName})
	if err != nil {
		b.Fatal(err)
	}
	q := open(b, func(context.Context) (sealmq.Connection, error) {
		return br.Connect(broker.Caller{Identity: sealmq.Identity{ID: "proxy-1", Role: sealmq.RoleProxy}}), nil
	})
	items := make([]pipeline.Item, pipeline.MaxBatch)
	for i := range items {
		items[i] = pipeline.Item{ClientID: "acme-01", Domain: pipeline.DefaultDomain, QueuedAt: time.Now().UTC(), Enc: pipeline.EncHPKE,
			Sealed: json.RawMessage(`{"text":"` + strings.Repeat("x", 3300) + `"}`), Digest: make([]byte, 16)}
	}
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		for i := range items {
			items[i].MessageID = fmt.Sprintf("%d-%d", n, i)
		}
		results, err := q.Enqueue(b.Context(), items)
		if err != nil || results[0].Outcome != pipeline.Stored {
			b.Fatalf("%+v, %v", results[0], err)
		}
	}
}
