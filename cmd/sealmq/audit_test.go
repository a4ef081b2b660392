package main

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealmq/sealmq"
)

// TestDenialsDoNotFillTheLog: a client decides how often it is denied, and must not
// decide how long the log is. What administrators do is always in it.
func TestDenialsDoNotFillTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		n := &node{log: slog.New(slog.NewTextHandler(&log, nil))}
		const denials = 10_000
		for second := range 3 {
			for range denials {
				n.audit("eve", "purge", "results", sealmq.ErrDenied)
			}
			if lines := strings.Count(log.String(), "denied or refused"); lines != (second+1)*maxDeniedLines {
				t.Errorf("%d lines after %d seconds with %d denials each", lines, second+1, denials)
			}
			time.Sleep(time.Second)
		}
		n.audit("admin", "purge", "results", nil)
		if !strings.Contains(log.String(), "client=admin") {
			t.Error("a command of an administrator is not in the log")
		}
	})
}
