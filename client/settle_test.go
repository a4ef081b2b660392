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
		for _, err := range []error{s.Release("a", 0), s.Release("b", 90*time.Second), s.Extend("c", "d"), s.Extend()} {
			if err != nil {
				t.Error(err)
			}
		}
		p.Expect("release a", "release b delay 1m30s", "extend c", "extend d")
		p.Send("RELEASE_CONFIRMED a\nRELEASE_CONFIRMED b\nEXTEND_CONFIRMED c\nError not_held: this connection does not hold the message\n")
		if err := c.Flush(t.Context()); err != nil {
			t.Error(err)
		}
		if err := s.Extend("d"); err != nil { // that one was gone says nothing of the next
			t.Error(err)
		}
		p.Expect("extend d")
		p.Send("EXTEND_CONFIRMED d\n")
		if got := c.Stats().Acked; got != 2 {
			t.Errorf("%d counted as settled, want the two that were released", got)
		}
		for _, err := range []error{s.Release("a", -1), s.Release("a", 25*time.Hour), s.Release("a b", 0), s.Extend("a", "b\nack a")} {
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
		if err := s.Extend("a", "b", "c"); err != nil {
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

// A broker that does not know the commands gets a nack for a release, which Flush waits
// for, and is not asked again on this connection.
func TestReleaseAndExtendWithAnOlderBroker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := fakebroker.New(t)
		c, p := f.Open(client.Config{})
		s := consume(t, c, p)
		if err := s.Release("a", time.Minute); err != nil {
			t.Error(err)
		}
		p.Expect("release a delay 1m0s")
		flushed := make(chan error, 1)
		go func() { flushed <- c.Flush(t.Context()) }()
		p.Send("Error unsupported: Unknown command\n")
		p.Expect("nack a delay 1m0s")
		synctest.Wait()
		if len(flushed) > 0 {
			t.Error("Flush did not wait for the nack")
		}
		p.Send("NACK_CONFIRMED a\n")
		if err := <-flushed; err != nil {
			t.Error(err)
		}
		if err := s.Release("b", 0); err != nil {
			t.Error(err)
		}
		p.Expect("nack b")
		p.Send("NACK_CONFIRMED b\n")
		if err := s.Extend("c"); err != nil {
			t.Error(err)
		}
		p.Expect("extend c")
		p.Send("Error unsupported: Unknown command\n")
		synctest.Wait()
		if err := s.Extend("c"); sealmq.CodeOf(err) != sealmq.Unsupported {
			t.Errorf("extended by a broker that cannot: %v", err)
		}
		p.Silent()
		p.Conn.Close()
		synctest.Wait()
		for _, err := range []error{s.Release("d", 0), s.Extend("d")} { // back with their connection
			if err != nil {
				t.Error(err)
			}
		}
		p = f.Accept() // it may be a newer one
		p.Expect("meta ends", "prefetch 2", "consume q")
		p.Send("Meta ends\nPrefetch 2\nSubscribed to queue\n")
		synctest.Wait()
		if err := errors.Join(s.Release("e", 0), s.Extend("f")); err != nil {
			t.Error(err)
		}
		p.Expect("release e", "extend f")
		p.Send("RELEASE_CONFIRMED e\nEXTEND_CONFIRMED f\n")
		synctest.Wait()
	})
}

// A release whose nack a lost connection swallowed is over: the message is back.
func TestReleaseIsInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := fakebroker.New(t).Open(client.Config{})
		s := consume(t, c, p)
		if err := errors.Join(s.Release("a", 0), s.Extend("b")); err != nil {
			t.Error(err)
		}
		p.Expect("release a", "extend b")
		p.Send("Error unsupported: Unknown command\n")
		p.Expect("nack a")
		p.Conn.Close()
		if err := c.Flush(t.Context()); err != nil {
			t.Error(err)
		}
		c.Close()
		for _, err := range []error{s.Release("a", 0), s.Extend("b")} {
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
				if _, err := s.Next(t.Context()); sealmq.CodeOf(err) != sealmq.NoQueue || !strings.Contains(err.Error(), "'q' was deleted") {
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
		d, err := s.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		m, err := d.Meta()
		if err != nil || m.Attempt != 1 || m.Redelivered != (i > 0) {
			t.Errorf("%+v, %v", m, err)
		}
		if err := errors.Join(s.Extend("a", "none"), s.Release("a", 0)); err != nil {
			t.Error(err)
		}
	}
	if d, err := s.Next(ctx); err != nil || d.ID != "a" {
		t.Fatalf("%q, %v", d.ID, err)
	}
	if err := s.AckWait(ctx, "a"); err != nil {
		t.Error(err)
	}
	if err := s.Extend("a"); err != nil { // not held any more, which is no error
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
	if _, err := s.Next(ctx); sealmq.CodeOf(err) != sealmq.NoQueue {
		t.Errorf("the queue is gone: %v", err)
	}
}
