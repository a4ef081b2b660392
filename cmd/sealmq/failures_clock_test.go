//go:build unix

package main

import (
	"bufio"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sealmq/sealmq/internal/testing/pipelineproc"
	"github.com/sealmq/sealmq/seal"
)

// moveClock changes what roles read as the time, or returns false where that cannot be done.
func (f *failing) moveClock(ofDay, passed time.Duration, roles ...string) bool {
	f.Helper()
	for _, role := range roles {
		err := f.MoveClock(role, ofDay, passed)
		if errors.Is(err, errors.ErrUnsupported) {
			return false
		}
		if err != nil {
			f.Fatal(err)
		}
	}
	return true
}

// TestClockMoves sets the clock of one role ahead or back while all run, and later that of the
// machine. Nothing that was answered with 202 is lost or stored twice. A difference of almost
// five minutes changes nothing, but who follows the main server says so. What was sealed by a clock that was further ahead waits until the
// main server's is as far.
func TestClockMoves(t *testing.T) {
	t.Parallel()
	f := newFailing(t)
	if !f.moveClock(0, 0, pipelineproc.Roles...) {
		t.Skip("the clock of a process cannot be set here; it can on Linux with amd64")
	}
	for _, role := range pipelineproc.Roles {
		for _, by := range []time.Duration{seal.DefaultMaxSkew - 10*time.Second, 10*time.Second - seal.DefaultMaxSkew} {
			t.Run(fmt.Sprint(role, " differs by ", by), func(t *testing.T) {
				f := f.in(t)
				defer f.moveClock(0, 0, role)
				f.moveClock(by, 0, role)
				key, thief := fmt.Sprint("differs-", role, by), fmt.Sprint("thief-", role, by.Seconds())
				f.accept(key)
				f.delivered(key)
				c := f.client(thief)
				f.run("cert", "revoke", thief, "--force")
				f.until("a revoked client is refused", func() bool {
					resp, err := c.Post(f.URL(pipelineproc.Proxy)+"/submit", "application/json", strings.NewReader("{}"))
					if err != nil {
						return false
					}
					resp.Body.Close()
					return resp.StatusCode == http.StatusForbidden
				})
				for observer, says := range map[string]bool{pipelineproc.Worker: role == pipelineproc.Worker || role == pipelineproc.Main, pipelineproc.Proxy: role == pipelineproc.Proxy || role == pipelineproc.Main} {
					f.until(fmt.Sprintf("the %s says that its clock differs: %v", observer, says), func() bool { return (f.health(observer) == "degraded") == says })
				}
			})
		}
	}
	for _, role := range pipelineproc.Roles {
		for _, by := range []time.Duration{2 * time.Hour, -30 * time.Minute} {
			t.Run(fmt.Sprint(role, " by ", by), func(t *testing.T) {
				f := f.in(t)
				key := fmt.Sprint("clock-", role, by)
				defer f.moveClock(0, 0, pipelineproc.Roles...)
				f.moveClock(by, 0, role)
				f.accept(key)
				f.moveClock(max(by, 0), 0, pipelineproc.Roles...) // a clock that is back is set right
				f.delivered(key)
				f.moveClock(by, 0, pipelineproc.Roles...)
				f.accept(key + "-all")
				f.delivered(key + "-all")
				f.moveClock(0, 0, pipelineproc.Roles...)
				f.accept(key + "-after")
				f.delivered(key + "-after")
			})
		}
	}
	// The time until the next attempt is what passes, whatever the clock says meanwhile.
	f.moveClock(2*time.Hour, 0, pipelineproc.Proxy)
	f.accept("clock-retry")
	f.until("it waits for another attempt", func() bool { return f.queue().Retry > 0 })
	f.moveClock(-30*time.Minute, 0, pipelineproc.Broker, pipelineproc.Worker)
	f.moveClock(2*time.Hour, 0, pipelineproc.Main)
	f.delivered("clock-retry")
}

// mainSlow stops the main server's process, which then answers nothing and keeps its
// connections. Calls end after 30 seconds, which the callers believe to have passed.
func (f *failing) mainSlow() {
	pid := f.Process(pipelineproc.Main).PID
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		f.Fatal(err)
	}
	keys := []string{"slow-1", "slow-2", "slow-3"}
	f.accept(keys...)
	f.until("a delivery is under way", func() bool { return f.holds() > 0 })
	waits := f.logged(pipelineproc.Worker, "waiting for the main server")
	if f.moveClock(0, 31*time.Second, pipelineproc.Worker, pipelineproc.Proxy) {
		f.until("the worker logs that it waits", func() bool { return f.logged(pipelineproc.Worker, "waiting for the main server") > waits })
		f.until("the worker says so", func() bool { return f.health(pipelineproc.Worker) == "degraded" })
		f.until("the worker holds no more than what it tries with", func() bool { return f.holds() <= 1 })
		f.until("the proxy says so", func() bool { return f.health(pipelineproc.Proxy) == "degraded" })
		keys = append(keys, "slow-4", "slow-5")
		f.accept(keys[3:]...)
	}
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		f.Fatal(err)
	}
	f.delivered(keys...)
	f.until("the worker is healthy again", func() bool { return f.health(pipelineproc.Worker) == "ok" })
}

// holds is how many messages the worker has in hand.
func (f *failing) holds() int { return f.workerMetric("worker_processing_messages") }

// workerMetric is a metric of the worker, or 0 if it does not answer.
func (f *failing) workerMetric(name string) (n int) {
	f.Helper()
	resp, err := http.Get("http://" + f.Addr(pipelineproc.Worker) + "/metrics")
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), name+"{"); ok {
			value, err := strconv.ParseFloat(rest[strings.LastIndexByte(rest, ' ')+1:], 64)
			if err != nil {
				f.Error(err)
			}
			n += int(value)
		}
	}
	return n
}
