package client

import "time"

// outbox is everything that was handed to the client and is not yet answered, in the order in
// which it goes out. The broker answers in the order of the requests, so the next reply is
// that to the first entry. Lines stay until then, because a publish is sent again with the
// same bytes after a lost connection. All of it belongs to Client.mu.
type outbox struct {
	entries []entry // from head on
	head    int
	sent    int      // index of the first entry that was not given to the writer
	part    int      // how much of its line was
	chunk   *chunk   // short lines are cut from it
	spare   []*chunk // to be used next, at most maxSpare

	publishes    int // entries of this kind
	publishBytes int
	acks         int // entries of the kinds that settle
	commands     int // entries of kind command
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
	kind  kind
	line  []byte
	chunk *chunk // that the line was cut from; nil of a long line
	id    string // the message id that the reply must name
	done  func(error)
	call  *call
	// sent says that an earlier connection, or an earlier life of the sender, may have
	// carried a publish, and since when. limit is for how long its owner lets it be sent again;
	// 0 leaves that to the broker.
	sent  bool
	since time.Time
	limit time.Duration
}

// chunk is memory for many lines. It is used again when all of them are answered: the writer
// copies short lines.
type chunk struct {
	buf   []byte
	lines int
}

const (
	chunkBytes = 64 << 10
	maxSpare   = 16
	// longLine is the length above which a line has memory of its own.
	longLine = 16 << 10
)

// reserve returns an empty buffer for a line of size bytes, to be given back with push.
func (o *outbox) reserve(size int) []byte {
	if size > longLine {
		return make([]byte, 0, size)
	}
	if o.chunk == nil || cap(o.chunk.buf)-len(o.chunk.buf) < size {
		if n := len(o.spare); n > 0 {
			o.chunk, o.spare = o.spare[n-1], o.spare[:n-1]
		} else {
			o.chunk = &chunk{buf: make([]byte, 0, chunkBytes)}
		}
	}
	n := len(o.chunk.buf)
	return o.chunk.buf[n : n : n+size]
}

// push adds an entry with its line.
func (o *outbox) push(line []byte, e entry) {
	if e.line = line; len(line) <= longLine {
		e.chunk = o.chunk
		e.chunk.buf = e.chunk.buf[:len(e.chunk.buf)+len(line)]
		e.chunk.lines++
	}
	o.add(e)
}

// release gives up an entry's line.
func (o *outbox) release(e *entry) {
	if c := e.chunk; c != nil {
		if c.lines--; c.lines > 0 {
			return
		}
		c.buf = c.buf[:0]
		if c != o.chunk && len(o.spare) < maxSpare {
			o.spare = append(o.spare, c)
		}
	}
}

func (o *outbox) add(e entry) {
	o.count(&e, 1)
	if len(o.entries) == cap(o.entries) && o.head > len(o.entries)/2 {
		n := copy(o.entries, o.entries[o.head:])
		clear(o.entries[n:])
		o.entries, o.head, o.sent = o.entries[:n], 0, o.sent-o.head
	}
	o.entries = append(o.entries, e)
}

// addLine adds an entry with a line that is at hand.
func (o *outbox) addLine(text string, e entry) { o.push(append(o.reserve(len(text)), text...), e) }

func (o *outbox) count(e *entry, d int) {
	switch e.kind {
	case kindPublish:
		o.publishes += d
		o.publishBytes += d * len(e.line)
	case kindAck, kindNack, kindRelease, kindExtend:
		o.acks += d
	case kindCommand:
		o.commands += d
	}
}

func (o *outbox) len() int { return len(o.entries) - o.head }

// front returns the entry that the next reply answers, or nil if there is none or its
// line has not even been sent: then the reply is a mistake of the broker.
func (o *outbox) front() *entry {
	if o.head == o.sent {
		return nil
	}
	return &o.entries[o.head]
}

// pop removes the first entry.
func (o *outbox) pop() entry {
	e := o.entries[o.head]
	o.entries[o.head] = entry{}
	o.head++
	o.sent = max(o.sent, o.head)
	o.count(&e, -1)
	o.release(&e)
	return e
}

// next returns unsent lines in one piece, which has the memory of buf, or a part of a line
// that is longer than buf. It is empty if there are none. A line counts as sent with its
// last part: a reply that comes before is a mistake of the broker.
func (o *outbox) next(buf []byte) []byte {
	buf = buf[:0]
	for ; o.sent < len(o.entries); o.sent++ {
		line := o.entries[o.sent].line[o.part:]
		switch {
		case len(buf)+len(line) <= cap(buf):
			buf, o.part = append(buf, line...), 0
		case len(buf) == 0:
			o.part += cap(buf)
			return line[:cap(buf)]
		default:
			return buf
		}
	}
	return buf
}

// restart returns a new outbox that begins with what first puts there, followed by the
// entries that keep wants, in order and unsent; it calls drop for the others. sent tells
// whether an entry's line may have reached the broker.
func (o *outbox) restart(first func(*outbox), keep func(e *entry, sent bool) bool, drop func(entry)) outbox {
	next := outbox{chunk: o.chunk, spare: o.spare}
	first(&next)
	for i := o.head; i < len(o.entries); i++ {
		if e := &o.entries[i]; keep(e, i < o.sent) {
			next.add(*e)
		} else {
			next.release(e)
			drop(*e)
		}
	}
	return next
}
