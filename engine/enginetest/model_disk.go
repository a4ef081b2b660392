package enginetest

import (
	"sync"
	"testing"

	"github.com/sealmq/sealmq/engine"
)

// Disk keeps what a Model has stored. It is an Opener, a Crasher and a Holder.
type Disk struct {
	mu     sync.Mutex
	events []event
	synced int
	held   bool
	model  *Model
	left   int           // events until the power fails; 0: it does not
	off    chan struct{} // closed when the power has failed
}

// NewDisk returns an empty disk.
func NewDisk() *Disk { return &Disk{off: make(chan struct{})} }

// Open implements Opener.
func (d *Disk) Open(_ testing.TB, cfg Config) engine.Engine { return d.open(cfg) }

// Crash implements Crasher.
func (d *Disk) Crash(testing.TB) {
	m := d.current()
	m.mu.Lock()
	d.mu.Lock()
	d.events = d.events[:d.synced]
	d.held = false
	d.mu.Unlock()
	m.closed, m.crashed = true, true
	m.stopTimer()
	m.flush()
}

// Hold implements Holder.
func (d *Disk) Hold(testing.TB) (release func()) {
	d.hold(true)
	return func() {
		d.hold(false)
		m := d.current()
		m.mu.Lock()
		m.end()
	}
}

func (d *Disk) hold(held bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.held = held
}

func (d *Disk) current() *Model {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.model
}

// read begins the life of m and returns what it finds.
func (d *Disk) read(m *Model) []event {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.model = m
	return d.events[:len(d.events):len(d.events)]
}

func (d *Disk) append(e event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.events = append(d.events, e)
	if d.left > 0 {
		if d.left--; d.left == 0 {
			close(d.off)
		}
	}
}

func (d *Disk) isOff() bool { return isClosed(d.off) }

// isClosed is for channels that nothing is sent on.
func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func (d *Disk) len() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.events)
}

// sync makes everything durable and returns how much that is, unless the disk is held.
func (d *Disk) sync() (n int, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.held {
		return d.synced, false
	}
	d.synced = len(d.events)
	return d.synced, true
}
