package client_test

import (
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/internal/testing/fakebroker"
)

// asleep is a clock whose machine slept: the time of day went on, and the clock that
// measures did not.
type asleep struct{ by atomic.Int64 }

func (a *asleep) Now() time.Time {
	by := a.by.Load()
	now := time.Now().Add(time.Duration(by))
	(*struct {
		wall uint64
		ext  int64 // the monotonic reading
		loc  *time.Location
	})(unsafe.Pointer(&now)).ext -= by
	return now
}

// It runs outside of a bubble, whose times have no monotonic reading.
func TestAMachineThatSleptSendsNothingOldAgain(t *testing.T) {
	var now asleep
	f := fakebroker.New(t)
	c, p := f.Open(client.Config{Now: now.Now, BackoffMin: time.Millisecond})
	r := newResults()
	r.publish(t, c, "a")
	p.Expect(lines("a")...)
	before := now.Now()
	now.by.Store(int64(time.Hour))
	if after := now.Now(); after.Sub(before) > 30*time.Minute || after.Round(0).Sub(before.Round(0)) < time.Hour {
		t.Fatal("this clock does not sleep")
	}
	p.Conn.Close()
	p = f.Accept()
	r.publish(t, c, "b")
	p.Expect(lines("b")...)
	p.Send("ACK b\n")
	if err := c.Flush(t.Context()); err != nil {
		t.Error(err)
	}
	r.expect(t, "a: "+client.ErrResendTooOld.Error(), "b")
}
