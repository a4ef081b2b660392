package enginetest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
	"github.com/sealmq/sealmq/internal/testing/fakeclock"
)

// Machine is what an engine runs on, as far as it can lose its power.
type Machine interface {
	// Open opens the engine over what earlier ones stored.
	Open(cfg Config) (engine.Engine, error)
	// PowerOffAt has the power fail at the n-th change of the storage from now on: that
	// change and all that follow fail.
	PowerOffAt(n int)
	// Off is closed when the power has failed.
	Off() <-chan struct{}
	// Reboot cuts the power, if it is still on, and gives it back. Of what was not synced
	// anything may be lost; the seed says what. When it returns, every call of the engine
	// that was open has been answered.
	Reboot(seed uint64)
}

// Inspector is a Machine that can tell more than the contract.
type Inspector interface {
	// Intact returns an error if the engine, which was opened after an orderly stop, found
	// anything out of order.
	Intact(e engine.Engine) error
}

// World is an engine on a Machine, with clients that use it. It notes what they were
// promised: what must be there, what must be gone, and what may be, because it was asked
// for and not answered. Check compares that with the opened engine, which must be a
// Peeker.
type World struct {
	Machine Machine
	Engine  engine.Engine // nil while there is none

	tb       testing.TB
	clock    *fakeclock.Clock
	rng      *rand.Rand
	patience time.Duration // how long Check waits for what should be there

	serial   int
	messages map[string]sealmq.Message
	stored   map[string]bool // ids that were confirmed
	copies   map[Place]*knownCopy
	transits []transit
	groups   [][]Place // copies that must be there together, or not at all
	queues   map[string]*knownQueue
	defs     map[string]*knownDefinition
	client   *client
	waiting  []*asked
}

// Place is a copy of a message in a queue.
type Place struct{ Queue, ID string }

// knownCopy is what is known of one copy.
type knownCopy struct {
	must, may bool
	leaving   bool   // something was asked that takes it away
	order     int    // among the copies of its queue
	returned  uint32 // how often it came back at least
}

// leave notes that something is asked that takes the copy away, left that it was
// granted, stay that it was not.
func (c *knownCopy) leave()         { c.must, c.leaving = false, true }
func (c *knownCopy) left()          { c.must, c.may = false, false }
func (c *knownCopy) stay(must bool) { c.must, c.leaving = must, false }

// stored notes that the copy is on the disk, or was before it was taken away.
func (c *knownCopy) stored() { c.must = c.may && !c.leaving }

// transit is a copy on its way from one queue to another: it is in one of them.
type transit struct {
	from, to Place
	must     bool
}

// knownQueue is what is known of a queue: whether it must exist, or may.
type knownQueue struct {
	must, may bool
	options   sealmq.QueueOptions
}

// knownDefinition is what a definition may be; "" is absent.
type knownDefinition struct{ values []string }

// asked is a call that is not answered yet.
type asked struct {
	what string
	ch   chan error
	ok   func()      // what its success means
	no   func(error) // what its refusal means; nil means a bug
}

// client is a session and what it holds.
type client struct {
	engine.Session
	held []sealmq.Delivery
	last map[string]int // order of the latest first delivery, by queue
}

// errWorkEnded says that the engine has stopped while clients worked.
var errWorkEnded = errors.New("the engine has stopped")

// NewWorld returns a world whose engine was never opened. The seed decides what clients
// do.
func NewWorld(tb testing.TB, m Machine, seed uint64) *World {
	return &World{
		Machine: m, tb: tb, clock: fakeclock.New(time.Unix(1_700_000_000, 0)), rng: rand.New(rand.NewPCG(seed, 77)), patience: patience,
		messages: map[string]sealmq.Message{}, stored: map[string]bool{}, copies: map[Place]*knownCopy{},
		queues: map[string]*knownQueue{}, defs: map[string]*knownDefinition{},
	}
}

// Open opens the engine without checking anything.
func (w *World) Open() error {
	e, err := w.Machine.Open(Config{Clock: w.clock, DedupWindow: 1000 * time.Hour})
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	w.Engine, w.client = e, nil
	return nil
}

// Close stops the engine in order.
func (w *World) Close() error {
	if w.Engine == nil {
		return nil
	}
	w.closeSession()
	err := errors.Join(w.Engine.Close(), w.settle())
	w.Engine = nil
	return err
}

// Reboot cuts the power and gives it back.
func (w *World) Reboot(seed uint64) {
	w.Machine.Reboot(seed)
	_ = w.settle()
	w.Engine, w.client = nil, nil
}

func (w *World) isOff() bool { return isClosed(w.Machine.Off()) }

// Message returns a message that was published.
func (w *World) Message(id string) (sealmq.Message, bool) {
	m, ok := w.messages[id]
	return m, ok
}

// Promised lists the copies that must be there.
func (w *World) Promised() (list []Place) {
	for p, c := range w.copies {
		if c.must {
			list = append(list, p)
		}
	}
	return list
}

// isDown reports whether an error says that the store has stopped.
func isDown(err error) bool { return sealmq.CodeOf(err) == sealmq.Unavailable }

// ask begins a call.
func (w *World) ask(what string, ok func(), no func(error), call func(done func(error))) {
	a := &asked{what: what, ch: make(chan error, 2), ok: ok, no: no}
	call(func(err error) { a.ch <- err })
	w.waiting = append(w.waiting, a)
}

// settle waits for all answers and takes note of them. It returns the first that says
// that the store has stopped.
func (w *World) settle() error {
	var down error
	for _, a := range w.waiting {
		var err error
		select {
		case err = <-a.ch:
		case <-time.After(w.patience):
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
