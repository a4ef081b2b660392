package receive_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/internal/testing/faultfs"
	"github.com/sealmq/sealmq/internal/testing/testnode"
	"github.com/sealmq/sealmq/receive"
	"github.com/sealmq/sealmq/seal"
	"github.com/sealmq/sealmq/send"
)

// ends are what alice and bob share over all restarts.
type ends struct {
	node   *testnode.Node
	signer func() (*seal.Signer, error)
	keys   *seal.Keyring
}

var bobsKey = sync.OnceValue(func() *seal.PrivateKey {
	key, err := seal.Generate(seal.DefaultSuite, 0)
	if err != nil {
		panic(err)
	}
	return key
})

func newEnds(t *testing.T, n *testnode.Node) *ends {
	t.Helper()
	leaf := n.CA.Leaf("alice", "")
	signer, err := seal.NewSigner("alice", leaf.Certificate, leaf.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := seal.NewKeyring(bobsKey())
	if err != nil {
		t.Fatal(err)
	}
	return &ends{node: n, keys: keys, signer: func() (*seal.Signer, error) { return signer, nil }}
}

func (e *ends) dial(t *testing.T, name string) *client.Client {
	t.Helper()
	return e.node.Dial(client.Config{TLS: e.node.CA.ClientTLS(name), BackoffMin: time.Millisecond, BackoffMax: 10 * time.Millisecond})
}

func (e *ends) sender(t *testing.T, c *client.Client, change func(*send.Config)) *send.Sender {
	t.Helper()
	cfg := send.Config{To: []string{"bob"}, Keys: map[string]*seal.PublicKey{"bob": bobsKey().Public()}, Signer: e.signer}
	if change != nil {
		change(&cfg)
	}
	s, err := send.New(t.Context(), c, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func (e *ends) receiver(t *testing.T, c *client.Client, ledger *receive.Ledger, change func(*receive.Config)) *receive.Receiver {
	t.Helper()
	cfg := receive.Config{Names: []string{"bob"}, Keys: e.keys, Ledger: ledger,
		Verifier: e.node.CA.Verifier()}
	if change != nil {
		change(&cfg)
	}
	r, err := receive.New(t.Context(), c, "inbox", cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (e *ends) bind(t *testing.T) {
	t.Helper()
	if err := e.node.Dial(client.Config{}).Bind(t.Context(), "inbox", "post", "bob"); err != nil {
		t.Fatal(err)
	}
}

func next(t *testing.T, r *receive.Receiver) []receive.Received {
	t.Helper()
	list, err := r.Next(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestSealedFromEndToEnd(t *testing.T) {
	inBubble(t, func(t *testing.T, e *ends) {
		e.bind(t)
		s := e.sender(t, e.dial(t, "alice"), nil)
		id, err := s.Send(t.Context(), "post", "bob", []byte("noon is fine"))
		if err != nil {
			t.Fatal(err)
		}
		to := e.dial(t, "bob")
		r := e.receiver(t, to, nil, nil)
		list := next(t, r)
		if len(list) != 1 || list[0].ID != id || string(list[0].Text) != "noon is fine" || list[0].Sender.ID != "alice" || s.Suite() != seal.DefaultSuite {
			t.Fatalf("%v", list)
		}
		if err := r.Commit(receive.Output{}, list...); err != nil {
			t.Fatal(err)
		}
		if err := to.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if st := s.Stats(); st.Taken != 1 || st.Confirmed != 1 || st.Unknown != 0 {
			t.Errorf("%+v", st)
		}
		if q, err := e.dial(t, "admin").Queue(t.Context(), "inbox"); err != nil || q.Ready+q.Unacked != 0 {
			t.Errorf("left over: %+v, %v", q, err)
		}
	})
}

// A refusal for good is the callback's affair without a spool, and stops the sender with
// one: the message waits in it until the cause is gone.
func TestRefusedMessagesStayInTheSpool(t *testing.T) {
	e := newEnds(t, testnode.Start(t, testnode.Config{}))
	c := e.dial(t, "alice")
	s := e.sender(t, c, nil)
	for range 2 {
		if _, err := s.Send(t.Context(), "post", "bob", []byte("text")); !errors.Is(err, sealmq.ErrNoExchange) {
			t.Fatalf("%v", err)
		}
	}
	spool, err := send.OpenSpool("spool", spoolOn(faultfs.New(), send.SpoolConfig{}))
	if err != nil {
		t.Fatal(err)
	}
	defer spool.Close()
	s = e.sender(t, c, func(cfg *send.Config) { cfg.Spool = spool })
	id, err := s.Send(t.Context(), "post", "bob", []byte("text"))
	if !errors.Is(err, sealmq.ErrNoExchange) || spool.Len() != 1 {
		t.Fatalf("%v, %d in the spool", err, spool.Len())
	}
	if _, err := s.Send(t.Context(), "post", "bob", []byte("text")); !errors.Is(err, send.ErrStopped) || !errors.Is(err, sealmq.ErrNoExchange) {
		t.Errorf("it goes on: %v", err)
	}
	s.Close()
	e.bind(t)
	s = e.sender(t, c, func(cfg *send.Config) { cfg.Spool = spool })
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if st := s.Stats(); st.Replayed != 1 || st.Confirmed != 1 || spool.Len() != 0 {
		t.Errorf("%+v, %d in the spool", st, spool.Len())
	}
	if list := next(t, e.receiver(t, e.dial(t, "bob"), nil, nil)); len(list) != 1 || list[0].ID != id {
		t.Errorf("%v", list)
	}
}

// What comes again is acknowledged and not shown, what is not for these eyes goes to the
// dead-letter queue, and a key that opens nothing moves nothing.
func TestReceiverSettlesWhatItDoesNotShow(t *testing.T) {
	inBubble(t, func(t *testing.T, e *ends) {
		e.bind(t)
		admin := e.node.Dial(client.Config{})
		s := e.sender(t, e.dial(t, "alice"), nil)
		for i := range 4 {
			if _, err := s.Send(t.Context(), "post", "bob", fmt.Append(nil, "text ", i)); err != nil {
				t.Fatal(err)
			}
		}
		stranger, err := seal.Generate(seal.DefaultSuite, 0)
		if err != nil {
			t.Fatal(err)
		}
		wrong := e.dial(t, "bob")
		r := e.receiver(t, wrong, nil, func(cfg *receive.Config) {
			cfg.Keys, _ = seal.NewKeyring(stranger)
			cfg.Prefetch = 4
		})
		var unopened *receive.UnopenedError
		if list, err := within(t, r, 10*time.Second); err == nil || !errors.As(r.Unopened(), &unopened) || unopened.Messages != 4 {
			t.Fatalf("%q, %v, %v", texts(list), err, r.Unopened())
		}
		wrong.Close()

		ledger := receive.NewLedger(receive.LedgerConfig{})
		var all []receive.Received
		for restart := range 2 { // the same messages twice: the first time nothing is acknowledged
			to := e.dial(t, "bob")
			r = e.receiver(t, to, ledger, nil)
			if restart == 1 {
				if _, err := s.Send(t.Context(), "post", "bob", []byte("one more")); err != nil {
					t.Fatal(err)
				}
				list := next(t, r)
				if len(list) != 1 || string(list[0].Text) != "one more" || r.Stats().Repeated != 4 {
					t.Errorf("%v, %+v", list, r.Stats())
				}
				if err := r.Dead("I do not like it", list...); err != nil {
					t.Fatal(err)
				}
				if err := to.Flush(t.Context()); err != nil {
					t.Fatal(err)
				}
				break
			}
			for len(all) < 4 {
				all = append(all, next(t, r)...)
			}
			for _, m := range all {
				if err := ledger.Commit(receive.Output{}, m.Message); err != nil {
					t.Fatal(err)
				}
			}
			to.Close()
		}
		dead, err := admin.Peek(t.Context(), "inbox.dead", 0, 10)
		if err != nil || len(dead) != 1 || dead[0].DeathReason != "I do not like it" {
			t.Errorf("dead letters: %v, %v", dead, err)
		}
		if q, err := admin.Queue(t.Context(), "inbox"); err != nil || q.Ready+q.Unacked != 0 {
			t.Errorf("left over: %+v, %v", q, err)
		}
	})
}

var points = flag.Int("points", 25, "at how many places TestAllDieAtOnce cuts the power")

// Sender, broker and receiver lose their power at once, at any operation of any of their
// disks, and come back to what a crash left. In the end the output has each line once, in
// order as far as the disks have kept it.
func TestAllDieAtOnce(t *testing.T) {
	const lines = 100
	total := runAll(t, newWorld(t), lines, 0, 0)
	t.Logf("there are %d places", total)
	n := min(*points, total)
	if testing.Short() {
		n = min(n, 5)
	}
	for i := range n {
		at := 1 + i*total/n
		mode := faultfs.CrashModes[i%len(faultfs.CrashModes)]
		t.Run(fmt.Sprintf("%d/%v", at, mode), func(t *testing.T) {
			w := newWorld(t)
			runAll(t, w, lines, at, 0)
			w.crash(mode, uint64(i))
			// A second death on the way, and then peace.
			runAll(t, w, lines, at/2+1, 1)
			w.crash(mode, uint64(i)+1)
			runAll(t, w, lines, 0, 2)
			w.check(lines, mode)
		})
	}
}

// world is three machines with a disk each.
type world struct {
	t                     *testing.T
	e                     *ends
	broker, spool, output *faultfs.FS
}

func newWorld(t *testing.T) *world {
	n := testnode.Start(t, testnode.Config{})
	w := &world{t: t, e: newEnds(t, n), broker: n.FS, spool: faultfs.New(), output: faultfs.New()}
	w.e.bind(t)
	return w
}

// crash replaces every disk by what a crash leaves of it, and starts the broker.
func (w *world) crash(mode faultfs.CrashMode, seed uint64) {
	w.t.Helper()
	w.e.node.Stop()
	w.broker, w.spool, w.output = w.broker.Crash(mode, seed), w.spool.Crash(mode, seed), w.output.Crash(mode, seed)
	w.e.node.FS = w.broker
	w.e.node.Start()
}

// check compares the output with what was sent. A disk that kept the later one of two
// messages that were not confirmed, and lost the earlier one, has changed their order.
func (w *world) check(lines int, mode faultfs.CrashMode) {
	w.t.Helper()
	var want, got []string
	for i := range lines {
		want = append(want, fmt.Sprint("line ", i))
	}
	for s := bufio.NewScanner(bytes.NewReader(w.output.Get("out"))); s.Scan(); {
		got = append(got, s.Text())
	}
	if mode == faultfs.KeepRandom {
		slices.Sort(want)
		slices.Sort(got)
	}
	if d := cmp.Diff(want, got); d != "" {
		w.t.Error(d)
	}
}

// runAll sends and receives until all is done or, if die is not 0, until the power goes at
// that operation. It returns how many there were.
func runAll(t *testing.T, w *world, lines, die, seed int) (operations int) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var mu sync.Mutex
	hook := func(op faultfs.Op) *faultfs.Fault {
		if op.Mutation == 0 {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		if operations++; operations == die {
			// The broker first: what it has confirmed it must still have.
			for _, fs := range []*faultfs.FS{w.broker, w.spool, w.output} {
				fs.PowerOff()
			}
			cancel()
		}
		return nil
	}
	for _, fs := range []*faultfs.FS{w.broker, w.spool, w.output} {
		fs.Hook(hook)
		defer fs.Hook(nil)
	}
	ended := make(chan error, 2)
	go func() { ended <- w.send(ctx, lines) }()
	go func() { ended <- w.receive(ctx, lines) }()
	for range 2 {
		err := <-ended
		mu.Lock()
		died := die > 0 && operations >= die
		mu.Unlock()
		if err != nil && (!died || errors.Is(ctx.Err(), context.DeadlineExceeded)) {
			t.Errorf("seed %d: %v", seed, err)
			cancel()
		}
	}
	mu.Lock()
	defer mu.Unlock()
	return operations
}

func (w *world) client(ctx context.Context, name string) (*client.Client, error) {
	return client.Dial(ctx, client.Config{Addr: w.e.node.Addr, TLS: w.e.node.CA.ClientTLS(name), Window: 8,
		BackoffMin: time.Millisecond, BackoffMax: 10 * time.Millisecond})
}

// send sends the lines that the spool does not know of.
func (w *world) send(ctx context.Context, lines int) error {
	spool, err := send.OpenSpool("spool", spoolOn(w.spool, send.SpoolConfig{MaxBytes: 30_000}))
	if err != nil {
		return err
	}
	defer spool.Close()
	c, err := w.client(ctx, "alice")
	if err != nil {
		return err
	}
	defer c.Close()
	s, err := send.New(ctx, c, send.Config{To: []string{"bob"}, Spool: spool, Signer: w.e.signer,
		Keys: map[string]*seal.PublicKey{"bob": bobsKey().Public()}})
	if err != nil {
		return err
	}
	defer s.Close()
	from := 0
	if p := spool.Position(); p != nil {
		if _, err := fmt.Sscan(string(p), &from); err != nil {
			return err
		}
	}
	for i := from; i < lines; i++ {
		m, err := s.Seal(ctx, "post", "bob", fmt.Append(nil, "line ", i))
		if err != nil {
			return err
		}
		if err := s.Publish(ctx, m, fmt.Append(nil, i+1), nil); err != nil {
			return err
		}
	}
	return s.Flush(ctx)
}

// receive writes what comes into a file until the last line is there.
func (w *world) receive(ctx context.Context, lines int) error {
	ledger, err := receive.OpenLedger("ledger", ledgerOn(w.output, receive.LedgerConfig{}))
	if err != nil {
		return err
	}
	defer ledger.Close()
	out, err := w.output.OpenFile("out", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	o := ledger.Output()
	if err := errors.Join(out.Truncate(o.Length), out.Sync(), w.output.SyncDir(".")); err != nil {
		return err
	}
	c, err := w.client(ctx, "bob")
	if err != nil {
		return err
	}
	defer c.Close()
	r, err := receive.New(ctx, c, "inbox", receive.Config{Names: []string{"bob"}, Keys: w.e.keys, Ledger: ledger, Prefetch: 5,
		Verifier: w.e.node.CA.Verifier()})
	if err != nil {
		return err
	}
	for o.Messages < uint64(lines) {
		list, err := r.Next(ctx, 0)
		if err != nil {
			return err
		}
		var text strings.Builder
		for _, m := range list {
			fmt.Fprintf(&text, "%s\n", m.Text)
		}
		if _, err := out.WriteAt([]byte(text.String()), o.Length); err != nil {
			return err
		}
		if err := out.Sync(); err != nil {
			return err
		}
		o.Length += int64(text.Len())
		o.Messages += uint64(len(list))
		if err := r.Commit(o, list...); err != nil {
			return err
		}
	}
	return c.Flush(ctx)
}

// What the broker has no room for is sent again with the same bytes until it has, and the
// reason is told once.
func TestRetriesWithTheSameBytes(t *testing.T) {
	inBubble(t, func(t *testing.T, e *ends) {
		admin := e.node.Dial(client.Config{})
		if err := admin.DeclareQueue(t.Context(), "inbox", &sealmq.QueueOptions{MaxMessages: 2}); err != nil {
			t.Fatal(err)
		}
		e.bind(t)
		told := make(chan error, 10)
		s := e.sender(t, e.dial(t, "alice"), func(cfg *send.Config) {
			cfg.RetryMin, cfg.RetryMax = 10*time.Millisecond, 400*time.Millisecond
			cfg.Waiting = func(reason error) { told <- reason }
		})
		const total = 6
		sent := make(map[string]bool)
		var mu sync.Mutex
		for i := range total {
			err := s.SendAsync(t.Context(), "post", "bob", fmt.Append(nil, "text ", i), func(id string, err error) {
				mu.Lock()
				defer mu.Unlock()
				if sent[id] = true; err != nil {
					t.Error(err)
				}
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		if reason := <-told; sealmq.CodeOf(reason) != sealmq.QueueFull {
			t.Errorf("it waits because of %v", reason)
		}
		r := e.receiver(t, e.dial(t, "bob"), nil, nil)
		texts := make(map[string]int)
		for len(texts) < total {
			list := next(t, r)
			for _, m := range list {
				texts[string(m.Text)]++
			}
			if err := r.Commit(receive.Output{}, list...); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		for text, n := range texts {
			if n != 1 {
				t.Errorf("%q came %d times", text, n)
			}
		}
		st := s.Stats()
		if len(sent) != total || st.Confirmed != total || st.Retried == 0 || st.Waited == 0 || st.Waited > total || st.Unknown != 0 || len(told) > 0 {
			t.Errorf("%d answered, %+v, told %d times more", len(sent), st, len(told))
		}
	})
}

func TestSenderGivesUpWhenThereIsNoRoom(t *testing.T) {
	inBubble(t, func(t *testing.T, e *ends) {
		if err := e.node.Dial(client.Config{}).DeclareQueue(t.Context(), "inbox", &sealmq.QueueOptions{MaxMessages: 1}); err != nil {
			t.Fatal(err)
		}
		e.bind(t)
		s := e.sender(t, e.dial(t, "alice"), func(cfg *send.Config) {
			cfg.RetryMin, cfg.GiveUp = time.Millisecond, 50*time.Millisecond
		})
		if _, err := s.Send(t.Context(), "post", "bob", []byte("one")); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if _, err := s.Send(t.Context(), "post", "bob", []byte("two")); sealmq.CodeOf(err) != sealmq.QueueFull || !errors.Is(err, send.ErrStopped) {
				t.Errorf("%v", err)
			}
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}
