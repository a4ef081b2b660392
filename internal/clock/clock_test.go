package clock_test

import (
	"testing"
	"time"

	"github.com/sealmq/sealmq/internal/clock"
)

func TestSystemClock(t *testing.T) {
	ran := make(chan struct{})
	before := clock.System.Now()
	clock.System.AfterFunc(time.Millisecond, func() { close(ran) })
	<-ran
	if after := clock.System.Now(); after.Sub(before) < time.Millisecond {
		t.Errorf("fired after %v", after.Sub(before))
	}
}
