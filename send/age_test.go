package send_test

import (
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
	"github.com/sealmq/sealmq/internal/testing/fakeclock"
	"github.com/sealmq/sealmq/internal/testing/faultfs"
	"github.com/sealmq/sealmq/seal"
	"github.com/sealmq/sealmq/seal/ciphermq"
	"github.com/sealmq/sealmq/send"
)

// spooler sends what a spool holds, and seals with a suite that needs no certificate.
func spooler(t *testing.T, c *client.Client, spool *send.Spool) *send.Sender {
	t.Helper()
	key, err := seal.Generate(ciphermq.G5, 0, ciphermq.Suites{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := send.New(t.Context(), c, send.Config{To: []string{"bob"}, Keys: map[string]*seal.PublicKey{"bob": key.Public()}, Spool: spool})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// filled opens a spool that holds entries 1 to n from before.
func filled(t *testing.T, n int, cfg send.SpoolConfig) *send.Spool {
	t.Helper()
	cfg.FS = faultfs.New()
	s := openSpool(t, cfg)
	for i := range n {
		if err := s.Append(t.Context(), []send.SpoolEntry{entry(i + 1)}); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func publishLine(n int) string { return "publish x k " + string(entry(n).Body) }

func wantTooOld(t *testing.T, err error, want ...string) {
	t.Helper()
	var old *send.SpoolTooOldError
	if !errors.As(err, &old) || !errors.Is(err, client.ErrResendTooOld) {
		t.Fatalf("%v", err)
	}
	if d := cmp.Diff(want, ids(old.Entries)); d != "" {
		t.Error(d)
	}
}

// A message that an earlier process may have published is not published again once it is
// too old, also if that is so while the broker has no room for it.
func TestOldMessagesAreNotPublishedWhenThereIsRoomAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := fakeclock.New(time.Unix(1_700_000_000, 0))
		spool := filled(t, 1, send.SpoolConfig{Now: now.Now})
		now.Advance(49 * time.Minute)
		c, p := fakebroker.New(t).Open(client.Config{})
		s := spooler(t, c, spool)
		p.Expect(publishLine(1))
		p.Send("Error queue_full: queue 'q' is full\n")
		p.Expect(publishLine(1))
		now.Advance(2 * time.Minute)
		p.Send("Error queue_full: queue 'q' is full\n")
		wantTooOld(t, s.Flush(t.Context()), "id-1")
		p.Silent()
		if spool.Len() != 1 {
			t.Error("it is not in the spool any more")
		}
	})
}

// Nor when it grew too old while there was no connection, or no room in the window.
func TestOldMessagesAreNotPublishedWhenTheBrokerIsBack(t *testing.T) {
	for _, window := range []int{1, 10} {
		synctest.Test(t, func(t *testing.T) {
			f := fakebroker.New(t)
			c, p := f.Open(client.Config{Window: window})
			f.Refuse = 20
			p.Conn.Close()
			synctest.Wait()
			s := spooler(t, c, filled(t, 3, send.SpoolConfig{Horizon: time.Minute}))
			p = f.Accept()
			wantTooOld(t, s.Flush(t.Context()), "id-1", "id-2", "id-3")
			p.Silent()
		})
	}
}

// What was never published the broker cannot have, and what was renewed may come twice.
func TestMessagesThatMayBePublishedHoweverOldTheyAre(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := fakebroker.New(t)
		c, p := f.Open(client.Config{})
		f.Refuse = 20
		p.Conn.Close()
		synctest.Wait()
		spool := filled(t, 1, send.SpoolConfig{Horizon: time.Minute})
		spool.Renew("id-1")
		s := spooler(t, c, spool)
		if err := s.Publish(t.Context(), entry(2).Message, nil, nil); err != nil {
			t.Fatal(err)
		}
		p = f.Accept()
		p.Expect(publishLine(1), publishLine(2))
		// Sent now, both may be sent again within the horizon.
		p.Conn.Close()
		p = f.Accept()
		p.Expect(publishLine(1), publishLine(2))
		p.Send("ACK id-1\nACK id-2\n")
		if err := s.Flush(t.Context()); err != nil || spool.Len() != 0 {
			t.Errorf("%v, %d left", err, spool.Len())
		}
	})
}

// Without a spool the publish fails and says that nobody knows; what was not sent yet, and
// what comes later, goes on.
func TestUnconfirmedPublishesAreNotSentAgainForEver(t *testing.T) {
	for name, cfg := range map[string]client.Config{"default": {}, "configured": {ResendFor: time.Minute}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := fakebroker.New(t)
				c, p := f.Open(cfg)
				s := spooler(t, c, nil)
				answered := make(chan error, 1)
				if err := s.Publish(t.Context(), message("a"), nil, func(_ string, err error) { answered <- err }); err != nil {
					t.Fatal(err)
				}
				p.Expect(line("a"))
				f.Refuse = 20
				if cfg.ResendFor == 0 {
					f.Refuse = 700 // with pauses of 5 to 10 s
				}
				p.Conn.Close()
				synctest.Wait()
				if err := s.Publish(t.Context(), message("b"), nil, nil); err != nil {
					t.Fatal(err)
				}
				p = f.Accept()
				if err := <-answered; !errors.Is(err, client.ErrResendTooOld) || !strings.Contains(err.Error(), "not known whether it was stored") {
					t.Errorf("%v", err)
				}
				p.Expect(line("b"))
				p.Send("ACK b\n")
				if err := s.Flush(t.Context()); err != nil {
					t.Error(err)
				}
				if st := s.Stats(); st.Unknown != 1 || st.Confirmed != 1 {
					t.Errorf("%+v", st)
				}
			})
		})
	}
}

// When the clock was set back nobody knows how old what is in the spool is.
func TestSpoolAsksWhenTheClockWasSetBack(t *testing.T) {
	const start = 1_700_000_000
	now := fakeclock.New(time.Unix(start, 0))
	fs := faultfs.New()
	s := openSpool(t, spoolOn(fs, send.SpoolConfig{Now: now.Now}))
	for n := range 2 {
		if err := s.Append(t.Context(), []send.SpoolEntry{entry(n)}); err != nil {
			t.Fatal(err)
		}
		now.Advance(40 * time.Minute)
	}
	s.Close()
	for back, want := range map[time.Duration][]string{
		40*time.Minute - time.Second: nil, // a small correction
		20 * time.Minute:             {"id-0", "id-1"},
		-24 * time.Hour:              {"id-0", "id-1"},
	} {
		s := openSpool(t, spoolOn(fs, send.SpoolConfig{Now: fakeclock.New(time.Unix(start, 0).Add(back)).Now}))
		err := s.CheckAge()
		if errors.Is(err, send.ErrSpoolTooOld) != (want != nil) {
			t.Errorf("%v: %v", back, err)
		} else if want != nil {
			var old *send.SpoolTooOldError
			errors.As(err, &old)
			if d := cmp.Diff(want, ids(old.Entries)); d != "" {
				t.Errorf("%v: %s", back, d)
			}
		}
		s.Close()
	}
}

// A name that no broker takes is refused to the one who uses it, and stops nobody else.
func TestABadNameDoesNotStopASender(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := fakebroker.New(t).Open(client.Config{})
		s := spooler(t, c, nil)
		for _, m := range []sealmq.Message{{Exchange: "bad name", Key: "k", ID: "a", Body: []byte("{}")}, {Exchange: "x", Key: "bad\tkey", ID: "a", Body: []byte("{}")}} {
			if err := s.Publish(t.Context(), m, nil, nil); err == nil || errors.Is(err, send.ErrStopped) {
				t.Errorf("%q %q: %v", m.Exchange, m.Key, err)
			}
		}
		if err := s.Publish(t.Context(), message("b"), nil, nil); err != nil {
			t.Fatal(err)
		}
		p.Expect(line("b"))
		p.Send("ACK b\n")
		if err := s.Flush(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// Messages may be dropped while they are being replayed.
func TestDropWhileASenderReplays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 300
		spool := filled(t, n, send.SpoolConfig{})
		c, p := fakebroker.New(t).Open(client.Config{Window: 1})
		s := spooler(t, c, spool)
		p.Expect(publishLine(1))
		synctest.Wait()
		var drop []string
		for i := 2; i < n; i++ {
			drop = append(drop, fmt.Sprint("id-", i))
		}
		if err := spool.Drop(drop...); err != nil {
			t.Fatal(err)
		}
		p.Send("ACK id-1\n")
		p.Expect(publishLine(2)) // it was on its way
		p.Send("ACK id-2\n")
		p.Expect(publishLine(n))
		p.Send(fmt.Sprintf("ACK id-%d\n", n))
		if err := s.Flush(t.Context()); err != nil || spool.Len() != 0 {
			t.Errorf("%v, %d left", err, spool.Len())
		}
	})
}

// A broker that was away for longer than it surely remembers gets nothing again by
// itself: the sender stops, and the message waits in the spool for a decision.
func TestOldPublishesAreNotSentAgain(t *testing.T) {
	key, err := seal.Generate(ciphermq.RSA, ciphermq.MinRSABits, ciphermq.Suites{})
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		f := fakebroker.New(t)
		c, p := f.Open(client.Config{})
		spool := openSpool(t, spoolOn(faultfs.New(), send.SpoolConfig{Horizon: time.Minute}))
		s, err := send.New(t.Context(), c, send.Config{To: []string{"bob"}, Keys: map[string]*seal.PublicKey{"bob": key.Public()}, Spool: spool})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		answered := make(chan error, 2)
		done := func(_ string, err error) { answered <- err }
		if err := s.SendAsync(t.Context(), "x", "k", []byte("text"), done); err != nil {
			t.Fatal(err)
		}
		first, err := p.In.ReadString('\n')
		if err != nil || !strings.HasPrefix(first, "publish x k ") {
			t.Fatalf("%q, %v", first, err)
		}
		// Away for less than a minute: the same bytes again.
		f.Refuse = 3
		p.Conn.Close()
		p = f.Accept()
		if again, err := p.In.ReadString('\n'); again != first {
			t.Fatalf("%q, %v", again, err)
		}
		f.Refuse = 20
		p.Conn.Close()
		p = f.Accept()
		if err := <-answered; !errors.Is(err, client.ErrResendTooOld) {
			t.Errorf("%v", err)
		}
		p.Silent()
		if err := s.SendAsync(t.Context(), "x", "k", []byte("text"), nil); !errors.Is(err, send.ErrStopped) || !errors.Is(err, client.ErrResendTooOld) {
			t.Errorf("it goes on: %v", err)
		}
		if spool.Len() != 1 || spool.CheckAge() == nil {
			t.Error("the spool does not ask")
		}
	})
}
