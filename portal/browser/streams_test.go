//go:build linux

package browser

import (
	"bufio"
	"flag"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealmq/sealmq/api/mainapi"
	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/mtls"
)

var eventStreams = flag.Int("streams", 0, "measure so many event streams through the portal")

// streamsOfOne is how many streams an account may have.
const streamsOfOne = 20

// TestEventStreams measures what a node needs for streams through its portal, each of a browser of
// its own, while an event comes each second:
//
//	go test ./portal/browser -v -run TestEventStreams -streams 500
func TestEventStreams(t *testing.T) {
	if *eventStreams == 0 {
		t.Skip("a measurement: -streams says how many")
	}
	const measured = 20 * time.Second
	s := start(t)
	s.run("cert", "issue", "acme-01")
	session := s.setUp()
	tokens := []string{session.Token}
	for i := 1; i < (*eventStreams+streamsOfOne-1)/streamsOfOne; i++ {
		email := fmt.Sprintf("operator-%d@example.com", i)
		made, err := s.API.CreateUserWithResponse(t.Context(), mainapi.UserCreate{Email: email, Role: "operator", Password: userPassword, KeepPassword: true})
		if err != nil || made.JSON201 == nil {
			t.Fatalf("no account: %v %s", err, made.Body)
		}
		opened, err := s.API.LogInWithResponse(t.Context(), mainapi.Credentials{Email: email, Password: userPassword})
		if err != nil || opened.JSON201 == nil {
			t.Fatalf("no session: %v %s", err, opened.Body)
		}
		tokens = append(tokens, opened.JSON201.Token)
	}
	cpu, _ := s.use()
	began := time.Now()
	for time.Since(began) < measured {
		s.submitAs("acme-01", "+4915200000001", "hello")
		<-time.After(time.Second)
	}
	idle, memory := s.use() // the same load without streams
	idle -= cpu

	var events atomic.Int64
	for i := range *eventStreams {
		client, err := httpsClient(mtls.Files{CA: ca.In(s.Data).CA})
		if err != nil {
			t.Fatal(err)
		}
		client.Timeout = 0
		t.Cleanup(client.CloseIdleConnections)
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+"/events", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.AddCookie(&http.Cookie{Name: "__Host-sealmq", Value: tokens[i/streamsOfOne]})
		answer, err := client.Do(r)
		if err != nil || answer.StatusCode != http.StatusOK {
			t.Fatalf("stream %d: %v %v", i, answer, err)
		}
		t.Cleanup(func() { answer.Body.Close() })
		go func() {
			for lines := bufio.NewScanner(answer.Body); lines.Scan(); {
				if strings.HasPrefix(lines.Text(), "data: ") {
					events.Add(1)
				}
			}
		}()
	}
	<-time.After(2 * time.Second) // the handshakes are over
	events.Store(0)
	busy, _ := s.use()
	began = time.Now()
	for time.Since(began) < measured {
		s.submitAs("acme-01", "+4915200000001", "hello")
		<-time.After(time.Second)
	}
	took := time.Since(began)
	end, now := s.use()
	t.Logf("%d streams, %d events in %v: %.1f %% of a core more than %.1f %% without them, %.1f MiB more than %.1f MiB", *eventStreams, events.Load(), took.Round(time.Second),
		100*float64(end-busy-idle)/float64(took), 100*float64(idle)/float64(measured), float64(now-memory)/(1<<20), float64(memory)/(1<<20))
}

// use is the processor time that the node has used, and the memory that it has.
func (s *site) use() (cpu time.Duration, memory int64) {
	s.t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.PID))
	if err != nil {
		s.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	user, _ := strconv.ParseInt(fields[11], 10, 64)
	system, _ := strconv.ParseInt(fields[12], 10, 64)
	pages, _ := strconv.ParseInt(fields[21], 10, 64)
	return time.Duration(user+system) * time.Second / 100, pages * int64(os.Getpagesize())
}
