package client

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"github.com/sealmq/sealmq/internal/clock"
)

// readBytes is how much is read at a time.
const readBytes = 64 << 10

// readScratch is what the reading goroutine keeps from one read to the next.
type readScratch struct {
	buf        []byte
	start, end int // the bytes of buf that are not taken yet

	answered []func(error) // callbacks of the publishes that the last read answered
	errs     []error       // their results
	pushes   pushes
}

var errLineTooLong = errors.New("the broker sent a line that is longer than MaxLineBytes")

// fill reads once. It makes room first: what is taken goes, and the buffer grows up to
// limit when a line does not fit.
func (r *readScratch) fill(conn net.Conn, limit int) error {
	if r.start > 0 {
		r.end = copy(r.buf, r.buf[r.start:r.end])
		r.start = 0
	}
	if r.end == len(r.buf) {
		if r.end > limit {
			return errLineTooLong
		}
		grown := make([]byte, max(readBytes, 2*r.end))
		copy(grown, r.buf)
		r.buf = grown
	}
	n, err := conn.Read(r.buf[r.end:])
	r.end += n
	if n > 0 {
		return nil // an error, if there was one, comes again
	}
	if err == io.EOF {
		return errors.New("the broker closed the connection")
	}
	return err
}

// line reads until there is a line and takes it. What follows it stays.
func (r *readScratch) line(conn net.Conn) ([]byte, error) {
	const limit = 16 << 10
	for {
		if i := bytes.IndexByte(r.buf[r.start:r.end], '\n'); i >= 0 {
			line := bytes.TrimSuffix(r.buf[r.start:r.start+i], carriageReturn)
			r.start += i + 1
			return line, nil
		}
		if err := r.fill(conn, limit); err != nil {
			return nil, err
		}
	}
}

// read takes lines from the connection until it fails.
func (c *Client) read(n *connection) error {
	r := &c.rd
	scanned := r.start // no line feed before it
	for {
		if i := bytes.LastIndexByte(r.buf[scanned:r.end], '\n'); i >= 0 {
			block := r.buf[r.start : scanned+i+1]
			r.start = scanned + i + 1
			if err := c.handle(block); err != nil {
				return err
			}
		}
		pending := r.end - r.start
		if pending > c.cfg.MaxLineBytes {
			return errLineTooLong
		}
		if err := n.SetReadDeadline(clock.System.Now().Add(c.cfg.Heartbeat)); err != nil {
			return err
		}
		err := r.fill(n, c.cfg.MaxLineBytes)
		switch {
		case err == nil:
			n.asked = false
		case errors.Is(err, os.ErrDeadlineExceeded):
			err = c.silence(n)
		}
		if err != nil {
			return err
		}
		scanned = r.start + pending
	}
}

var (
	carriageReturn = []byte("\r")

	prefixAck     = []byte("ACK ")
	prefixMessage = []byte("Message: ")
	prefixMeta    = []byte("Meta: ")
	prefixEnded   = []byte("Ended: ")
)

// handle takes whole lines. Everything that one read brought is one batch: one time
// the lock, one time the callbacks, one time the subscription.
func (c *Client) handle(block []byte) error {
	r := &c.rd
	r.answered, r.errs = r.answered[:0], r.errs[:0]
	var err error
	c.mu.Lock()
	r.pushes.sub = c.sub
	for err == nil && len(block) > 0 {
		i := bytes.IndexByte(block, '\n')
		line := bytes.TrimSuffix(block[:i], carriageReturn)
		block = block[i+1:]
		switch {
		case bytes.HasPrefix(line, prefixMessage) && !c.awaitsFetch():
			err = r.pushes.message(line[len(prefixMessage):], block)
		case bytes.HasPrefix(line, prefixMeta):
			err = r.pushes.meta(line[len(prefixMeta):])
		case bytes.HasPrefix(line, prefixEnded):
			c.queueEnded(line[len(prefixEnded):])
		default:
			err = c.reply(line)
		}
	}
	c.stats.Delivered += uint64(len(r.pushes.list))
	popped := c.popped
	c.changed.Notify()
	c.mu.Unlock()

	for i := range r.answered {
		r.answered[i](r.errs[i])
	}
	clear(r.answered)
	clear(r.errs)
	r.pushes.deliver()
	if popped != c.settled { // settled is written by this goroutine alone
		c.mu.Lock()
		c.settled = popped
		c.changed.Notify()
		c.mu.Unlock()
	}
	return err
}

// awaitsFetch reports whether the next reply answers a fetch, which looks like a
// push. A subscription can only have been asked for after it, so there are no pushes
// yet. The caller holds mu.
func (c *Client) awaitsFetch() bool {
	e := c.out.front()
	return e != nil && e.kind == kindCommand && e.id == verbFetch
}

// reply takes the answer to the first entry of the outbox. The caller holds mu.
func (c *Client) reply(line []byte) error {
	e := c.out.front()
	if e == nil {
		// Its first word only: a line may hold what must not be in a log.
		return fmt.Errorf("the broker sent a line that nobody asked for: %q", firstWord(line))
	}
	switch e.kind {
	case kindPublish:
		c.popped++
		out := c.out.pop()
		var err error
		if confirmed, repeated := confirms(line, out.id); confirmed {
			c.stats.Confirmed++
			if out.call != nil {
				out.call.repeated = repeated
			}
		} else {
			err = publishError(line, out.id)
			c.stats.Refused++
		}
		c.answer(&out, err)
	case kindAck, kindNack, kindRelease, kindExtend:
		c.settleReply(line)
	case kindCommand:
		c.deliver() // the reply's reader has what came before it
		out := c.out.pop()
		out.call.reply = string(line)
		c.answer(&out, replyError(line))
	case kindSetup:
		out := c.out.pop()
		return c.setupReply(&out, line)
	}
	return nil
}

// confirms reports whether a line confirms a publish of this id, and says that it was a
// repeat.
func confirms(line []byte, id string) (ok, repeated bool) {
	rest, ok := bytes.CutPrefix(line, prefixAck)
	if !ok || len(rest) < len(id) || string(rest[:len(id)]) != id {
		return false, false
	}
	rest = rest[len(id):]
	repeated = string(rest) == " repeated"
	return repeated || len(rest) == 0, repeated
}

// answer leaves an entry to be finished when the lock is free. The caller holds mu.
func (c *Client) answer(e *entry, err error) {
	if e.call != nil {
		e.call.finish(err)
	}
	if e.done != nil {
		c.rd.answered = append(c.rd.answered, e.done)
		c.rd.errs = append(c.rd.errs, err)
	}
}

// finish ends an entry that will get no reply.
func (e *entry) finish(err error) {
	if e.call != nil {
		e.call.finish(err)
	}
	if e.done != nil {
		e.done(err)
	}
}

// call waits for one reply. A caller that gives up leaves it to the garbage collector.
type call struct {
	reply    string
	err      error
	repeated bool          // of a publish that succeeded
	ready    chan struct{} // room for one signal
}

func newCall() *call { return &call{ready: make(chan struct{}, 1)} }

func (l *call) finish(err error) {
	l.err = err
	l.ready <- struct{}{}
}

func firstWord(line []byte) []byte {
	const most = 20
	if i := bytes.IndexByte(line, ' '); i >= 0 {
		line = line[:i]
	}
	return line[:min(len(line), most)]
}
