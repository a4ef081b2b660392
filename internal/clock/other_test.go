package clock_test

import (
	"testing"
	"time"

	"github.com/sealmq/sealmq/internal/clock"
)

func TestOther(t *testing.T) {
	asked := time.Date(2030, 5, 1, 12, 0, 0, 300e6, time.UTC)
	for name, tc := range map[string]struct {
		at          time.Duration // after the whole second
		took, ahead time.Duration
	}{
		"the same":            {0, 10 * time.Millisecond, 0},
		"a slow answer":       {8 * time.Second, 10 * time.Second, 0},
		"ahead":               {3 * time.Minute, 200 * time.Millisecond, 3*time.Minute - 500*time.Millisecond},
		"ahead, slowly":       {3 * time.Minute, 10 * time.Second, 3*time.Minute - 10300*time.Millisecond},
		"behind":              {-3 * time.Minute, time.Second, -3*time.Minute + 700*time.Millisecond},
		"behind by a second":  {-time.Second, time.Second, -300 * time.Millisecond},
		"within its rounding": {0, 0, 0},
	} {
		var o clock.Other
		o.Answered(asked.Truncate(time.Second).Add(tc.at), asked, asked.Add(tc.took))
		if o.Ahead() != tc.ahead {
			t.Errorf("%s: ahead by %v, want %v", name, o.Ahead(), tc.ahead)
		}
		if want := tc.ahead > time.Minute || tc.ahead < -time.Minute; clock.Differ(o.Ahead()) != want {
			t.Errorf("%s: differs: %v", name, !want)
		}
	}
}
