package client_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/internal/testing/fakebroker"
)

// consume subscribes with a prefetch of 2.
func consume(t *testing.T, c *client.Client, p *fakebroker.Peer) sealmq.Subscription {
	t.Helper()
	go func() {
		p.Expect("meta ends", "prefetch 2", "consume q")
		p.Send("Meta ends\nPrefetch 2\nSubscribed to queue\n")
	}()
	s, err := c.Consume(t.Context(), "q", 2)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func expectNext(t *testing.T, s sealmq.Subscription, id, body string) {
	t.Helper()
	d, err := next(t.Context(), s)
	if err != nil || d.ID != id || string(d.Body) != body {
		t.Errorf("delivery %q %q, %v; want %q %q", d.ID, d.Body, err, id, body)
	}
}

func TestDeliveriesAndAcks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := fakebroker.New(t).Open(client.Config{})
		s := consume(t, c, p)
		p.Send("Message: a {\"x\": \" 1 \"}\nMess")
		expectNext(t, s, "a", `{"x": " 1 "}`)
		p.Send("age: b {}\nMessage: c {")
		expectNext(t, s, "b", "{}")
		p.Send("}\r\n")
		expectNext(t, s, "c", "{}")

		if err := s.Ack(of("a", "b")...); err != nil {
			t.Error(err)
		}
		p.Expect("ack a", "ack b")
		acked := make(chan error)
		go func() { acked <- s.AckWait(t.Context(), of("c")...) }()
		p.Expect("ack c")
		p.Send("ACK_CONFIRMED a\nMessage: d {}\nACK_CONFIRMED b\nACK_CONFIRMED c\n")
		if err := <-acked; err != nil {
			t.Error(err)
		}
		expectNext(t, s, "d", "{}")
		if got := c.Stats(); got.Delivered != 4 || got.Acked != 3 {
			t.Errorf("%+v", got)
		}
	})
}

func TestNextBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := fakebroker.New(t).Open(client.Config{})
		go func() {
			p.Expect("meta ends", "consume q")
			p.Send("Meta ends\nSubscribed to queue\nMessage: a 1\nMessage: b 2\nMessage: c 3\n")
		}()
		s, err := c.Consume(t.Context(), "q", 0)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		batch := make([]sealmq.Delivery, 2)
		over, stop := context.WithCancel(t.Context())
		stop()
		if _, err := s.Next(over, batch); !errors.Is(err, context.Canceled) {
			t.Errorf("context is over: %v", err)
		}
		var got []string
		for range 2 {
			n, err := s.Next(t.Context(), batch)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range batch[:n] {
				got = append(got, d.ID+string(d.Body))
			}
		}
		if d := cmp.Diff([]string{"a1", "b2", "c3"}, got); d != "" {
			t.Error(d)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := s.Next(ctx, batch); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("nothing there: %v", err)
		}
		if _, err := s.Next(ctx, nil); err == nil {
			t.Error("no room, and no error")
		}
	})
}

func TestBodiesStayAsTheyWere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := fakebroker.New(t).Open(client.Config{})
		s := consume(t, c, p)
		p.Send("Message: a first\nMessage: b second\n")
		a, _ := next(t.Context(), s)
		b, _ := next(t.Context(), s)
		a.Body = append(a.Body, "-and-more-than-fits"...)
		p.Send("Message: c " + strings.Repeat("z", 100_000) + "\n")
		expectNext(t, s, "c", strings.Repeat("z", 100_000))
		if string(a.Body[:5]) != "first" || string(b.Body) != "second" || b.ID != "b" {
			t.Errorf("%q %q", a.Body, b.Body)
		}
	})
}

func TestMeta(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := fakebroker.New(t).Open(client.Config{Meta: true})
		go func() {
			p.Expect("meta on", "consume q")
			p.Send("Meta on\nSubscribed to queue\n" +
				`Meta: {"queue":"q","publisher":"lab","exchange":"x","key":"k","time":"2026-01-02T03:04:05.678Z","attempt":2}` + "\n" +
				"Message: a {}\nMessage: b {}\n")
		}()
		s, err := c.Consume(t.Context(), "q", 0)
		if err != nil {
			t.Fatal(err)
		}
		got, _ := next(t.Context(), s)
		want := sealmq.Delivery{Message: sealmq.Message{ID: "a", Publisher: "lab", Exchange: "x", Key: "k",
			Published: time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC), Body: []byte("{}")}, Queue: "q", Attempt: 2}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		got, _ = next(t.Context(), s)
		if want := (sealmq.Delivery{Message: sealmq.Message{ID: "b", Body: []byte("{}")}, Queue: "q"}); !cmp.Equal(want, got) {
			t.Errorf("without a meta line: %+v", got)
		}
		p.Send("Meta: {\n")
		if line, err := p.In.ReadString('\n'); err == nil {
			t.Errorf("a broken meta line is believed: %q", line)
		}
	})
}

func TestNackAndDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := fakebroker.New(t).Open(client.Config{})
		s := consume(t, c, p)
		for _, err := range []error{
			s.Nack(0, of("a")...),
			s.Nack(90*time.Second, of("b")...),
			s.Dead("cannot be opened:\n the key ", of("c")...),
			s.Dead("", of("d")...),
			s.Dead(strings.Repeat("é", 200), of("e")...),
		} {
			if err != nil {
				t.Error(err)
			}
		}
		p.Expect("nack a", "nack b delay 1m30s", "nack c dead cannot be opened: the key", "nack d dead",
			"nack e dead "+strings.Repeat("é", 127))
		p.Send("NACK_CONFIRMED a\nNACK_CONFIRMED b\nNACK_CONFIRMED c\nNACK_CONFIRMED d\nError bad_argument: what\n")
		if err := c.Flush(t.Context()); err != nil {
			t.Error(err)
		}
		for _, err := range []error{s.Nack(-1, of("a")...), s.Nack(25*time.Hour, of("a")...), s.Nack(0, of("a b")...), s.Ack(of("a\nack b")...)} {
			if sealmq.CodeOf(err) == "" {
				t.Errorf("taken: %v", err)
			}
		}
		p.Silent()
	})
}

func TestSubscriptionSurvivesReconnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := fakebroker.New(t)
		c, p := f.Open(client.Config{})
		s := consume(t, c, p)
		p.Send("Message: a {}\nMessage: b {}\n")
		expectNext(t, s, "a", "{}")
		acked := make(chan error)
		go func() { acked <- s.AckWait(t.Context(), of("a")...) }()
		p.Expect("ack a")
		p.Conn.Close()
		if err := <-acked; !errors.Is(err, client.ErrInterrupted) {
			t.Errorf("ack: %v", err)
		}
		synctest.Wait()
		// The ack has nothing to settle now; b was never handed out and comes again.
		if err := s.Ack(of("a")...); err != nil {
			t.Error(err)
		}
		if err := s.AckWait(t.Context(), of("a")...); !errors.Is(err, client.ErrInterrupted) {
			t.Errorf("ack without a connection: %v", err)
		}
		p = f.Accept()
		p.Expect("meta ends", "prefetch 2", "consume q")
		p.Send("Meta ends\nPrefetch 2\nSubscribed to queue\nMessage: a {}\nMessage: b {}\n")
		expectNext(t, s, "a", "{}")
		expectNext(t, s, "b", "{}")
		p.Silent()
		if err := c.Flush(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestConsumeRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := fakebroker.New(t).Open(client.Config{})
		go func() {
			p.Expect("meta ends", "consume q")
			p.Send("Meta ends\nError bad_argument: something\n")
		}()
		if _, err := c.Consume(t.Context(), "q", 0); err == nil || !strings.Contains(err.Error(), "something") {
			t.Error(err)
		}
		s := consume(t, c, p) // another attempt is free
		if _, err := c.Consume(t.Context(), "other", 0); sealmq.CodeOf(err) != sealmq.InUse {
			t.Errorf("second queue: %v", err)
		}
		if _, err := c.Consume(t.Context(), "a b", 0); sealmq.CodeOf(err) != sealmq.BadName {
			t.Errorf("bad name: %v", err)
		}
		if _, err := c.Consume(t.Context(), "q", sealmq.MaxPrefetch+1); sealmq.CodeOf(err) != sealmq.BadArgument {
			t.Errorf("bad prefetch: %v", err)
		}
		c.Close()
		if _, err := next(t.Context(), s); !errors.Is(err, client.ErrClosed) {
			t.Errorf("after close: %v", err)
		}
	})
}

func TestConsumeIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := fakebroker.New(t)
		c, p := f.Open(client.Config{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		got := make(chan error)
		go func() { _, err := c.Consume(ctx, "q", 0); got <- err }()
		p.Expect("meta ends", "consume q")
		if err := <-got; !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		p.Gone()
		p = f.Accept() // without a subscription
		consume(t, c, p)
	})
}

func TestConsumeWhileTheConnectionIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := fakebroker.New(t)
		c, p := f.Open(client.Config{})
		got := make(chan error)
		go func() { _, err := c.Consume(t.Context(), "q", 0); got <- err }()
		p.Expect("meta ends", "consume q")
		p.Conn.Close()
		p = f.Accept()
		p.Expect("meta ends", "consume q")
		p.Send("Meta ends\nSubscribed to queue\n")
		if err := <-got; err != nil {
			t.Error(err)
		}
	})
}

// An application that does not take its deliveries gets them again and again when their
// ack timeout is over. The oldest are no longer its own.
func TestSlowConsumerHoldsNoMoreThanThePrefetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := fakebroker.New(t).Open(client.Config{})
		s := consume(t, c, p)
		for i := range 1000 {
			p.Send(fmt.Sprintf("Message: m%d {}\n", i))
		}
		synctest.Wait()
		expectNext(t, s, "m998", "{}")
		expectNext(t, s, "m999", "{}")
	})
}

func TestPublishAndConsumeOnOneConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := fakebroker.New(t).Open(client.Config{})
		s := consume(t, c, p)
		r := newResults()
		r.publish(t, c, "a")
		p.Expect(lines("a")...)
		p.Send("Message: a {}\nACK a\n")
		expectNext(t, s, "a", "{}")
		if err := s.Ack(of("a")...); err != nil {
			t.Error(err)
		}
		p.Expect("ack a")
		p.Send("ACK_CONFIRMED a\n")
		c.Flush(t.Context())
		r.expect(t, "a")
	})
}

func TestSetPrefetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := fakebroker.New(t)
		c, p := f.Open(client.Config{})
		s := consume(t, c, p)
		p.Send("Message: a {}\nMessage: b {}\n")
		if err := s.SetPrefetch(1); err != nil {
			t.Error(err)
		}
		if err := s.Ack(of("a")...); err != nil {
			t.Error(err)
		}
		p.Expect("prefetch 1", "ack a")
		p.Send("Prefetch 1\nACK_CONFIRMED a\n")
		expectNext(t, s, "a", "{}") // what was handed out stays
		expectNext(t, s, "b", "{}")
		for _, n := range []int{0, -1, sealmq.MaxPrefetch + 1} {
			if err := s.SetPrefetch(n); sealmq.CodeOf(err) != sealmq.BadArgument {
				t.Errorf("%d: %v", n, err)
			}
		}
		p.Conn.Close()
		p = f.Accept()
		p.Expect("meta ends", "prefetch 1", "consume q")
		p.Send("Meta ends\nPrefetch 1\nSubscribed to queue\n")
		synctest.Wait()
	})
}

// Acknowledgements and commands that nobody answers do not fill the memory.
func TestUnansweredAcksAndCommandsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := fakebroker.New(t).Open(client.Config{Heartbeat: time.Hour})
		s := consume(t, c, p)
		taken := 0
		acked := make(chan error)
		go func() {
			for {
				if err := s.Ack(of("a")...); err != nil {
					acked <- err
					return
				}
				taken++
			}
		}()
		synctest.Wait()
		if taken != client.MaxPendingAcks {
			t.Errorf("%d acknowledgements wait", taken)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		commands := make(chan error, client.MaxPendingCommands+1)
		for range client.MaxPendingCommands + 1 {
			go func() { _, err := c.Command(ctx, "stats"); commands <- err }()
		}
		for range client.MaxPendingCommands + 1 {
			if err := <-commands; !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("command: %v", err)
			}
		}
		c.Close()
		if err := <-acked; !errors.Is(err, client.ErrClosed) {
			t.Errorf("ack: %v", err)
		}
	})
}

// TestCloseReleasesWhatCameWithTheAnswer: a message may come in the same read as the answer
// that Close waits for.
func TestCloseReleasesWhatCameWithTheAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := fakebroker.New(t).Open(client.Config{})
		s := consume(t, c, p)
		// The read is done with only when Close has gone as far as it can.
		err := c.PublishAsync(t.Context(), sealmq.Message{Exchange: "x", Key: "k", ID: "p", Body: []byte("{}")}, func(error) { synctest.Wait() })
		if err != nil {
			t.Fatal(err)
		}
		closed := make(chan error, 1)
		go func() { closed <- s.Close(t.Context()) }()
		p.In.ReadString('\n')
		p.Expect("prefetch 0", "ping")
		p.Send("Message: a {}\nACK p\nPrefetch 0\nPong\n")
		p.Expect("release a")
		p.Send("RELEASE_CONFIRMED a\n")
		if err := <-closed; err != nil {
			t.Error(err)
		}
	})
}
