package listener_test

import (
	"bytes"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/listener"
	"github.com/sealmq/sealmq/protocol"
)

// fake is a protocol that says back what it hears and says "bye" and ends at a dot. It
// panics at a ! when it hears it, and at a W when it should say it. With a beat it says
// "beat" whenever that time has passed, and ends after three beats in which it heard
// nothing.
type fake struct {
	protocol.Peer
	beat time.Duration

	mu           sync.Mutex
	out          []byte
	end          bool
	next, silent time.Time // of the next beat; when it will have heard nothing for too long
}

func fakeProtocol(prefix string, beat time.Duration) protocol.Protocol {
	return protocol.Protocol{Name: "fake " + prefix, Prefix: []byte(prefix), Open: func(p protocol.Peer) protocol.Session {
		return &fake{Peer: p, beat: beat}
	}}
}

func (f *fake) Input(data []byte) (int, bool) {
	if bytes.Contains(data, []byte("!")) {
		panic("heard a !")
	}
	f.mu.Lock()
	f.silent = time.Time{}
	if said, _, end := bytes.Cut(data, []byte(".")); !f.end {
		f.out = append(f.out, said...)
		if f.end = end; end {
			f.out = append(f.out, "\nbye\n"...)
		}
	}
	f.mu.Unlock()
	f.Wake()
	return len(data), false
}

func (f *fake) Output(dst []byte, _ int) ([]byte, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if bytes.Contains(f.out, []byte("W")) {
		panic("must say W")
	}
	dst = append(dst, f.out...)
	f.out = f.out[:0]
	return dst, f.end
}

func (f *fake) Tick(now time.Time) time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.beat == 0 {
		return time.Time{}
	}
	if f.silent.IsZero() {
		f.silent = now.Add(3 * f.beat)
	}
	switch {
	case f.next.IsZero():
	case now.Before(f.next):
		return f.next
	case !now.Before(f.silent):
		f.out, f.end = append(f.out, "too late\n"...), true
	default:
		f.out = append(f.out, "beat\n"...)
	}
	f.next = now.Add(f.beat)
	return f.next
}

func (f *fake) NoRoom()                         {}
func (f *fake) Ready() bool                     { return true }
func (f *fake) Drain()                          {}
func (f *fake) Drained() bool                   { return true }
func (f *fake) Quiet()                          {}
func (f *fake) Describe(*sealmq.ConnectionInfo) {}
func (f *fake) Close()                          {}

func TestProtocolIsChosenByThePrefix(t *testing.T) {
	fakes := []protocol.Protocol{fakeProtocol("AMQP\x00\x00\x09\x01", 0), fakeProtocol("AM", 0)}
	for _, tt := range []struct{ sent, reply, protocol string }{
		{"AMQP\x00\x00\x09\x01 and more\n", "AMQP\x00\x00\x09\x01 and more", "fake AMQP\x00\x00\x09\x01"},
		{"AMQP\x00\x00\x09\x02\n", "AMQP\x00\x00\x09\x02", "fake AM"},
		{"AM\n", "AM", "fake AM"},
		{"ping\n", "Pong", "text"},
		{"A\n", "Unknown command", "text"},
		{"\n", "Unknown command", "text"},
	} {
		for how, size := range map[string]int{"whole": len(tt.sent), "byte by byte": 1} {
			t.Run(tt.protocol+" "+how, func(t *testing.T) {
				n := start(t, nil, func(cfg *listener.Config) { cfg.Protocols = append(cfg.Protocols, fakes...) })
				c := n.connect("a")
				for rest := tt.sent; rest != ""; rest = rest[size:] {
					if _, err := c.Write([]byte(rest[:size])); err != nil {
						t.Fatal(err)
					}
				}
				c.want(tt.reply)
				if list := n.all(); len(list) != 1 || list[0].Protocol != tt.protocol {
					t.Errorf("connections %+v", list)
				}
			})
		}
	}
}

// TestFirstBytesMayLeaveItOpen: nothing is said, and nothing is lost, until they decide.
func TestFirstBytesMayLeaveItOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, pipes := startPipes(t, func(cfg *listener.Config) { cfg.Protocols = append(cfg.Protocols, fakeProtocol("AMQP", 0)) })
		c := n.connectPipe(pipes, n.ca.ClientTLS("a"))
		if _, err := c.Write([]byte("AMQ")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if list := n.all(); len(list) != 1 || list[0].Protocol != "" {
			t.Errorf("connections %+v", list)
		}
		c.do("P", "AMQP")
		gone := n.connectPipe(pipes, n.ca.ClientTLS("b"))
		if _, err := gone.Write([]byte("A")); err != nil {
			t.Fatal(err)
		}
		gone.Close()
		synctest.Wait()
		if got := n.server.Count(); got != 1 {
			t.Errorf("%d connections", got)
		}
	})
}

const ended = "sealmq_server_connections_closed_total"

func TestConversationsOfNoProtocolAreClosed(t *testing.T) {
	n := start(t, nil, func(cfg *listener.Config) { cfg.Protocols = []protocol.Protocol{fakeProtocol("AMQP", 0)} })
	c := n.connect("a")
	c.send("ping")
	if got, err := io.ReadAll(c); len(got) > 0 || err != nil {
		t.Errorf("received %q, %v", got, err)
	}
	if err := n.waitForCount(0); err != nil {
		t.Fatal(err)
	}
	if got := metric(t, n.counts, ended, "unknown_protocol"); got != 1 {
		t.Errorf("%v connections were counted", got)
	}
}

// TestLastWordsAreWritten: they arrive although the peer sends more, and the connection
// ends whether the peer closes its side or not.
func TestLastWordsAreWritten(t *testing.T) {
	for name, polite := range map[string]bool{"the peer closes": true, "it does not": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n, pipes := startPipes(t, func(cfg *listener.Config) { cfg.Protocols = append(cfg.Protocols, fakeProtocol("A", 0)) })
				c := n.connectPipe(pipes, n.ca.ClientTLS("a"))
				c.do("Ahoy", "Ahoy")
				c.send("Over.", strings.Repeat("more", 1000))
				c.want("Over", "bye")
				if got, err := io.ReadAll(c); err != nil {
					t.Errorf("then %q, %v", got, err)
				}
				began := time.Now()
				if polite {
					c.Close()
				}
				synctest.Wait()
				if err := n.waitForCount(0); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(began); polite && took > 0 || took > 5*time.Second {
					t.Errorf("it was open for another %v", took)
				}
				if got := metric(t, n.counts, ended, "protocol"); got != 1 {
					t.Errorf("%v connections were counted", got)
				}
			})
		})
	}
}

// TestSessionsHearOfTheTime: when they asked for it, whether the peer speaks or not.
func TestSessionsHearOfTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, pipes := startPipes(t, func(cfg *listener.Config) { cfg.Protocols = append(cfg.Protocols, fakeProtocol("A", time.Minute)) })
		c := n.connectPipe(pipes, n.ca.ClientTLS("a"))
		c.patience = time.Hour
		began := time.Now()
		c.do("A", "A")
		c.want("beat", "beat")
		if took := time.Since(began); took != 2*time.Minute {
			t.Errorf("two beats took %v", took)
		}
		c.do("A", "A")
		c.want("beat", "beat", "too late")
		if took := time.Since(began); took != 5*time.Minute {
			t.Errorf("it took %v", took)
		}
		c.wantEnd()
		c.Close()
	})
}
