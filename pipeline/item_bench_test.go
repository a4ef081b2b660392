package pipeline_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq/pipeline"
)

// BenchmarkParseItem parses an item of the size that a sealed text has.
func BenchmarkParseItem(b *testing.B) {
	it := pipeline.Item{MessageID: "019ad0f2-7c1e-7a4b-9c3d-1234567890ab", ClientID: "acme-01", Domain: pipeline.DefaultDomain, QueuedAt: time.Now().UTC(),
		Enc: pipeline.EncHPKE, Sealed: json.RawMessage(`{"epoch":{"enc":"` + strings.Repeat("x", 1500) + `"},"text":"` + strings.Repeat("y", 600) + `"}`), Digest: make([]byte, 16)}
	line, err := it.AppendJSON(nil)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(line)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := pipeline.ParseItem(line); err != nil {
			b.Fatal(err)
		}
	}
}
