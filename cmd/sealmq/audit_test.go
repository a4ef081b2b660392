package main

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/sealmq/sealmq"
)

// TestDenialsDoNotFillTheLog: a client decides how often it is denied, and must not
// decide how long the log is. What administrators do is always in it.
func TestDenialsDoNotFillTheLog(t *testing.T) {
	var log bytes.Buffer
	n := &node{log: slog.New(slog.NewTextHandler(&log, nil))}
	const denials = 100_000
	for range denials {
		n.audit("eve", "purge", "results", sealmq.ErrDenied)
	}
	lines := strings.Count(log.String(), "denied or refused")
	// They may have taken more than one second.
	if lines < maxDeniedLines || lines > 10*maxDeniedLines {
		t.Errorf("%d lines for %d denials", lines, denials)
	}
	n.audit("admin", "purge", "results", nil)
	if !strings.Contains(log.String(), "client=admin") {
		t.Error("a command of an administrator is not in the log")
	}
}
