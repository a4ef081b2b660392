package client_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/internal/testing/fakebroker"
)

func TestPublishSendsTheExactBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := fakebroker.New(t).Open(client.Config{})
		go func() {
			p.Expect(`publish ex key {"message_id": "a b\\", "x": " y "} `)
			p.Send("ACK id-1\n")
		}()
		body := []byte(`{"message_id": "a b\\", "x": " y "} `)
		if err := c.Publish(t.Context(), sealmq.Message{Exchange: "ex", Key: "key", ID: "id-1", Body: body}); err != nil {
			t.Error(err)
		}
	})
}

func TestRepliesMayBeCutAnywhere(t *testing.T) {
	const all = "ACK a\nError no_exchange: Exchange 'x' not found\r\nACK c\n"
	for cut := 1; cut < len(all); cut++ {
		synctest.Test(t, func(t *testing.T) {
			c, p := fakebroker.New(t).Open(client.Config{})
			r := newResults()
			r.publish(t, c, "a", "b", "c")
			p.Expect(lines("a", "b", "c")...)
			p.Send(all[:cut])
			synctest.Wait()
			p.Send(all[cut:])
			if err := c.Flush(t.Context()); err != nil {
				t.Error(err)
			}
			r.expect(t, "a", "b: Exchange 'x' not found", "c")
		})
	}
}

func TestRefusedPublishesHaveCodes(t *testing.T) {
	cases := map[string]sealmq.Code{
		"Error no_exchange: Exchange 'x' not found":                              sealmq.NoExchange,
		"Error unroutable: No queues bound to exchange 'x' with routing key 'k'": sealmq.Unroutable,
		"Error duplicate: Duplicate message a ignored":                           sealmq.Duplicate,
		"Error of_later_versions: what is new":                                   "of_later_versions",
		"Error: what an older broker says":                                       "",
		"Error":                                                                  "",
		"Error internal: internal error (1234abcd)":                              "",
		"Error queue_full: queue 'q' is full: 10 messages":                       sealmq.QueueFull,
		"Error bad_argument: queue name is empty":                                sealmq.BadArgument,
		"ACK b":          sealmq.BadArgument,
		"Something else": "",
	}
	for reply, code := range cases {
		synctest.Test(t, func(t *testing.T) {
			c, p := fakebroker.New(t).Open(client.Config{})
			go func() {
				p.Expect(lines("a")...)
				p.Send(reply + "\n")
				p.Expect(lines("b")...)
				p.Send("ACK b\n")
			}()
			err := c.Publish(t.Context(), message("a"))
			if err == nil || sealmq.CodeOf(err) != code {
				t.Errorf("%s: %v with code %q, want %q", reply, err, sealmq.CodeOf(err), code)
			}
			if err := c.Publish(t.Context(), message("b")); err != nil {
				t.Errorf("the next publish: %v", err)
			}
		})
	}
}

func TestPublishChecksTheMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := fakebroker.New(t).Open(client.Config{MaxLineBytes: 1000})
		ok := message("a")
		with := func(change func(*sealmq.Message)) sealmq.Message {
			m := ok
			change(&m)
			return m
		}
		cases := map[string]sealmq.Message{
			"no id":           with(func(m *sealmq.Message) { m.ID = "" }),
			"id with space":   with(func(m *sealmq.Message) { m.ID = "a b" }),
			"injected line":   with(func(m *sealmq.Message) { m.Body = []byte("{}\npurge q") }),
			"no body":         with(func(m *sealmq.Message) { m.Body = nil }),
			"no exchange":     with(func(m *sealmq.Message) { m.Exchange = "" }),
			"exchange, space": with(func(m *sealmq.Message) { m.Exchange = "x y" }),
			"key, line feed":  with(func(m *sealmq.Message) { m.Key = "k\nack a" }),
			"too long":        with(func(m *sealmq.Message) { m.Body = make([]byte, 990) }),
		}
		for name, m := range cases {
			if err := c.Publish(t.Context(), m); sealmq.CodeOf(err) == "" {
				t.Errorf("%s: %v", name, err)
			}
			if err := c.PublishAsync(t.Context(), m, func(error) { t.Errorf("%s: callback", name) }); err == nil {
				t.Errorf("%s: taken", name)
			}
		}
		p.Silent()
	})
}

func TestWindowHoldsPublishersBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := fakebroker.New(t).Open(client.Config{Window: 2})
		r := newResults()
		r.publish(t, c, "a", "b")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := c.PublishAsync(ctx, message("c"), r.of("c")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("over the window: %v", err)
		}
		p.Expect(lines("a", "b")...)
		published := make(chan struct{})
		go func() { r.publish(t, c, "d"); close(published) }()
		synctest.Wait()
		select {
		case <-published:
			t.Error("published over the window")
		default:
		}
		p.Send("ACK a\n")
		<-published
		p.Expect(lines("d")...)
		p.Send("ACK b\nACK d\n")
		if err := c.Flush(t.Context()); err != nil {
			t.Error(err)
		}
		r.expect(t, "a", "b", "d")
	})
}

func TestWindowCountsBytesAndLetsOneLargeMessagePass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := fakebroker.New(t).Open(client.Config{WindowBytes: 50})
		large := sealmq.Message{Exchange: "x", Key: "k", ID: "a", Body: []byte(strings.Repeat("x", 200_000))}
		r := newResults()
		if err := c.PublishAsync(t.Context(), large, r.of("a")); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := c.PublishAsync(ctx, message("b"), nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("over the window's bytes: %v", err)
		}
		p.Expect("publish x k " + string(large.Body))
		p.Send("ACK a\n")
		r.publish(t, c, "b")
		p.Expect(lines("b")...)
		p.Send("ACK b\n")
		c.Flush(t.Context())
		r.expect(t, "a", "b")
	})
}

func TestBrokerThatNeverAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := fakebroker.New(t).Open(client.Config{Heartbeat: time.Hour})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := c.Publish(ctx, message("a")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("publish: %v", err)
		}
		if err := c.Flush(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("flush: %v", err)
		}
		if _, err := c.Command(ctx, "stats"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("command: %v", err)
		}
		// A caller that stops waiting does not disturb the others.
		p.Expect(lines("a")...)
		p.Expect("stats")
		p.Send("ACK a\nStats: {}\n")
		go func() {
			p.Expect(lines("b")...)
			p.Send("ACK b\n")
		}()
		if err := c.Publish(t.Context(), message("b")); err != nil {
			t.Error(err)
		}
	})
}

func TestCloseFailsWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := fakebroker.New(t).Open(client.Config{Window: 2})
		r := newResults()
		r.publish(t, c, "a", "b")
		blocked := make(chan error)
		go func() { blocked <- c.PublishAsync(t.Context(), message("c"), r.of("c")) }()
		go func() { blocked <- c.Flush(t.Context()) }()
		go func() { _, err := c.Command(t.Context(), "stats"); blocked <- err }()
		synctest.Wait()
		p.Expect(lines("a", "b")...)
		c.Close()
		for range 3 {
			if err := <-blocked; !errors.Is(err, client.ErrClosed) {
				t.Errorf("blocked call: %v", err)
			}
		}
		r.expect(t, "a: connection is closed", "b: connection is closed")
		c.Close()
		if err := c.Publish(t.Context(), message("d")); !errors.Is(err, client.ErrClosed) {
			t.Errorf("publish after close: %v", err)
		}
		if !errors.Is(c.Err(), client.ErrClosed) {
			t.Errorf("Err: %v", c.Err())
		}
	})
}

func TestStats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := fakebroker.New(t).Open(client.Config{})
		r := newResults()
		r.publish(t, c, "a", "b")
		p.Expect(lines("a", "b")...)
		p.Send("ACK a\nError no_exchange: Exchange 'x' not found\n")
		c.Flush(t.Context())
		want := client.Stats{Published: 2, Confirmed: 1, Refused: 1, Connections: 1}
		if got := c.Stats(); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
	})
}
