package text_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/audit"
	"github.com/sealmq/sealmq/broker"
	"github.com/sealmq/sealmq/engine/enginetest"
)

// records are what an audit was told.
type records []string

func (r *records) Write(a audit.Record) {
	*r = append(*r, fmt.Sprintf("%s: %s (%s) %s", a.Identity.ID, a.Command, a.Object, sealmq.CodeOf(a.Outcome)))
}

// TestCommandsAreAuditedWithTheirOutcome: a command of administrators is on record once, with what
// it was about and what became of it, and not before it is done.
func TestCommandsAreAuditedWithTheirOutcome(t *testing.T) {
	for _, tc := range []struct {
		line string
		want []string
	}{
		{"close_connection 1", []string{"admin: close_connection (1 alice) "}},
		{"close_connection 7", []string{"admin: close_connection (7) bad_argument"}},
		{"close_connection one", nil},
		{"close_connection 1 ban 10m", []string{"admin: close_connection ban (1 alice) "}},
		{"close_connection 7 ban 10m", []string{"admin: close_connection ban (7) bad_argument"}},
		{"close_connection 1 ban soon", nil},
		{"reset_stats", []string{"admin: reset_stats () "}},
	} {
		var got records
		engine := enginetest.NewModel(enginetest.Config{})
		b, err := broker.New(broker.Config{Engine: engine, Audit: &got})
		if err != nil {
			t.Fatal(err)
		}
		n := &node{broker: b, engine: engine, peers: &table{}}
		n.admin(t).ask(tc.line)
		if !slices.Equal(got, tc.want) {
			t.Errorf("%s: on record %q, want %q", tc.line, got, tc.want)
		}
		got = nil
		n.client(t, "eve").ask(tc.line)
		if len(got) != 1 {
			t.Errorf("%s of a client: on record %q, want the refusal", tc.line, got)
		}
		b.Close()
		engine.Close()
	}
}
