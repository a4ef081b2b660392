package listener

import (
	"sync"

	"github.com/sealmq/sealmq/protocol"
)

const (
	// quietBuffer is what a silent connection keeps.
	quietBuffer = 512
	// spareBuffer is what a connection may have when memory is short. All commands without
	// a message fit in it, above all acks.
	spareBuffer = 4 << 10
	// busyBuffer holds a TLS record and an unfinished line of the same size.
	busyBuffer = 32 << 10
)

var busyBuffers = sync.Pool{New: func() any { return new([busyBuffer]byte) }}

// readBuffer holds what was received and not used yet, from its first byte on. It is small
// until a read fills it, then it fits whole records, and it is larger only while one line
// needs that.
type readBuffer struct {
	memory  *protocol.Memory
	small   [quietBuffer]byte
	pooled  *[busyBuffer]byte // buf is this one if it is not nil
	buf     []byte
	counted int  // bytes of buf that memory has counted
	n       int  // bytes received and not used
	filled  bool // the last read used all of buf, so there may be more to read
	busy    bool // something was received since the last onIdle
}

// free is where the next read goes; it is never empty.
func (b *readBuffer) free() []byte {
	if b.buf == nil {
		b.buf = b.small[:]
	}
	return b.buf[b.n:]
}

func (b *readBuffer) received(n int) {
	b.n += n
	b.filled = b.n == len(b.buf)
	b.busy = true
}

func (b *readBuffer) data() []byte { return b.buf[:b.n] }

// discard drops what was used.
func (b *readBuffer) discard(used int) {
	copy(b.buf, b.buf[used:b.n])
	b.n -= used
}

// settle adapts the size to what is left after all complete lines were used: a full buffer
// grows, and one that is larger than needed shrinks. grown reports whether it has just left
// its smallest size; ok is false if there is no memory for what is left.
func (b *readBuffer) settle() (grown, ok bool) {
	size := len(b.buf)
	switch {
	case size < busyBuffer && b.filled:
		switch {
		case b.memory.Reserve(busyBuffer):
			b.borrow()
			b.counted = busyBuffer
		case size < spareBuffer:
			b.move(make([]byte, spareBuffer))
		default:
			return false, b.n < size
		}
		return size == quietBuffer, true
	case b.n == size:
		if !b.memory.Reserve(2 * size) {
			return false, false
		}
		b.move(make([]byte, 2*size))
		b.memory.Add(-b.counted)
		b.counted = 2 * size
	case size > busyBuffer && b.n < busyBuffer/2:
		b.borrow()
		b.memory.Add(busyBuffer - b.counted)
		b.counted = busyBuffer
	}
	return false, true
}

// borrow moves what is left into a buffer from the pool.
func (b *readBuffer) borrow() {
	pooled := busyBuffers.Get().(*[busyBuffer]byte)
	b.move(pooled[:])
	b.pooled = pooled
}

// move replaces the buffer.
func (b *readBuffer) move(to []byte) {
	copy(to, b.data())
	b.giveBack()
	b.buf = to
}

func (b *readBuffer) giveBack() {
	if b.pooled != nil {
		busyBuffers.Put(b.pooled)
		b.pooled = nil
	}
}

// shrink goes back to the smallest size if what is left fits.
func (b *readBuffer) shrink() bool {
	if b.n > quietBuffer/2 {
		return false
	}
	if len(b.buf) != quietBuffer {
		b.move(b.small[:])
		b.uncount()
	}
	return true
}

func (b *readBuffer) uncount() {
	b.memory.Add(-b.counted)
	b.counted = 0
}

// release frees the memory for good.
func (b *readBuffer) release() {
	b.giveBack()
	b.uncount()
	b.buf, b.n = nil, 0
}
