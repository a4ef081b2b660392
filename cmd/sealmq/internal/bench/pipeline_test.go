package bench

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"
)

const (
	idA = "01a228df-b8ca-7769-9d3e-bf7e2423e995"
	idB = "01a228df-b8ca-7769-9d3e-bf7e2423e996"
	idC = "01a228df-b8ca-7769-9d3e-bf7e2423e997"
)

func TestAnswersOfTheProxy(t *testing.T) {
	entry := func(id, status string) string {
		return fmt.Sprintf(`{"message_id":%q,"queued_at":"2026-11-29T20:00:00Z","status":%q}`, id, status)
	}
	for _, tt := range []struct {
		name, answer               string
		batch                      int
		accepted, refused, unknown int
		bad                        bool
	}{
		{name: "one", batch: 1, answer: `{"message_id":"` + idA + `","status":"queued","client_id":"admin"}`, accepted: 1},
		{name: "all", batch: 2, answer: `{"accepted":2,"results":[` + entry(idA, "queued") + "," + entry(idB, "queued") + `]}`, accepted: 2},
		{name: "some", batch: 3, answer: `{"accepted":1,"results":[` + entry(idA, "unknown") + "," + entry(idB, "queued") + `,{"status":"invalid","detail":"no"}]}`,
			accepted: 1, refused: 2, unknown: 1},
		{name: "no id", batch: 1, answer: `{"status":"queued"}`, bad: true},
		{name: "no UUID", batch: 1, answer: `{"message_id":"1","status":"queued"}`, bad: true},
		{name: "no status", batch: 1, answer: `{"message_id":"` + idA + `"}`, bad: true},
		{name: "too many", batch: 1, answer: entry(idA, "queued") + entry(idB, "queued"), bad: true},
	} {
		s := &submitter{run: &pipelineRun{PipelineOptions: PipelineOptions{PipelineLoad: PipelineLoad{Batch: tt.batch}}}, answer: []byte(tt.answer)}
		err := s.take(time.Now())
		if (err != nil) != tt.bad {
			t.Errorf("%s: error %v", tt.name, err)
		} else if err == nil && (len(s.accepted) != tt.accepted || s.refused != tt.refused || len(s.unknown) != tt.unknown) {
			t.Errorf("%s: %d accepted, %d refused, %d unknown", tt.name, len(s.accepted), s.refused, len(s.unknown))
		}
	}
}

// TestRowsAreCompared gives the judge rows that break the promises.
func TestRowsAreCompared(t *testing.T) {
	for _, tt := range []struct {
		name, rows                  string // the last letters of ids; a capital one is not delivered
		failed                      int
		delivered, lost, duplicates int
	}{
		{name: "well", rows: "ab", delivered: 2},
		{name: "lost", rows: "a", delivered: 1, lost: 1},
		{name: "queued only", rows: "aB", delivered: 1, lost: 1},
		{name: "twice", rows: "aab", delivered: 2, duplicates: 1},
		{name: "nobody's", rows: "abx", delivered: 2, duplicates: 1},
		{name: "of a request that failed", rows: "abx", failed: 1, delivered: 2},
		{name: "unknown", rows: "abc", delivered: 2},
	} {
		ids := map[string]string{"a": idA, "b": idB, "c": idC, "x": "01a228df-b8ca-7769-9d3e-bf7e2423e999"}
		r := &pipelineRun{PipelineOptions: PipelineOptions{Rows: func(_ context.Context, _ time.Time, use func(Row)) error {
			for _, c := range tt.rows {
				use(Row{ID: ids[strings.ToLower(string(c))], Delivered: c >= 'a', DeliveredAt: time.Now()})
			}
			return nil
		}}, epoch: time.Now()}
		s := &submitter{run: r, latency: newLatency(), failed: tt.failed}
		for _, id := range []string{idA, idB} {
			parsed, _ := parseMessageID([]byte(id))
			s.accepted = append(s.accepted, accepted{parsed, r.epoch})
		}
		parsed, _ := parseMessageID([]byte(idC))
		s.unknown = append(s.unknown, parsed)
		r.submitters = append(r.submitters, s)
		res, err := r.judge(t.Context(), 1)
		if err != nil || res.Delivered != tt.delivered || res.Lost != tt.lost || res.Duplicates != tt.duplicates {
			t.Errorf("%s: %+v, %v", tt.name, res, err)
		}
	}
}
