package client

import "time"

// outbox is everything that was handed to the client and is not yet answered: the
// lines' bytes, in the order in which they go out, and one entry for each. The broker
// answers in the order of the requests, so the entry of the next reply is the first.
//
//	freed          written        handed          appended      (byte offsets, growing)
//	  |  awaits reply |  in a Write  |  not yet sent  |
//
// The bytes stay until the reply is there, because a publish is sent again with the
// same bytes after a lost connection. They lie in chunks; a line never straddles two.
// All of it belongs to Client.mu; only the bytes between written and handed are read
// without it, by the writer, which is why they are not reused before it is done.
type outbox struct {
	ring   []entry // power of two
	head   uint64  // index of the first unanswered entry
	tail   uint64  // index after the last entry
	chunks []chunk
	spare  [][]byte // emptied chunks for reuse, at most maxSpareChunks

	freed, written, handed, appended uint64

	publishes    int // entries of this kind
	publishBytes int
	acks         int // entries of the kinds that settle
	commands     int // entries of kind command
}

type chunk struct {
	buf []byte // len is what is used
	end uint64 // byte offset after the chunk's last byte
}

type kind uint8

const (
	kindPublish kind = iota + 1
	kindAck
	kindNack
	kindRelease
	kindExtend
	kindCommand // sent for a caller, who gets the reply line
	kindSetup   // sent by the client itself at the start of a connection, or a ping
)

// entry is one request that has no reply yet.
type entry struct {
	kind kind
	size int    // bytes of its line
	id   string // the message id that the reply must name
	done func(error)
	call *call
	// sent says that an earlier connection, or an earlier life of the sender, may have
	// carried a publish, and since when. limit is for how long its owner lets it be sent again;
	// 0 leaves that to the broker.
	sent  bool
	since time.Time
	limit time.Duration
}

const (
	chunkBytes     = 64 << 10
	maxSpareChunks = 8
)

// reserve returns a buffer with room for size more bytes, to which the caller appends
// one line and which it gives back with push.
func (o *outbox) reserve(size int) []byte {
	if n := len(o.chunks); n > 0 {
		if last := o.chunks[n-1].buf; cap(last)-len(last) >= size {
			return last
		}
	}
	var buf []byte
	switch n := len(o.spare); {
	case size > chunkBytes:
		buf = make([]byte, 0, size)
	case n > 0:
		buf = o.spare[n-1]
		o.spare = o.spare[:n-1]
	default:
		buf = make([]byte, 0, chunkBytes)
	}
	o.chunks = append(o.chunks, chunk{buf: buf, end: o.appended})
	return buf
}

// push takes the reserved buffer back with one line more, and the line's entry.
func (o *outbox) push(buf []byte, e entry) {
	last := &o.chunks[len(o.chunks)-1]
	e.size = len(buf) - len(last.buf)
	last.buf = buf
	last.end += uint64(e.size)
	o.appended = last.end
	o.count(&e, 1)
	if o.tail-o.head == uint64(len(o.ring)) {
		o.growRing()
	}
	o.ring[o.tail&uint64(len(o.ring)-1)] = e
	o.tail++
}

// line adds a line that is at hand, with its entry.
func (o *outbox) line(line string, e entry) { o.push(append(o.reserve(len(line)), line...), e) }

func (o *outbox) growRing() {
	ring := make([]entry, max(64, 2*len(o.ring)))
	for i := o.head; i != o.tail; i++ {
		ring[i&uint64(len(ring)-1)] = o.ring[i&uint64(len(o.ring)-1)]
	}
	o.ring = ring
}

func (o *outbox) count(e *entry, d int) {
	switch e.kind {
	case kindPublish:
		o.publishes += d
		o.publishBytes += d * e.size
	case kindAck, kindNack, kindRelease, kindExtend:
		o.acks += d
	case kindCommand:
		o.commands += d
	}
}

func (o *outbox) len() int { return int(o.tail - o.head) }

// front returns the entry that the next reply answers, or nil if there is none or its
// line has not even been sent: then the reply is a mistake of the broker.
func (o *outbox) front() *entry {
	if o.head == o.tail {
		return nil
	}
	e := &o.ring[o.head&uint64(len(o.ring)-1)]
	if o.freed+uint64(e.size) > o.handed {
		return nil
	}
	return e
}

// pop removes the first entry. Its line's bytes are given up with the next recycle.
func (o *outbox) pop() entry {
	e := &o.ring[o.head&uint64(len(o.ring)-1)]
	out := *e
	*e = entry{}
	o.head++
	o.freed += uint64(out.size)
	o.count(&out, -1)
	return out
}

// next hands out at most max unsent bytes, in one piece.
func (o *outbox) next(max int) []byte {
	for i := range o.chunks {
		c := &o.chunks[i]
		if c.end <= o.handed {
			continue
		}
		from := len(c.buf) - int(c.end-o.handed)
		to := min(len(c.buf), from+max)
		o.handed += uint64(to - from)
		return c.buf[from:to:to]
	}
	return nil
}

// wrote says that the bytes last handed out are no longer read.
func (o *outbox) wrote() { o.written = o.handed }

// recycle gives up the chunks whose lines are all answered.
func (o *outbox) recycle() {
	gone := min(o.freed, o.written)
	n := 0
	for n < len(o.chunks) && o.chunks[n].end <= gone {
		n++
	}
	if n == 0 {
		return
	}
	for _, c := range o.chunks[:n] {
		if cap(c.buf) == chunkBytes && len(o.spare) < maxSpareChunks {
			o.spare = append(o.spare, c.buf[:0])
		}
	}
	rest := copy(o.chunks, o.chunks[n:])
	clear(o.chunks[rest:])
	o.chunks = o.chunks[:rest]
}

// restart returns a new outbox that begins with what first puts there, followed by the
// entries that keep wants, in order and unsent; it calls drop for the others. sent tells
// whether an entry's line may have reached the broker. No Write may be under way.
func (o *outbox) restart(first func(*outbox), keep func(e *entry, sent bool) bool, drop func(entry)) outbox {
	o.wrote()
	o.recycle()
	next := outbox{spare: o.spare}
	first(&next)
	chunk, used := 0, 0
	if len(o.chunks) > 0 {
		used = len(o.chunks[0].buf) - int(o.chunks[0].end-o.freed)
	}
	offset := o.freed
	for o.head != o.tail {
		for used == len(o.chunks[chunk].buf) {
			chunk, used = chunk+1, 0
		}
		e := o.pop()
		line := o.chunks[chunk].buf[used : used+e.size]
		used += e.size
		sent := offset < o.handed
		offset += uint64(e.size)
		if keep(&e, sent) {
			next.push(append(next.reserve(e.size), line...), e)
		} else {
			drop(e)
		}
	}
	return next
}
