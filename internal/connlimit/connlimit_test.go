package connlimit_test

import (
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/sealmq/sealmq/internal/connlimit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestWhoMakesRoom fills a table, with a second between all steps, and then adds busy
// connections from elsewhere until nobody makes room any more.
func TestWhoMakesRoom(t *testing.T) {
	const patience = time.Hour
	for _, tc := range []struct {
		name  string
		steps string // "a=1.1.1.1" adds a connection; "a+" makes it busy, "a-" idle, "a!" known; "a." ends it
		wait  time.Duration
		want  string // those that make room, in this order
	}{
		{"silent for longest", "a=1.1.1.1 b=1.1.1.1 c=1.1.1.1", 0, "abc"},
		{"idle for longest", "a=1.1.1.1 b=1.1.1.1 a+ a-", 0, "ba"},
		{"busy ones stay", "a=1.1.1.1 b=1.1.1.1 a+", 0, "b"},
		{"but not for ever", "a=1.1.1.1 b=1.1.1.1 c=1.1.1.1 b+ a+", patience, "cba"},
		{"strangers before known peers", "a=1.1.1.1 b=1.1.1.1 c=2.2.2.2 a! b!", 0, "cab"},
		{"a busy stranger before known peers", "a=1.1.1.1 b=2.2.2.2 a! b+", patience, "ba"},
		{"the address with the most", "a=1.1.1.1 b=2.2.2.2 c=2.2.2.2 d=2.2.2.2", 0, "bcad"},
		{"an IPv6 network is one address", "c=1.1.1.1 a=[2001:db8::1] b=[2001:db8::2]", 0, "acb"},
		{"those that have left", "a=1.1.1.1 b=1.1.1.1 a. a. c=1.1.1.1", 0, "bc"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var closed strings.Builder
				places := make(map[string]*connlimit.Place)
				table := connlimit.New(strings.Count(tc.steps, "=")-strings.Count(tc.steps, "a. a."), patience)
				for step := range strings.FieldsSeq(tc.steps) {
					name, what := step[:1], step[1:]
					switch p := places[name]; what {
					case "+":
						p.Busy()
					case "-":
						p.Idle()
					case "!":
						p.Known()
					case ".":
						p.Leave()
					default:
						addr, err := net.ResolveTCPAddr("tcp", what[1:]+":1")
						if err != nil {
							t.Fatal(err)
						}
						places[name] = table.Add(addr, func() { closed.WriteString(name) })
					}
					time.Sleep(time.Second)
				}
				time.Sleep(tc.wait)
				for {
					p := table.Add(&net.TCPAddr{IP: net.IPv4(9, 9, 9, 9), Port: 1}, func() { closed.WriteString("x") })
					if p == nil {
						break
					}
					p.Busy()
				}
				if closed.String() != tc.want {
					t.Errorf("%s made room, want %s", &closed, tc.want)
				}
				for name, p := range places {
					if p.Displaced() != strings.Contains(tc.want, name) {
						t.Errorf("%s displaced: %v", name, p.Displaced())
					}
				}
			})
		})
	}
}

// TestAcceptWaits: while all connections are busy a new one waits, until a place is free, one
// has been busy for too long, or the listener ends.
func TestAcceptWaits(t *testing.T) {
	for _, how := range []string{"free", "patience", "end"} {
		synctest.Test(t, func(t *testing.T) {
			network := make(pipes)
			l := connlimit.Listen(network, 1, time.Minute)
			go network.dial()
			first, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			connlimit.Of(first).Busy()
			accepted := make(chan error)
			go func() {
				c, err := l.Accept()
				if err == nil {
					c.Close()
				}
				accepted <- err
			}()
			network.dial()
			synctest.Wait()
			begin := time.Now()
			switch how {
			case "free":
				first.Close()
			case "end":
				l.Close()
			}
			err = <-accepted
			took := time.Since(begin)
			if (err != nil) != (how == "end") || how == "patience" && took < time.Minute || took > time.Minute+time.Second {
				t.Errorf("%s: after %v: %v", how, took, err)
			}
			first.Close()
		})
	}
}

// pipes is a listener in memory.
type pipes chan net.Conn

func (p pipes) dial() {
	_, theirs := net.Pipe()
	p <- theirs
}

func (p pipes) Accept() (net.Conn, error) { return <-p, nil }
func (p pipes) Close() error              { return nil }
func (p pipes) Addr() net.Addr            { return &net.TCPAddr{} }
