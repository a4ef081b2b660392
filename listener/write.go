package listener

import (
	"fmt"
	"sync"
	"time"

	"github.com/sealmq/sealmq/protocol"
)

const (
	// maxRecord is the most that one TLS record holds.
	maxRecord = 16 << 10
	// keptOutput is the largest write buffer that is used again.
	keptOutput = 128 << 10
)

const (
	// outputBuffer is what is written at once, a little more than a session gives.
	outputBuffer = 72 << 10
	// If there is no memory for that, a buffer of scarceOutput bytes has room for one push.
	// If there is none for that either, replies leave in one of spareOutput bytes, which is
	// not counted.
	scarceOutput = 8 << 10
	spareOutput  = 4 << 10
	// Pushes for which there was no memory are tried again after a pause, which doubles
	// between these.
	minPushPause = 10 * time.Millisecond
	maxPushPause = time.Second
)

var outputs = sync.Pool{New: func() any {
	b := make([]byte, 0, outputBuffer)
	return &b
}}

// output is the buffer of the goroutine that writes and what was reserved for it.
type output struct {
	memory  *protocol.Memory
	pooled  *[]byte
	counted int
}

// room returns a buffer, and how many bytes of pushes there is memory for.
func (o *output) room() (buffer []byte, pushes int) {
	if o.pooled == nil && o.memory.Reserve(outputBuffer) {
		o.pooled = outputs.Get().(*[]byte)
		o.counted = outputBuffer
		o.written() // it may be larger
	}
	switch {
	case o.pooled != nil:
		return (*o.pooled)[:0], outputBuffer
	case o.memory.Reserve(scarceOutput):
		o.counted = scarceOutput
		return make([]byte, 0, scarceOutput), scarceOutput
	}
	return make([]byte, 0, spareOutput), 0
}

// hold counts the buffer as large as it has become.
func (o *output) hold(out []byte) {
	size := cap(out)
	if o.pooled == nil && size <= spareOutput {
		size = 0
	}
	o.memory.Add(size - o.counted)
	o.counted = size
	if o.pooled != nil && cap(out) <= keptOutput {
		*o.pooled = out[:0]
	}
}

// written is called when the buffer's content is on its way.
func (o *output) written() {
	now := 0 // a buffer that is not pooled is not used again
	if o.pooled != nil {
		now = cap(*o.pooled)
	}
	o.memory.Add(now - o.counted)
	o.counted = now
}

func (o *output) release() {
	o.memory.Add(-o.counted)
	o.counted = 0
	if o.pooled != nil {
		outputs.Put(o.pooled)
		o.pooled = nil
	}
}

// wake lets a goroutine write what the session has. It is called from any goroutine, under
// locks of the broker and of the engine, and never blocks.
func (c *conn) wake() {
	c.mu.Lock()
	switch {
	case c.why != closedNot || c.over || c.session == nil:
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
	defer c.contain(func() { c.stopWriting() }) // the goroutine that reads cleans up
	o := output{memory: c.memory}
	defer o.release()
	for {
		c.tick()
		buffer, pushes := o.room()
		out, over := c.session.Output(buffer, pushes)
		if len(out) == 0 && !over {
			if pushes > 0 {
				c.pushPause = 0
			} else {
				c.pushLater()
			}
			if c.stalled.Load() { // a peer that has begun to take bytes again is told
				c.sayWhy(fmt.Errorf("no bytes were taken for %v, so this connection ends; read the replies while requests are sent", c.server.limits.WriteTimeout))
			}
			if c.stopWriting() {
				break
			}
			o.written()
			continue
		}
		o.hold(out)
		if err := c.send(out); err != nil {
			c.abort(closedWrite)
			c.stopWriting()
			break
		}
		o.written()
		if over {
			c.hangUp()
			c.stopWriting()
			break
		}
	}
}

// tick lets the session look at the time, and wakes it when it asks for that.
func (c *conn) tick() {
	now := time.Now()
	next := c.session.Tick(now)
	if next.IsZero() {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.why != closedNot:
	case c.timer == nil:
		c.timer = time.AfterFunc(next.Sub(now), c.wake)
	default:
		c.timer.Reset(next.Sub(now))
	}
}

// pushLater tries again after a while, because there was no memory for pushes.
func (c *conn) pushLater() {
	c.pushPause = min(max(2*c.pushPause, minPushPause), maxPushPause)
	time.AfterFunc(c.pushPause, c.wake)
}

// stopWriting ends the writing. It returns false if there may be more to write: then the
// goroutine goes on.
func (c *conn) stopWriting() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.again && c.why == closedNot && !c.over {
		c.again = false
		return false
	}
	c.writing, c.again = false, false
	c.changed.Broadcast()
	return true
}

// send writes in full records, each with a deadline of its own.
func (c *conn) send(out []byte) error {
	for len(out) > 0 {
		n, err := c.tls.Write(out[:min(len(out), maxRecord)])
		c.bytesOut.Add(uint64(n))
		c.server.metrics.bytesOut.Add(float64(n))
		if err != nil {
			return err
		}
		out = out[n:]
	}
	return nil
}
