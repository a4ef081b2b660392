package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/internal/testing/fakebroker"
)

func TestUnconfirmedPublishesAreSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := fakebroker.New(t)
		c, p := f.Open(client.Config{})
		r := newResults()
		r.publish(t, c, "a", "b", "c")
		p.Expect(lines("a", "b", "c")...)
		p.Send("ACK a\nACK ") // the rest of the reply never comes
		p.Conn.Close()
		synctest.Wait()
		r.publish(t, c, "d") // taken while there is no connection
		p = f.Accept()
		p.Expect(lines("b", "c", "d")...)
		p.Send("ACK b\nACK c\nACK d\n")
		if err := c.Flush(t.Context()); err != nil {
			t.Error(err)
		}
		r.expect(t, "a", "b", "c", "d")
		if s := c.Stats(); s.Resent != 2 || s.Connections != 2 {
			t.Errorf("%+v", s)
		}
	})
}

// The connection may die at any byte of what the client sends and of what it reads.
func TestConnectionLostAtEveryByte(t *testing.T) {
	sent := strings.Join(lines("a", "b", "c"), "\n") + "\n"
	const replies = "ACK a\nACK b\nACK c\n"
	for cut := range len(sent) + len(replies) {
		synctest.Test(t, func(t *testing.T) {
			f := fakebroker.New(t)
			c, p := f.Open(client.Config{})
			r := newResults()
			r.publish(t, c, "a", "b", "c")
			if _, err := io.ReadFull(p.In, make([]byte, min(cut, len(sent)))); err != nil {
				t.Fatal(err)
			}
			answered := 0
			if cut > len(sent) {
				part := replies[:cut-len(sent)]
				answered = strings.Count(part, "\n")
				p.Send(part)
			}
			synctest.Wait()
			p.Conn.Close()
			p = f.Accept()
			rest := []string{"a", "b", "c"}[answered:]
			p.Expect(lines(rest...)...)
			for _, id := range rest {
				p.Send("ACK " + id + "\n")
			}
			if err := c.Flush(t.Context()); err != nil {
				t.Error(err)
			}
			r.expect(t, "a", "b", "c")
		})
	}
}

func TestReconnectBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := fakebroker.New(t)
		c, p := f.Open(client.Config{BackoffMin: 100 * time.Millisecond, BackoffMax: 2 * time.Second})
		f.Refuse = 10
		p.Conn.Close()
		start := time.Now()
		p = f.Accept()
		// 0.1 0.2 0.4 0.8 1.6 and six times 2 seconds, each shorter by up to a half.
		if took := time.Since(start); took < 7*time.Second || took > 16*time.Second {
			t.Errorf("eleven attempts took %v", took)
		}
		go func() {
			p.Expect(lines("a")...)
			p.Send("ACK a\n")
		}()
		if err := c.Publish(t.Context(), message("a")); err != nil {
			t.Error(err)
		}
	})
}

func TestGivesUpAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := fakebroker.New(t)
		c, p := f.Open(client.Config{GiveUpAfter: time.Minute})
		r := newResults()
		r.publish(t, c, "a")
		p.Expect(lines("a")...)
		f.Refuse = 1_000_000
		start := time.Now()
		p.Conn.Close()
		err := c.Flush(t.Context())
		if !errors.Is(err, client.ErrClosed) || !strings.Contains(err.Error(), "refused") {
			t.Errorf("flush: %v", err)
		}
		if took := time.Since(start); took < time.Minute || took > 80*time.Second {
			t.Errorf("gave up after %v", took)
		}
		r.expect(t, "a: connection is closed")
	})
}

func TestSilentBrokerIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := fakebroker.New(t)
		c, p := f.Open(client.Config{Heartbeat: 10 * time.Second})
		// A broker that answers is kept, however little happens.
		for range 5 {
			p.Expect("ping")
			p.Send("Pong\n")
		}
		start := time.Now()
		p.Expect("ping")
		p.Gone()
		if took := time.Since(start); took > 31*time.Second {
			t.Errorf("left after %v", took)
		}
		f.Accept()
		synctest.Wait()
		if s := c.Stats(); s.Connections != 2 {
			t.Errorf("%+v", s)
		}
	})
}

func TestSilentBrokerIsLeftWhilePublishesWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := fakebroker.New(t)
		c, p := f.Open(client.Config{Heartbeat: 10 * time.Second})
		r := newResults()
		r.publish(t, c, "a")
		p.Expect(lines("a")...)
		p.Gone()
		p = f.Accept()
		p.Expect(lines("a")...)
		p.Send("ACK a\n")
		c.Flush(t.Context())
		r.expect(t, "a")
	})
}

// What a client goes on to send is no sign of life: it lies in the buffer of its own socket.
func TestSilentBrokerIsLeftWhileAClientGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := fakebroker.New(t)
		c, p := f.Open(client.Config{Heartbeat: 10 * time.Second})
		r := newResults()
		start := time.Now()
		gone := make(chan struct{})
		go func() {
			for i := 0; ; i++ {
				select {
				case <-gone:
					return
				case <-time.After(3 * time.Second):
					r.publish(t, c, fmt.Sprint("m", i))
				}
			}
		}()
		io.Copy(io.Discard, p.Conn) // until the client leaves
		close(gone)
		if took := time.Since(start); took > 31*time.Second {
			t.Errorf("left after %v", took)
		}
	})
}

func TestBrokerThatBreaksTheProtocolIsLeft(t *testing.T) {
	cases := map[string]string{
		"a reply too many":         "Queue declared\n",
		"a push without consumer":  "Message: a {}\n",
		"a reply that is too long": "ACK " + strings.Repeat("x", 6000),
		"a line that is too long":  strings.Repeat("x", 6000) + "\n",
	}
	for name, bytes := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := fakebroker.New(t)
				c, p := f.Open(client.Config{MaxLineBytes: 5000})
				// The client may close in the middle of the write.
				io.WriteString(p.Conn, bytes)
				p.Gone()
				p = f.Accept()
				go func() {
					p.Expect(lines("a")...)
					p.Send("ACK a\n")
				}()
				if err := c.Publish(t.Context(), message("a")); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// A reply cannot answer what has not been sent.
func TestReplyBeforeTheRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := fakebroker.New(t)
		c, p := f.Open(client.Config{})
		first := sealmq.Message{Exchange: "x", Key: "k", ID: "a", Body: make([]byte, 300_000)}
		r := newResults()
		if err := c.PublishAsync(t.Context(), first, r.of("a")); err != nil {
			t.Fatal(err)
		}
		// Not read yet, so the client cannot have sent more than a piece of it.
		p.Send("ACK a\n")
		p = f.Accept()
		p.Expect("publish x k " + string(first.Body))
		p.Send("ACK a\n")
		c.Flush(t.Context())
		r.expect(t, "a")
	})
}

func TestDialErrors(t *testing.T) {
	t.Run("refused", func(t *testing.T) {
		f := fakebroker.New(t)
		f.Refuse = 1
		if _, err := client.Dial(t.Context(), client.Config{Dial: f.Dial}); err == nil || !strings.Contains(err.Error(), "127.0.0.1:5672") {
			t.Error(err)
		}
	})
	t.Run("no TLS", func(t *testing.T) {
		if _, err := client.Dial(t.Context(), client.Config{}); err == nil {
			t.Error("dialled without TLS")
		}
	})
	t.Run("silent", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := fakebroker.New(t)
			start := time.Now()
			_, err := client.Dial(t.Context(), client.Config{Dial: f.Dial, DialTimeout: 3 * time.Second})
			if err == nil || time.Since(start) != 3*time.Second || !strings.Contains(err.Error(), "no answer in time") {
				t.Errorf("%v after %v", err, time.Since(start))
			}
		})
	})
	t.Run("context", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := fakebroker.New(t)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if _, err := client.Dial(ctx, client.Config{Dial: f.Dial}); !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
		})
	})
	t.Run("turned away", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := fakebroker.New(t)
			go func() {
				p := f.AcceptSilent()
				p.Expect("codes on", "whoami")
				p.Send("Error: too many connections\n")
				p.Conn.Close()
			}()
			if _, err := client.Dial(t.Context(), client.Config{Dial: f.Dial}); sealmq.CodeOf(err) != sealmq.LimitReached || !strings.Contains(err.Error(), "too many connections") {
				t.Error(err)
			}
		})
	})
	t.Run("older broker", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := fakebroker.New(t)
			go func() {
				p := f.AcceptSilent()
				p.Expect("codes on", "whoami")
				p.Send("Unknown command\n")
			}()
			if _, err := client.Dial(t.Context(), client.Config{Dial: f.Dial}); sealmq.CodeOf(err) != sealmq.Unsupported || !strings.Contains(err.Error(), "upgrade it") {
				t.Error(err)
			}
		})
	})
}

// A broker that keeps what it was sent and loses the connection at random: every publish
// is called back once and in order, what was confirmed is there, and first arrivals are in order.
func TestRandomDisconnects(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		total := rapid.IntRange(1, 60).Draw(rt, "messages")
		window := rapid.IntRange(1, 20).Draw(rt, "window")
		cuts := rapid.SliceOfN(rapid.IntRange(0, 300), 0, 8).Draw(rt, "cuts")
		synctest.Test(t, func(t *testing.T) {
			f := fakebroker.New(t)
			var stored []string
			seen := make(map[string]bool)
			stopped := make(chan struct{})
			ctx, stop := context.WithCancel(t.Context())
			go func() {
				defer close(stopped)
				for i := 0; ; i++ {
					var p *fakebroker.Peer
					select {
					case conn := <-f.Conns:
						f.Conns <- conn
						p = f.Accept()
					case <-ctx.Done():
						return
					}
					left := 1 << 30
					if i < len(cuts) {
						left = cuts[i]
					}
					serveUntil(p, left, func(id string) {
						if !seen[id] {
							seen[id] = true
							stored = append(stored, id)
						}
					})
				}
			}()
			c, err := client.Dial(t.Context(), client.Config{Dial: f.Dial, Window: window})
			if err != nil {
				t.Fatal(err)
			}
			r := newResults()
			var want []string
			for i := range total {
				id := fmt.Sprint("m", i)
				want = append(want, id)
				r.publish(t, c, id)
			}
			if err := c.Flush(t.Context()); err != nil {
				t.Error(err)
			}
			r.expect(t, want...)
			c.Close()
			stop()
			<-stopped
			if fmt.Sprint(stored) != fmt.Sprint(want) {
				rt.Fatalf("stored %v, want %v", stored, want)
			}
		})
	})
}

// serveUntil answers publishes until left bytes were read, then hangs up, perhaps
// between storing and answering.
func serveUntil(p *fakebroker.Peer, left int, store func(id string)) {
	defer p.Conn.Close()
	for {
		line, err := p.In.ReadString('\n')
		if err != nil {
			return
		}
		left -= len(line)
		if left < -10 {
			return
		}
		_, id, _ := strings.Cut(strings.TrimSuffix(line, "\"}\n"), `"message_id":"`)
		store(id)
		if left < 0 {
			return
		}
		if _, err := io.WriteString(p.Conn, "ACK "+id+"\n"); err != nil {
			return
		}
	}
}
