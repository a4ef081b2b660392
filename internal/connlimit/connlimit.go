// Package connlimit bounds the connections of a listener, so that peers that hold theirs for
// nothing cannot keep others out: at the limit a new connection takes the place of one that
// waits for its peer.
package connlimit

import (
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Table has a place for each connection.
type Table struct {
	max      int
	patience time.Duration
	began    time.Time
	freed    chan struct{} // has a value after a place became free
	made     atomic.Uint64 // how often one made room

	mu     sync.Mutex
	places []*Place
	peers  map[netip.Addr]*peer
}

// peer is an address with at least one place. The lock of the table guards it.
type peer struct {
	places int
	turns  chan struct{} // of Turns
}

// Place is the place of one connection. At first the connection is idle, and its peer is a
// stranger.
type Place struct {
	table *Table
	addr  netip.Addr
	peer  *peer
	close func()
	index int // in the table; -1 once it is not there any more

	known     atomic.Bool
	busy      atomic.Bool
	since     atomic.Int64 // when it became busy or idle, counted from Table.began
	displaced atomic.Bool
}

// New returns a table for at most max connections. A busy one keeps its place for at least
// patience.
func New(max int, patience time.Duration) *Table {
	return &Table{max: max, patience: patience, began: time.Now(), freed: make(chan struct{}, 1), peers: make(map[netip.Addr]*peer)}
}

// Add takes a place for a connection from an address. If all are taken, it calls the function
// close of the connection that makes room: of strangers rather than of known peers, of the
// address with the most places, and there the one that has been idle for longest. Only if none
// is idle, it is the one that has been busy for longest. Add returns nil if all are busy and
// none for longer than the patience of the table. The function close must not block.
func (t *Table) Add(addr net.Addr, close func()) *Place {
	p := &Place{table: t, addr: addressOf(addr), close: close}
	p.since.Store(t.now())
	t.mu.Lock()
	var last *Place
	if len(t.places) >= t.max {
		if last = t.last(); last == nil {
			t.mu.Unlock()
			return nil
		}
		last.displaced.Store(true)
		t.remove(last)
		t.made.Add(1)
	}
	if p.peer = t.peers[p.addr]; p.peer == nil {
		p.peer = new(peer)
		t.peers[p.addr] = p.peer
	}
	p.peer.places++
	p.index = len(t.places)
	t.places = append(t.places, p)
	t.mu.Unlock()
	if last != nil {
		last.close()
	}
	return p
}

func (t *Table) now() int64 { return int64(time.Since(t.began)) }

// last is the place whose connection makes room; nil if none may.
func (t *Table) last() (last *Place) {
	patient := t.now() - int64(t.patience)
	for _, p := range t.places {
		if p.busy.Load() && p.since.Load() > patient {
			continue
		}
		if last == nil || p.before(last) {
			last = p
		}
	}
	return last
}

// before reports whether p makes room before q does.
func (p *Place) before(q *Place) bool {
	if a, b := p.known.Load(), q.known.Load(); a != b {
		return b
	}
	if p.peer != q.peer && p.peer.places != q.peer.places {
		return p.peer.places > q.peer.places
	}
	if a, b := p.busy.Load(), q.busy.Load(); a != b {
		return b
	}
	return p.since.Load() < q.since.Load()
}

func (t *Table) remove(p *Place) {
	end := len(t.places) - 1
	t.places[p.index] = t.places[end]
	t.places[p.index].index = p.index
	t.places[end] = nil
	t.places = t.places[:end]
	p.index = -1
	if p.peer.places--; p.peer.places == 0 {
		delete(t.peers, p.addr)
	}
}

// Len is how many places are taken.
func (t *Table) Len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.places)
}

// Displaced is how many connections have made room for another one.
func (t *Table) Displaced() uint64 { return t.made.Load() }

// Idle says that the connection waits for its peer.
func (p *Place) Idle() { p.set(false) }

// Busy says that the connection does something for its peer.
func (p *Place) Busy() { p.set(true) }

func (p *Place) set(busy bool) {
	p.since.Store(p.table.now())
	p.busy.Store(busy)
}

// Known says that the peer is no stranger.
func (p *Place) Known() { p.known.Store(true) }

// Turns has room for n of the connections of one address, so that they can take turns. The first
// call for an address says how many.
func (p *Place) Turns(n int) chan struct{} {
	p.table.mu.Lock()
	defer p.table.mu.Unlock()
	if p.peer.turns == nil {
		p.peer.turns = make(chan struct{}, n)
	}
	return p.peer.turns
}

// Displaced reports whether the connection has made room for another one.
func (p *Place) Displaced() bool { return p.displaced.Load() }

// Leave gives the place back. It may be called several times.
func (p *Place) Leave() {
	t := p.table
	t.mu.Lock()
	defer t.mu.Unlock()
	if p.index < 0 {
		return
	}
	t.remove(p)
	select {
	case t.freed <- struct{}{}:
	default:
	}
}

// addressOf is what counts as one peer. A host on an IPv6 network can use all of its 2^64 addresses.
func addressOf(addr net.Addr) netip.Addr {
	at, err := netip.ParseAddrPort(addr.String())
	if err != nil {
		return netip.Addr{}
	}
	a := at.Addr().Unmap().WithZone("")
	if a.Is6() {
		if network, err := a.Prefix(64); err == nil {
			return network.Addr()
		}
	}
	return a
}
