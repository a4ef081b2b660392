package receive_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/internal/clock"
	"github.com/sealmq/sealmq/internal/testing/faultfs"
	"github.com/sealmq/sealmq/internal/testing/testca"
	"github.com/sealmq/sealmq/internal/testing/testnode"
	"github.com/sealmq/sealmq/receive"
	"github.com/sealmq/sealmq/seal"
	"github.com/sealmq/sealmq/send"
)

// undecidedFor answers that many times that it cannot decide.
type undecidedFor struct {
	left atomic.Int32
	seal.Verifier
}

func (u *undecidedFor) Verify(chain []*x509.Certificate, at time.Time) (seal.Sender, error) {
	if u.left.Add(-1) >= 0 {
		return seal.Sender{}, seal.ErrUndecided
	}
	return u.Verifier.Verify(chain, at)
}

// shifted is a clock that is wrong by so much.
type shifted struct{ by atomic.Int64 }

func (s *shifted) Now() time.Time { return time.Now().Add(time.Duration(s.by.Load())) }

// onLog calls a function for each line.
type onLog struct {
	slog.Handler
	f func(message string)
}

func (h onLog) Enabled(context.Context, slog.Level) bool { return true }
func (h onLog) Handle(_ context.Context, r slog.Record) error {
	h.f(r.Message)
	return nil
}

func (e *ends) sends(t *testing.T, s *send.Sender, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if _, err := s.Send(t.Context(), "post", "bob", []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
}

// garbage puts messages into the queue that are no envelopes.
func (e *ends) garbage(t *testing.T, n int) {
	t.Helper()
	c := e.dial(t, "mallory")
	for i := range n {
		id := fmt.Sprint("garbage-", i)
		if err := c.Publish(t.Context(), sealmq.Message{Exchange: "post", Key: "bob", ID: id, Body: []byte(`{"message_id":"` + id + `"}`)}); err != nil {
			t.Fatal(err)
		}
	}
}

// inbox makes bob's queue with options.
func (e *ends) inbox(t *testing.T, o sealmq.QueueOptions) {
	t.Helper()
	if err := e.node.Dial(client.Config{}).DeclareQueue(t.Context(), "inbox", &o); err != nil {
		t.Fatal(err)
	}
	e.bind(t)
}

// left is how many messages are in a queue, and 0 if there is none.
func (e *ends) left(t *testing.T, queue string) int {
	t.Helper()
	q, err := e.node.Dial(client.Config{}).Queue(t.Context(), queue)
	if err != nil && sealmq.CodeOf(err) != sealmq.NoQueue {
		t.Fatal(err)
	}
	return q.Ready + q.Unacked
}

// within is next with a bound, for what would not come.
func within(t *testing.T, r *receive.Receiver, d time.Duration) ([]receive.Received, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	return r.Next(ctx, 0)
}

func texts(list []receive.Received) string {
	var all []string
	for _, m := range list {
		all = append(all, string(m.Text))
	}
	return strings.Join(all, " ")
}

// gather takes and commits messages until there are n.
func gather(t *testing.T, r *receive.Receiver, n int) (all []receive.Received) {
	t.Helper()
	for len(all) < n {
		list, err := within(t, r, time.Minute)
		if err != nil {
			t.Fatalf("after %q: %v; %+v", texts(all), err, r.Stats())
		}
		if err := r.Commit(receive.Output{}, list...); err != nil {
			t.Fatal(err)
		}
		all = append(all, list...)
	}
	return all
}

// What time may cure comes again until it is cured, whatever the queue's delivery limit.
func TestUndecidedMessagesNeverDie(t *testing.T) {
	for name, change := range map[string]func(r *receive.Config){
		"sender": func(r *receive.Config) {
			u := &undecidedFor{Verifier: r.Verifier}
			u.left.Store(20)
			r.Verifier = u
		},
		"clock": func(r *receive.Config) {
			now, lines := new(shifted), 0
			now.by.Store(int64(-time.Hour))
			r.Now = now.Now
			r.Log = slog.New(onLog{f: func(string) {
				if lines++; lines == 20 {
					now.by.Store(0)
				}
			}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, e *ends) {
				e.inbox(t, sealmq.QueueOptions{DeliveryLimit: 2})
				e.sends(t, e.sender(t, e.dial(t, "alice"), nil), "one", "two", "three")
				rc := receive.Config{Verifier: e.node.CA.Verifier()}
				change(&rc)
				r := e.receiver(t, e.dial(t, "bob"), nil, func(cfg *receive.Config) {
					cfg.Verifier, cfg.Log, cfg.Now, cfg.UndecidedDelay = rc.Verifier, rc.Log, rc.Now, time.Millisecond
				})
				gather(t, r, 3)
				if st := r.Stats(); st.Undecided < 18 || st.Refused > 0 || e.left(t, "inbox.dead") > 0 {
					t.Errorf("%+v, %d dead", st, e.left(t, "inbox.dead"))
				}
			})
		})
	}
}

// A message that the application works on for long stays in its hands, and so does what
// waits behind it.
func TestReceiverKeepsWhatIsInHand(t *testing.T) {
	inBubble(t, func(t *testing.T, e *ends) {
		e.inbox(t, sealmq.QueueOptions{AckTimeout: 600 * time.Millisecond, DeliveryLimit: 2})
		e.sends(t, e.sender(t, e.dial(t, "alice"), nil), "one", "two", "three")
		c := e.dial(t, "bob")
		r := e.receiver(t, c, nil, nil)
		list, err := r.Next(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		over := make(chan struct{}) // of the work, which is long enough to die of the limit
		clock.System.AfterFunc(2*time.Second, func() { close(over) })
		<-over
		if err := r.Commit(receive.Output{}, list...); err != nil {
			t.Fatal(err)
		}
		gather(t, r, 2)
		if err := c.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if in, dead := e.left(t, "inbox"), e.left(t, "inbox.dead"); in+dead > 0 || r.Stats().Repeated > 0 {
			t.Errorf("%d are left, %d dead, %+v", in, dead, r.Stats())
		}
	})
}

// Of two receivers of one process that share a ledger only one shows a message, also while
// it is in hand.
func TestReceiversOfOneLedgerShareWhatIsInHand(t *testing.T) {
	inBubble(t, func(t *testing.T, e *ends) {
		e.bind(t)
		s := e.sender(t, e.dial(t, "alice"), nil)
		m, err := s.Seal(t.Context(), "post", "bob", []byte("one"))
		if err != nil {
			t.Fatal(err)
		}
		twice := func() {
			t.Helper()
			for _, queue := range []string{"inbox", "other"} {
				if err := e.node.Dial(client.Config{}).Bind(t.Context(), queue, "post", "bob"); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.Publish(t.Context(), m, nil, nil); err != nil {
				t.Fatal(err)
			}
			if err := s.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		twice()
		ledger := receive.NewLedger(receive.LedgerConfig{})
		first := e.dial(t, "bob")
		r1 := e.receiver(t, first, ledger, nil)
		list := next(t, r1)
		r2, err := receive.New(t.Context(), e.dial(t, "bob"), "other", receive.Config{Names: []string{"bob"}, Keys: e.keys, Ledger: ledger,
			UndecidedDelay: time.Millisecond, Verifier: e.node.CA.Verifier()})
		if err != nil {
			t.Fatal(err)
		}
		if shown, err := within(t, r2, 200*time.Millisecond); err == nil {
			t.Fatalf("%q is shown twice", texts(shown))
		}
		// What is given back is anybody's, and so is what a client had that has ended.
		if err := r1.Nack(time.Hour, list...); err != nil {
			t.Fatal(err)
		}
		if shown, err := within(t, r2, 10*time.Second); err != nil || texts(shown) != "one" {
			t.Fatalf("%q, %v", texts(shown), err)
		}
		if j := ledger.Judge(list[0].Message); j != receive.LedgerInHand {
			t.Errorf("in hand it is %v", j)
		}
	})
}

func TestWhatAClosedClientHadComesAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, e *ends) {
		e.bind(t)
		e.sends(t, e.sender(t, e.dial(t, "alice"), nil), "one")
		ledger := receive.NewLedger(receive.LedgerConfig{})
		for range 3 {
			c := e.dial(t, "bob")
			if list := next(t, e.receiver(t, c, ledger, nil)); texts(list) != "one" {
				t.Fatalf("%q", texts(list))
			}
			c.Close()
		}
	})
}

// Another message with the id, or the place, of one that is in hand is a conflict.
func TestConflictWithWhatIsInHand(t *testing.T) {
	inBubble(t, func(t *testing.T, e *ends) {
		e.bind(t)
		signer, err := e.signer()
		if err != nil {
			t.Fatal(err)
		}
		sealer, err := seal.NewSealer(seal.SealerConfig{Receivers: []seal.Receiver{{Name: "bob", Key: bobsKey().Public()}},
			Signer: func() (*seal.Signer, error) { return signer, nil }})
		if err != nil {
			t.Fatal(err)
		}
		// Each broker would refuse the second text; so there are two.
		nodes := []*ends{e, newEnds(t, testnode.Start(t, testnode.Config{Network: testnode.NewPipes()}))}
		nodes[1].bind(t)
		for i, n := range nodes {
			body, err := sealer.Seal(seal.Content{ID: "same", Exchange: "post", RoutingKey: "bob", Body: fmt.Append(nil, "text ", i)})
			if err != nil {
				t.Fatal(err)
			}
			if err := n.dial(t, "alice").Publish(t.Context(), sealmq.Message{Exchange: "post", Key: "bob", ID: "same", Body: body}); err != nil {
				t.Fatal(err)
			}
		}
		ledger := receive.NewLedger(receive.LedgerConfig{})
		if list := next(t, e.receiver(t, e.dial(t, "bob"), ledger, nil)); texts(list) != "text 0" {
			t.Fatalf("%q", texts(list))
		}
		other := nodes[1].receiver(t, nodes[1].dial(t, "bob"), ledger, func(cfg *receive.Config) {
			cfg.Verifier = e.node.CA.Verifier()
		})
		if list, err := within(t, other, 300*time.Millisecond); err == nil || other.Stats().Conflicts != 1 {
			t.Errorf("%q is shown, %+v", texts(list), other.Stats())
		}
	})
}

// Messages that are bad by themselves are moved, and stop nobody.
func TestGarbageStopsNobody(t *testing.T) {
	inBubble(t, func(t *testing.T, e *ends) {
		e.bind(t)
		e.garbage(t, 20)
		e.sends(t, e.sender(t, e.dial(t, "alice"), nil), "honest")
		r := e.receiver(t, e.dial(t, "bob"), nil, func(cfg *receive.Config) { cfg.Prefetch = 5 })
		if all := gather(t, r, 1); texts(all) != "honest" || r.Stats().Refused != 20 {
			t.Errorf("%q, %+v", texts(all), r.Stats())
		}
	})
}

// A key that the owner has made since is asked for before a message is refused for want of it.
func TestReceiverAsksForNewKeys(t *testing.T) {
	inBubble(t, func(t *testing.T, e *ends) {
		e.bind(t)
		alice := e.dial(t, "alice")
		fresh, err := seal.Generate(seal.DefaultSuite, 0)
		if err != nil {
			t.Fatal(err)
		}
		asked, fails := 0, errors.New("the file is being replaced")
		refused, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		r := e.receiver(t, e.dial(t, "bob"), nil, func(cfg *receive.Config) {
			cfg.DeadLetter = true
			cfg.Reload = func(context.Context) (*seal.Keyring, error) {
				switch asked++; asked {
				case 1:
					return nil, fails
				case 2:
					return e.keys, nil
				}
				return seal.NewKeyring(bobsKey(), fresh)
			}
			cfg.Log = slog.New(onLog{f: func(line string) {
				if strings.Contains(line, "is refused") {
					cancel()
				}
			}})
		})
		e.sends(t, e.sender(t, alice, nil), "old key")
		gather(t, r, 1)
		to := func(key *seal.PublicKey) *send.Sender {
			return e.sender(t, alice, func(cfg *send.Config) { cfg.Keys = map[string]*seal.PublicKey{"bob": key} })
		}
		stranger := generate(t, seal.DefaultSuite)
		e.sends(t, to(stranger), "for nobody")
		if _, err := r.Next(refused, 0); !errors.Is(err, context.Canceled) || r.Stats().Refused != 1 || asked != 2 {
			t.Fatalf("%v, asked %d times, %+v", err, asked, r.Stats())
		}
		e.sends(t, to(fresh.Public()), "new", "key")
		if all := gather(t, r, 2); asked != 3 || r.Stats().Refused != 1 {
			t.Errorf("%q, asked %d times, %+v", texts(all), asked, r.Stats())
		}
	})
}

// What is refused in a dead-letter queue stays there, is counted once, and does not keep
// anybody from the rest.
func TestReceivingFromADeadLetterQueue(t *testing.T) {
	inBubble(t, func(t *testing.T, e *ends) {
		admin := e.node.Dial(client.Config{})
		if err := admin.Bind(t.Context(), "inbox.dead", "post", "bob"); err != nil {
			t.Fatal(err)
		}
		e.garbage(t, 3)
		e.sends(t, e.sender(t, e.dial(t, "alice"), nil), "honest")
		r, err := receive.New(t.Context(), e.dial(t, "bob"), "inbox.dead", receive.Config{Names: []string{"bob"}, Keys: e.keys,
			UndecidedDelay: 20 * time.Millisecond, Verifier: e.node.CA.Verifier()})
		if err != nil {
			t.Fatal(err)
		}
		gather(t, r, 1)
		before, err := admin.Queue(t.Context(), "inbox.dead")
		if err != nil {
			t.Fatal(err)
		}
		if list, err := within(t, r, 10*time.Second); err == nil {
			t.Fatalf("%q", texts(list))
		}
		after, err := admin.Queue(t.Context(), "inbox.dead")
		if err != nil {
			t.Fatal(err)
		}
		if n := after.Delivered - before.Delivered; n == 0 || n > 3*4 { // after 1, 3, 7 seconds
			t.Errorf("in ten seconds %d deliveries", n)
		}
		if st := r.Stats(); st.Stayed != 3 || st.Refused != 0 || e.left(t, "inbox.dead") != 3 {
			t.Errorf("%+v, %d are left", st, e.left(t, "inbox.dead"))
		}
	})
}

// silent swallows what is written once it is told to.
type silent struct {
	net.Conn
	now *atomic.Bool
}

func (s silent) Write(p []byte) (int, error) {
	if s.now.Load() {
		return len(p), nil
	}
	return s.Conn.Write(p)
}

// The end of Next's context ends the search for a sender's certificates, and the messages
// are the next call's.
func TestNextEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := testnode.NewPipes()
		ca := testca.New(t)
		n := testnode.Start(t, testnode.Config{CA: ca, Network: network, Directory: testnode.NewDirectory(t, ca)})
		e := newEnds(t, n)
		e.bind(t)
		alice := e.dial(t, "alice")
		if _, err := alice.Whoami(t.Context()); err != nil { // so that it can leave its certificates
			t.Fatal(err)
		}
		e.sends(t, e.sender(t, alice, nil), "one", "two", "three")
		var hole atomic.Bool
		c := n.Dial(client.Config{TLS: n.CA.ClientTLS("bob"), BackoffMin: time.Millisecond,
			Dial: func(ctx context.Context, _, addr string) (net.Conn, error) {
				conn, err := network.Dial(ctx, "tcp", addr)
				return silent{conn, &hole}, err
			}})
		r := e.receiver(t, c, nil, nil)
		delivered := func() bool { return c.Stats().Delivered == 3 }
		for !delivered() {
			if err := c.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Whoami(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		hole.Store(true)
		began := time.Now()
		if list, err := within(t, r, 200*time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("%q, %v", texts(list), err)
		}
		if took := time.Since(began); took != 200*time.Millisecond {
			t.Errorf("it took %v", took)
		}
		hole.Store(false)
		if st := r.Stats(); st.Undecided != 0 {
			t.Errorf("%+v", st)
		}
	})
}

// What a receiver was sent and has not settled goes back uncounted: starting and stopping
// does not bring messages to the dead-letter queue.
func TestGivingBackIsNoDelivery(t *testing.T) {
	inBubble(t, func(t *testing.T, e *ends) {
		e.bind(t)
		s := e.sender(t, e.dial(t, "alice"), nil)
		const n = 20
		for i := range n {
			if err := s.SendAsync(t.Context(), "post", "bob", fmt.Appendf(nil, "letter %d", i), nil); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		for range 2 * sealmq.DefaultDeliveryLimit {
			c := e.dial(t, "bob")
			r := e.receiver(t, c, nil, nil)
			if _, err := r.Next(t.Context(), 3); err != nil {
				t.Fatal(err)
			}
			if err := r.GiveBack(t.Context()); err != nil {
				t.Fatal(err)
			}
			c.Close()
		}
		list := next(t, e.receiver(t, e.dial(t, "bob"), nil, nil))
		if string(list[0].Text) != "letter 0" {
			t.Errorf("the first is %q", list[0].Text)
		}
		if q, err := e.dial(t, "admin").Queue(t.Context(), "inbox"); err != nil || q.Ready+q.Unacked != n || q.DeadLettered != 0 {
			t.Errorf("%+v, %v", q, err)
		}
	})
}

// A message is acknowledged when the ledger has it, and not before: after a ledger that
// failed it comes again.
func TestNothingIsAcknowledgedBeforeTheLedger(t *testing.T) {
	e := newEnds(t, testnode.Start(t, testnode.Config{}))
	e.bind(t)
	e.sends(t, e.sender(t, e.dial(t, "alice"), nil), "one")
	fs := faultfs.New()
	ledger := openLedger(t, fs)
	c := e.dial(t, "bob")
	r := e.receiver(t, c, ledger, nil)
	list := next(t, r)
	fs.PowerOff()
	if err := r.Commit(receive.Output{}, list...); err == nil {
		t.Fatal("committed without a disk")
	}
	if err := c.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := e.left(t, "inbox"); n != 1 {
		t.Fatalf("%d are left", n)
	}
	c.Close()
	if list := next(t, e.receiver(t, e.dial(t, "bob"), openLedger(t, fs.Crash(faultfs.DropUnsynced, 0)), nil)); texts(list) != "one" {
		t.Errorf("%q", texts(list))
	}
}
