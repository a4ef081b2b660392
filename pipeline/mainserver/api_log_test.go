package mainserver_test

import (
	"strings"
	"testing"
)

// TestLogLevel: administrators change it, and that is on record.
func TestLogLevel(t *testing.T) {
	s := newServer(t, nil)
	for _, c := range []struct {
		set, level string
		configured bool
	}{{"", "info", true}, {"debug", "debug", false}, {"default", "info", true}} {
		if c.set != "" {
			if a := s.want(200, "PUT", "/api/v1/log-level", `{"level":"`+c.set+`"}`); a.str("level") != c.level {
				t.Errorf("set to %s: %s", c.set, a.body)
			}
		}
		if a := s.want(200, "GET", "/api/v1/log-level", ""); a.str("level") != c.level || a.m["configured"] != c.configured {
			t.Errorf("after %q: %s", c.set, a.body)
		}
	}
	if a := s.want(200, "GET", "/api/v1/audit?event=log_level_changed", ""); len(a.items()) != 2 || !strings.Contains(a.body, `"to":"debug"`) {
		t.Error(a.body)
	}
}
