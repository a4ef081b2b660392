package server

import (
	"runtime/debug"
	"sync"
	"time"
)

const (
	// maxRecord is the most that one TLS record holds.
	maxRecord = 16 << 10
	// keptOutput is the largest write buffer that is used again.
	keptOutput = 128 << 10
)

var outputs = sync.Pool{New: func() any {
	b := make([]byte, 0, 72<<10)
	return &b
}}

// wake makes sure that a goroutine writes what the session has. It is called from any
// goroutine, under locks of the broker and of the engine, and never blocks.
func (c *conn) wake() {
	c.mu.Lock()
	switch {
	case c.why != closedNot || c.session == nil:
	case c.writing:
		c.again = true
	default:
		c.writing = true
		c.server.running.Add(1) // the goroutine that reads holds one, so this is not the first
		go c.write()
	}
	c.mu.Unlock()
}

// write writes until there is nothing to write.
func (c *conn) write() {
	defer c.server.running.Done()
	defer c.containWrite()
	buffer := outputs.Get().(*[]byte)
	for {
		out := c.session.Output((*buffer)[:0])
		if len(out) == 0 {
			if c.rest() {
				break
			}
			continue
		}
		if cap(out) <= keptOutput {
			*buffer = out[:0]
		}
		if err := c.send(out); err != nil {
			c.abort(closedWrite)
			c.rest()
			break
		}
	}
	outputs.Put(buffer)
}

// rest ends the writing unless there may be more.
func (c *conn) rest() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.again && c.why == closedNot {
		c.again = false
		return false
	}
	c.writing, c.again = false, false
	c.changed.Broadcast()
	return true
}

// send writes in full records. The deadline counts for each record, so that a slow
// peer that does take bytes is not closed; it is set anew rarely, because setting it
// costs as much as a small write.
func (c *conn) send(out []byte) error {
	timeout := c.server.limits.WriteTimeout
	for len(out) > 0 {
		now := time.Now()
		if slack := timeout / 8; c.writeArmed.IsZero() || now.Sub(c.writeArmed) > slack {
			c.writeArmed = now
			if err := c.raw.SetWriteDeadline(now.Add(timeout + slack)); err != nil {
				return err
			}
		}
		n, err := c.tls.Write(out[:min(len(out), maxRecord)])
		c.bytesOut.Add(uint64(n))
		c.server.metrics.bytesOut.Add(uint64(n))
		if err != nil {
			return err
		}
		out = out[n:]
	}
	return nil
}

// containWrite is contain for the goroutine that writes; the one that reads cleans up.
func (c *conn) containWrite() {
	v := recover()
	if v == nil {
		return
	}
	c.server.metrics.panics.Add(1)
	c.log().Error("connection panicked while writing", "panic", v, "stack", string(debug.Stack()))
	c.abort(closedPanic)
	c.rest()
}
