package journal_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/journal"
)

func testConfig(dir string) journal.Config {
	return journal.Config{Dir: dir, FS: durable.OS(), SegmentBytes: 64 << 10, StoreID: [16]byte{1, 2, 3}}
}

func mustOpen(t *testing.T, cfg journal.Config) (*journal.Journal, []string, *journal.Report) {
	t.Helper()
	var got []string
	j, report, err := start(cfg, 0, 0, func(r journal.Record) error {
		got = append(got, fmt.Sprintf("%d:%s", r.Kind, r.Payload[:min(20, len(r.Payload))]))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Close() })
	return j, got, report
}

func TestAppendedRecordsComeBackInOrder(t *testing.T) {
	cfg := testConfig(t.TempDir())
	j, got, _ := mustOpen(t, cfg)
	if len(got) != 0 {
		t.Fatalf("a new journal has %d records", len(got))
	}
	var want []string
	var places []journal.Place
	for i := range 1000 {
		body := fmt.Appendf(nil, "%06d %s", i, bytes.Repeat([]byte("x"), i%700))
		var pos journal.Position
		var err error
		for {
			if pos, err = j.Append(false, 17, body, nil); err != journal.ErrNoRoom {
				break
			}
			if err := j.WaitRoom(t.Context(), false, len(body)); err != nil {
				t.Fatal(err)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		places = append(places, journal.Place{Pos: pos, Bytes: journal.RecordBytes(len(body))})
		want = append(want, fmt.Sprintf("17:%s", body[:min(20, len(body))]))
		if i%37 == 0 {
			if err := j.Sync(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := j.Sync(); err != nil {
		t.Fatal(err)
	}
	check := func(j *journal.Journal) {
		t.Helper()
		j.Read(places, func(i int, r journal.Record, err error) {
			if err != nil {
				t.Fatalf("record %d: %v", i, err)
			}
			if s := fmt.Sprintf("17:%s", r.Payload[:min(20, len(r.Payload))]); s != want[i] {
				t.Fatalf("record %d: got %q, want %q", i, s, want[i])
			}
		})
	}
	check(j)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	j2, got, report := mustOpen(t, cfg)
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("after reopening: %d records, want %d", len(got), len(want))
	}
	if len(report.Damage)+len(report.Dropped)+len(report.Repaired) > 0 {
		t.Fatalf("a clean journal is reported as %+v", report)
	}
	check(j2)
}
