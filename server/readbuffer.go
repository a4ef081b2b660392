package server

import "sync"

const (
	// quietBuffer is what a silent connection keeps.
	quietBuffer = 512
	// busyBuffer holds a TLS record and an unfinished line of the same size.
	busyBuffer = 32 << 10
)

var busyBuffers = sync.Pool{New: func() any { return new([busyBuffer]byte) }}

// readBuffer holds what was received and not used yet. It is small until a read fills
// it, then of a size that whole records fit in, and larger only while one line needs
// it. What is unused always starts at the first byte after discard.
type readBuffer struct {
	small  [quietBuffer]byte
	pooled *[busyBuffer]byte // buf is this one if it is not nil
	buf    []byte
	n      int  // bytes received and not used
	filled bool // the last read used all of buf, so there may be more to read
	busy   bool // something was received since calm last looked
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

// settle adapts the size to what is left after all complete lines were used: a full
// buffer doubles, one that is larger than it need be becomes an ordinary one. It
// reports whether the buffer has just left its smallest size.
func (b *readBuffer) settle() (grown bool) {
	switch {
	case len(b.buf) == quietBuffer && b.filled:
		b.borrow()
		return true
	case b.n == len(b.buf):
		larger := make([]byte, 2*len(b.buf))
		copy(larger, b.buf)
		b.giveBack()
		b.buf = larger
	case len(b.buf) > busyBuffer && b.n < busyBuffer/2:
		b.borrow()
	}
	return false
}

// borrow moves what is left into a buffer from the pool.
func (b *readBuffer) borrow() {
	pooled := busyBuffers.Get().(*[busyBuffer]byte)
	copy(pooled[:], b.data())
	b.giveBack()
	b.pooled, b.buf = pooled, pooled[:]
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
		copy(b.small[:], b.data())
		b.giveBack()
		b.buf = b.small[:]
	}
	return true
}

// release gives the memory back for good.
func (b *readBuffer) release() {
	b.giveBack()
	b.buf, b.n = nil, 0
}
