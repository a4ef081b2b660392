package listener

import (
	"math"
	"sync"
	"sync/atomic"
)

// memory bounds what all connections together hold in read buffers, in replies that
// were not written yet and in deliveries on their way. Nobody waits for memory: who
// wants more than there is gets along with less, or is refused.
//
// How much one connection may hold depends on what is free: no more than is left when
// what its identity and what itself holds is taken away once more from the free rest.
// So the rest never ends: a hundred greedy connections of one identity leave for a new
// one as much as each of them has, and for another identity half of everything.
//
// A few KiB that every connection needs to get anywhere are not counted.
type memory struct {
	limit   int64
	used    atomic.Int64
	refused atomic.Uint64

	mu     sync.Mutex
	shares map[string]*share
}

// share is the part of one identity.
type share struct {
	used        atomic.Int64
	connections int // under memory.mu
}

func newMemory(limit int64) *memory {
	return &memory{limit: limit, shares: make(map[string]*share)}
}

// join opens the account of one more connection of an identity, of which there may be
// most.
func (m *memory) join(identity string, most int) (*account, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.shares[identity]
	if s == nil {
		s = new(share)
		m.shares[identity] = s
	}
	if s.connections >= most {
		return nil, false
	}
	s.connections++
	return &account{memory: m, share: s, identity: identity}, true
}

// account is the part of one connection; nil is one without a bound. Its methods are
// safe for concurrent use.
type account struct {
	memory   *memory
	share    *share
	identity string

	mu     sync.Mutex
	used   int64
	closed bool
}

// reserve takes n bytes if there is room for them.
func (a *account) reserve(n int) bool {
	if a == nil {
		return true
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return false
	}
	a.add(int64(n))
	if a.free() < 0 {
		a.add(-int64(n))
		a.memory.refused.Add(1)
		return false
	}
	return true
}

// Add implements text.Memory: it takes, or with a negative number gives back, without
// asking.
func (a *account) Add(n int) {
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.closed {
		a.add(int64(n))
	}
}

// Room implements text.Memory.
func (a *account) Room() int {
	if a == nil {
		return math.MaxInt
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return int(a.free())
}

func (a *account) free() int64 {
	return a.memory.limit - a.memory.used.Load() - a.share.used.Load() - a.used
}

func (a *account) add(n int64) {
	a.used += n
	a.share.used.Add(n)
	a.memory.used.Add(n)
}

// close gives everything back; what follows counts no more.
func (a *account) close() {
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return
	}
	a.add(-a.used)
	a.closed = true
	a.memory.mu.Lock()
	defer a.memory.mu.Unlock()
	if a.share.connections--; a.share.connections == 0 {
		delete(a.memory.shares, a.identity)
	}
}
