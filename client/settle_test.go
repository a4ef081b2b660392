package client_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/internal/testing/fakebroker"
	"github.com/sealmq/sealmq/internal/testing/testnode"
)

func TestReleaseAndExtend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := fakebroker.New(t).Open(client.Config{})
		s := consume(t, c, p)
		for _, err := range []error{s.Release(0, of("a")...), s.Release(90*time.Second, of("b")...), s.Extend(of("c", "d")...), s.Extend()} {
			if err != nil {
				t.Error(err)
			}
		}
		p.Expect("release a", "release b delay 1m30s", "extend c", "extend d")
		p.Send("RELEASE_CONFIRMED a\nRELEASE_CONFIRMED b\nEXTEND_CONFIRMED c\nError not_held: this connection does not hold the message\n")
		if err := c.Flush(t.Context()); err != nil {
			t.Error(err)
		}
		if err := s.Extend(of("d")...); err != nil { // that one was gone says nothing of the next
			t.Error(err)
		}
		p.Expect("extend d")
		p.Send("EXTEND_CONFIRMED d\n")
		if got := c.Stats().Acked; got != 2 {
			t.Errorf("%d counted as settled, want the two that were released", got)
		}
		for _, err := range []error{s.Release(-1, of("a")...), s.Release(25*time.Hour, of("a")...), s.Release(0, of("a b")...), s.Extend(of("a", "b\nack a")...)} {
			if sealmq.CodeOf(err) == "" {
				t.Errorf("taken: %v", err)
			}
		}
		p.Silent()
	})
}

// All messages of one Extend leave with one write, so that many cost what one costs.
func TestExtendsLeaveTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := fakebroker.New(t).Open(client.Config{})
		s := consume(t, c, p)
		synctest.Wait()
		if err := s.Extend(of("a", "b", "c")...); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		buf := make([]byte, 1000)
		n, err := p.Conn.Read(buf)
		if got := string(buf[:n]); got != "extend a\nextend b\nextend c\n" || err != nil {
			t.Errorf("one read brought %q, %v", got, err)
		}
		c.Close()
	})
}

// A connection that is lost takes what was in hand with it, so that nothing is left to settle.
func TestReleaseIsInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := fakebroker.New(t)
		c, p := f.Open(client.Config{})
		s := consume(t, c, p)
		if err := errors.Join(s.Release(0, of("a")...), s.Extend(of("b")...)); err != nil {
			t.Error(err)
		}
		p.Expect("release a", "extend b")
		p.Send("Error unsupported: the storage engine cannot do this\n")
		p.Conn.Close()
		if err := c.Flush(t.Context()); err != nil {
			t.Error(err)
		}
		if err := errors.Join(s.Release(0, of("d")...), s.Extend(of("d")...)); err != nil {
			t.Error(err)
		}
		p = f.Accept()
		p.Expect("meta ends", "prefetch 2", "consume q")
		c.Close()
		for _, err := range []error{s.Release(0, of("a")...), s.Extend(of("b")...)} {
			if !errors.Is(err, client.ErrClosed) {
				t.Errorf("after close: %v", err)
			}
		}
	})
}

func TestDeletedQueueEndsTheSubscription(t *testing.T) {
	for name, cfg := range map[string]client.Config{"plain": {}, "meta": {Meta: true}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := fakebroker.New(t)
				c, p := f.Open(cfg)
				setup, reply := "meta ends", "Meta ends\n"
				if cfg.Meta {
					setup, reply = "meta on", "Meta on\n"
				}
				go func() {
					p.Expect(setup, "consume q")
					p.Send(reply + "Subscribed to queue\nMessage: a {}\n" +
						`Ended: {"queue":"other","reason":"deleted"}` + "\n" + `Ended: {"queue":"q","reason":"deleted"}` + "\n")
				}()
				s, err := c.Consume(t.Context(), "q", 0)
				if err != nil {
					t.Fatal(err)
				}
				expectNext(t, s, "a", "{}")
				if _, err := next(t.Context(), s); sealmq.CodeOf(err) != sealmq.NoQueue || !strings.Contains(err.Error(), "'q' was deleted") {
					t.Errorf("the queue is gone: %v", err)
				}
				p.Conn.Close()
				p = f.Accept()
				p.Silent() // consuming would create the queue again
			})
		})
	}
}

func TestReleaseAndExtendAtTheRealBroker(t *testing.T) {
	n := testnode.Start(t, testnode.Config{})
	ctx := t.Context()
	k := n.Dial(client.Config{Meta: true})
	topology := oneQueue
	topology.Queues = []client.Queue{{Name: "q", Options: &sealmq.QueueOptions{DeliveryLimit: 1}}}
	if err := errors.Join(k.Declare(ctx, topology), k.Publish(ctx, message("a"))); err != nil {
		t.Fatal(err)
	}
	s, err := k.Consume(ctx, "q", 1)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		d, err := next(ctx, s)
		if err != nil {
			t.Fatal(err)
		}
		if d.Attempt != 1 || d.Redelivered() != (i > 0) {
			t.Errorf("%+v", d)
		}
		if err := errors.Join(s.Extend(of("a", "none")...), s.Release(0, of("a")...)); err != nil {
			t.Error(err)
		}
	}
	if d, err := next(ctx, s); err != nil || d.ID != "a" {
		t.Fatalf("%q, %v", d.ID, err)
	}
	if err := s.AckWait(ctx, of("a")...); err != nil {
		t.Error(err)
	}
	if err := s.Extend(of("a")...); err != nil { // not held any more, which is no error
		t.Error(err)
	}
	if err := k.Flush(ctx); err != nil {
		t.Error(err)
	}
	plain := n.Dial(client.Config{})
	s, err = plain.Consume(ctx, "q", 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.DeleteQueue(ctx, "q"); err != nil {
		t.Fatal(err)
	}
	if _, err := next(ctx, s); sealmq.CodeOf(err) != sealmq.NoQueue {
		t.Errorf("the queue is gone: %v", err)
	}
}
