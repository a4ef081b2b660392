package audit_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/audit"
)

// TestDenialsDoNotFillTheLog: a client decides how often it is denied, and must not
// decide how long the log is. What administrators do is always in it.
func TestDenialsDoNotFillTheLog(t *testing.T) {
	var log bytes.Buffer
	l := audit.NewLog(slog.New(slog.NewTextHandler(&log, nil)))
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	const denials = 10_000
	for second := range 3 {
		for range denials {
			l.Write(audit.Record{Time: now, Identity: sealmq.Identity{ID: "eve"}, Command: "purge", Object: "results", Outcome: sealmq.ErrDenied})
		}
		if lines := strings.Count(log.String(), "denied or refused"); lines != (second+1)*audit.MaxDenied {
			t.Errorf("%d lines after %d seconds with %d denials each", lines, second+1, denials)
		}
		l.Write(audit.Record{Time: now, Identity: sealmq.Identity{ID: "admin", Issuer: "sha256:1"}, Command: "purge", Object: "results"})
		if lines := strings.Count(log.String(), "client=admin issuer=sha256:1 command=purge object=results"); lines != second+1 {
			t.Errorf("%d commands of an administrator in the log, want %d", lines, second+1)
		}
		now = now.Add(time.Second)
	}
}
