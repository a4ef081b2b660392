package protocol

import (
	"math"
	"sync"
	"sync/atomic"
)

// Budget bounds what all connections together hold in read buffers, in replies that were
// not written yet and in deliveries on their way. Nobody waits for memory: a connection
// that wants more than there is makes do with less, or is refused.
//
// How much one connection may hold depends on what is free: what its identity and the
// connection itself hold is subtracted once more from the free rest. Some memory always
// stays free: a hundred greedy connections of one identity leave for a new one as much as
// each of them has, and for another identity half of everything.
//
// A few KiB that every connection needs to make progress are not counted.
type Budget struct {
	limit   int64
	used    atomic.Int64
	refused atomic.Uint64

	mu     sync.Mutex
	shares map[string]*share
}

// share is the part of one identity.
type share struct {
	used        atomic.Int64
	connections int // under Budget.mu
}

// NewBudget returns a budget of that many bytes.
func NewBudget(limit int64) *Budget {
	return &Budget{limit: limit, shares: make(map[string]*share)}
}

// Limit is how many bytes there are.
func (b *Budget) Limit() int64 { return b.limit }

// Used is how many bytes are held.
func (b *Budget) Used() int64 { return b.used.Load() }

// Refusals is how often a connection asked for memory that there was not.
func (b *Budget) Refusals() uint64 { return b.refused.Load() }

// Join returns the part of one more connection of an identity, unless the identity has
// so many already.
func (b *Budget) Join(identity string, most int) (*Memory, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.shares[identity]
	if s == nil {
		s = new(share)
		b.shares[identity] = s
	}
	if s.connections >= most {
		return nil, false
	}
	s.connections++
	return &Memory{budget: b, share: s, identity: identity}, true
}

// Memory is what one connection holds of a Budget; nil has no bound. Its methods do not
// block and are safe for concurrent use.
type Memory struct {
	budget   *Budget
	share    *share
	identity string

	mu     sync.Mutex
	used   int64
	closed bool
}

// Reserve takes n bytes if there is room for them.
func (m *Memory) Reserve(n int) bool {
	if m == nil {
		return true
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return false
	}
	m.add(int64(n))
	if m.free() < 0 {
		m.add(-int64(n))
		m.budget.refused.Add(1)
		return false
	}
	return true
}

// Add takes n bytes, or gives them back if n is negative, without asking.
func (m *Memory) Add(n int) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.closed {
		m.add(int64(n))
	}
}

// Room is how many bytes there are to take, below zero if more were taken than there
// were.
func (m *Memory) Room() int {
	if m == nil {
		return math.MaxInt
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return int(m.free())
}

func (m *Memory) free() int64 {
	return m.budget.limit - m.budget.used.Load() - m.share.used.Load() - m.used
}

func (m *Memory) add(n int64) {
	m.used += n
	m.share.used.Add(n)
	m.budget.used.Add(n)
}

// Close gives everything back; later calls have no effect.
func (m *Memory) Close() {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return
	}
	m.add(-m.used)
	m.closed = true
	m.budget.mu.Lock()
	defer m.budget.mu.Unlock()
	if m.share.connections--; m.share.connections == 0 {
		delete(m.budget.shares, m.identity)
	}
}
