package local_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
	"github.com/sealmq/sealmq/engine/local"
	"github.com/sealmq/sealmq/internal/clock"
	"github.com/sealmq/sealmq/internal/testing/faultfs"
)

// world is one store with the clients that use it. It notes what they were promised:
// what must be there, what must be gone, and of what was asked and not answered, what
// may be. check compares that with an opened store.
type world struct {
	tb    testing.TB
	fs    *faultfs.FS
	clock *clock.Fake
	rng   *rand.Rand
	e     *local.Engine
	// segment is the size of segments, and configure changes what else the store is
	// opened with.
	segment   int
	configure func(*local.Config)

	serial   int
	messages map[string]sealmq.Message
	stored   map[string]bool // ids that were confirmed
	copies   map[place]*copyOf
	pairs    []pair
	groups   [][]place // copies that must be there together, or not at all
	queues   map[string]*named
	defs     map[string]*defined
	session  *consumer
	waiting  []*asked
	// Where the journal of a stopped store ends.
	lastFile string
	lastEnd  int64
}

type place struct{ queue, id string }

// copyOf is what is known of one copy in one queue.
type copyOf struct {
	must, may bool
	leaving   bool   // something was asked that takes it away
	order     int    // among the copies of its queue
	returned  uint32 // how often it came back at least
}

// leave notes that something is asked that takes the copy away, left that it was
// granted.
func (c *copyOf) leave() { c.must, c.leaving = false, true }
func (c *copyOf) left()  { c.must, c.may = false, false }

// stay notes that it was not granted.
func (c *copyOf) stay(must bool) { c.must, c.leaving = must, false }

// stored notes that the copy is on the disk, or was before it was taken away.
func (c *copyOf) stored() { c.must = c.may && !c.leaving }

// pair is a copy on its way from one queue to another: it is in one of them.
type pair struct {
	from, to place
	must     bool
}

// named is what is known of a queue: whether it must exist, or may.
type named struct {
	must, may bool
	options   sealmq.QueueOptions
}

// defined is what a definition may be; "" is absent.
type defined struct{ values []string }

// asked is a call that is not answered yet.
type asked struct {
	what string
	ch   chan error
	ok   func()      // what its success means
	no   func(error) // what its refusal means; nil means a bug
}

// consumer is a session and what it holds.
type consumer struct {
	engine.Session
	held []sealmq.Delivery
	last map[string]int // order of the latest first delivery, by queue
}

const worldDir = "data/store"

var errStopped = errors.New("the store has stopped")

func newWorld(tb testing.TB, seed uint64) *world {
	return &world{
		tb: tb, fs: faultfs.New(), clock: clock.NewFake(time.Unix(1_700_000_000, 0)), segment: 16 << 10,
		rng: rand.New(rand.NewPCG(seed, 77)), messages: map[string]sealmq.Message{}, stored: map[string]bool{},
		copies: map[place]*copyOf{}, queues: map[string]*named{}, defs: map[string]*defined{},
	}
}

// open opens the store without checking anything.
func (w *world) open() error {
	cfg := local.Config{
		Dir: worldDir, FS: w.fs, SegmentBytes: w.segment, CacheBytes: 2 << 10, Clock: w.clock,
		DedupWindow: 1000 * time.Hour,
	}
	if w.configure != nil {
		w.configure(&cfg)
	}
	e, err := local.Open(cfg)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	w.e = e
	return nil
}

// close stops the store in order.
func (w *world) close() error {
	if w.e == nil {
		return nil
	}
	if w.session != nil {
		w.closeSession()
	}
	err := w.e.Close()
	return errors.Join(err, w.settle())
}

// crash cuts the power; what is left is the world's file system from now on.
func (w *world) crash(mode faultfs.CrashMode, seed uint64) {
	left := w.fs.Crash(mode, seed)
	if w.e != nil {
		_ = w.e.Close()
	}
	_ = w.settle()
	w.fs, w.e, w.session = left, nil, nil
}

// isDown reports whether an error says that the store has stopped.
func isDown(err error) bool { return sealmq.CodeOf(err) == sealmq.Unavailable }

// ask begins a call.
func (w *world) ask(what string, ok func(), no func(error), call func(done func(error))) {
	a := &asked{what: what, ch: make(chan error, 2), ok: ok, no: no}
	call(func(err error) { a.ch <- err })
	w.waiting = append(w.waiting, a)
}

// settle waits for all answers and takes note of them. It returns the first that says
// that the store has stopped.
func (w *world) settle() error {
	var down error
	for _, a := range w.waiting {
		var err error
		select {
		case err = <-a.ch:
		case <-time.After(time.Minute):
			w.tb.Errorf("%s was not answered", a.what)
			continue
		}
		switch {
		case err == nil:
			a.ok()
		case isDown(err):
			down = errors.Join(down, fmt.Errorf("%s: %w", a.what, err))
		case a.no != nil:
			a.no(err)
		default:
			w.tb.Errorf("%s: %v", a.what, err)
		}
		if len(a.ch) > 0 {
			w.tb.Errorf("%s was answered twice", a.what)
		}
	}
	w.waiting = nil
	return down
}

func (w *world) at(queue, id string) *copyOf {
	p := place{queue, id}
	if w.copies[p] == nil {
		w.serial++
		w.copies[p] = &copyOf{order: w.serial}
	}
	return w.copies[p]
}

func (w *world) declare(name string, o sealmq.QueueOptions) {
	q := w.queues[name]
	if q == nil || !q.may {
		q = &named{may: true, options: o.Normalize()}
		w.queues[name] = q
	}
	w.ask("declare "+name, func() { q.must = true }, w.refusal(func() { q.may = q.must }), func(done func(error)) {
		w.e.DeclareQueue(name, o, engine.AllFields, func(_ engine.QueueInfo, _ bool, err error) { done(err) })
	})
}

// refusal is for calls that a full disk may refuse.
func (w *world) refusal(then func()) func(error) {
	return func(err error) {
		if sealmq.CodeOf(err) != sealmq.NoStorage {
			w.tb.Errorf("refused with %v", err)
		}
		if then != nil {
			then()
		}
	}
}

func (w *world) deleteQueue(name string) {
	q := w.queues[name]
	q.must = false
	var was []*copyOf
	for p, c := range w.copies {
		if p.queue == name && c.may {
			c.leave()
			was = append(was, c)
		}
	}
	w.ask("delete "+name, func() {
		q.may = false
		for _, c := range was {
			c.left()
		}
	}, nil, func(done func(error)) { w.e.DeleteQueue(name, 0, func(_ int, err error) { done(err) }) })
}

// newMessage makes a message that is unlike any other.
func (w *world) newMessage() sealmq.Message {
	w.serial++
	n := w.rng.IntN(150)
	if w.rng.IntN(6) == 0 {
		n = 300 + w.rng.IntN(1800)
	}
	m := sealmq.Message{
		ID: fmt.Sprintf("id-%d", w.serial), Exchange: "x", Key: fmt.Sprint("k", w.serial%3), Publisher: "p",
		Published: w.clock.Now(),
		Body:      append([]byte(fmt.Sprintf("body-%d ", w.serial)), bytes.Repeat([]byte{byte(w.serial)}, n)...),
	}
	if w.serial%5 == 0 {
		m.Properties = []byte("props")
	}
	return m
}

// publish publishes messages to queues, all in one batch.
func (w *world) publish(n int, queues ...string) {
	var batch []engine.Publish
	var places [][]place
	for range n {
		m := w.newMessage()
		w.messages[m.ID] = m
		var list []place
		for _, q := range queues {
			w.at(q, m.ID).may = true
			list = append(list, place{q, m.ID})
		}
		batch = append(batch, engine.Publish{Message: m, Queues: queues})
		places = append(places, list)
		w.groups = append(w.groups, list)
	}
	var results []engine.PublishResult
	w.ask(fmt.Sprintf("publish %d to %s", n, queues), func() {
		for i, r := range results {
			for _, p := range places[i] {
				c := w.copies[p]
				switch r.Outcome {
				case engine.Stored:
					c.stored()
					w.stored[p.id] = true
				case engine.Refused:
					c.may = false
					code := sealmq.CodeOf(r.Err)
					if code == sealmq.NoQueue && !w.queues[r.Queue].must {
						continue // its declaration was refused
					}
					if code != sealmq.QueueFull && code != sealmq.NoStorage {
						w.tb.Errorf("publish %s: %v", p.id, r.Err)
					}
				default:
					w.tb.Errorf("publish %s: outcome %d, %v", p.id, r.Outcome, r.Err)
				}
			}
		}
	}, nil, func(done func(error)) {
		w.e.Publish(batch, func(r []engine.PublishResult) {
			results = slices.Clone(r)
			for _, one := range r {
				if isDown(one.Err) {
					done(one.Err)
					return
				}
			}
			done(nil)
		})
	})
}

// define writes one to three definitions at once.
func (w *world) define() {
	var batch []engine.Definition
	want := map[string]string{}
	for range 1 + w.rng.IntN(3) {
		key := fmt.Sprintf("def/%d", w.rng.IntN(8))
		w.serial++
		d := engine.Definition{Key: key, Value: fmt.Appendf(nil, "v%d", w.serial)}
		if w.rng.IntN(4) == 0 {
			d.Value = nil
		}
		batch = append(batch, d)
		want[key] = string(d.Value)
	}
	for key, v := range want {
		if w.defs[key] == nil {
			w.defs[key] = &defined{values: []string{""}}
		}
		w.defs[key].values = append(w.defs[key].values, v)
	}
	w.ask("define", func() {
		for key, v := range want {
			d := w.defs[key]
			i := slices.Index(d.values, v)
			d.values = d.values[i:]
		}
	}, w.refusal(nil), func(done func(error)) { w.e.Define(batch, done) })
}

// consume opens a session on some queues.
func (w *world) consume(queues ...string) {
	c := &consumer{last: map[string]int{}}
	c.Session = w.e.NewSession(engine.SessionConfig{Client: "test"})
	w.session = c
	for _, q := range queues {
		c.Consume(q, engine.ConsumeOptions{Prefetch: 5 + w.rng.IntN(40)}, func(error) {})
	}
}

// take takes deliveries and checks each.
func (w *world) take(n int) {
	list, err := w.session.Take(nil, n, 1<<20)
	if err != nil {
		w.tb.Errorf("take: %v", err)
	}
	for _, d := range list {
		if err := w.judge(d); err != nil {
			w.tb.Error(err)
			continue
		}
		c := w.copies[place{d.Queue, d.ID}]
		c.stored()
		w.pairs = slices.DeleteFunc(w.pairs, func(p pair) bool { // it has arrived
			arrived := p.to == place{d.Queue, d.ID}
			if arrived {
				w.copies[p.from].left()
			}
			return arrived
		})
		if d.Attempt == 1 && !strings.HasSuffix(d.Queue, sealmq.DeadSuffix) {
			if c.order < w.session.last[d.Queue] {
				w.tb.Errorf("%s came too late in queue %s", d.ID, d.Queue)
			}
			w.session.last[d.Queue] = c.order
		}
		w.session.held = append(w.session.held, d)
	}
}

// judge checks what can be said of one message in a queue.
func (w *world) judge(d sealmq.Delivery) error {
	m, known := w.messages[d.ID]
	c := w.copies[place{d.Queue, d.ID}]
	switch {
	case !known || c == nil:
		return fmt.Errorf("%s in queue %s was invented", d.ID, d.Queue)
	case !c.may:
		return fmt.Errorf("%s is in queue %s again, where it was gone for good", d.ID, d.Queue)
	case !bytes.Equal(m.Body, d.Body) || m.Exchange != d.Exchange || m.Key != d.Key || m.Publisher != d.Publisher ||
		!bytes.Equal(m.Properties, d.Properties) || !m.Published.Equal(d.Published):
		return fmt.Errorf("%s in queue %s has another content", d.ID, d.Queue)
	}
	return nil
}
