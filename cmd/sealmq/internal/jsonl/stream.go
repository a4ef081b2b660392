package jsonl

import (
	"bytes"
	"fmt"
	"io"
)

// Stream writes the same lines to where they cannot be read again or cut off: standard output,
// a device, a FIFO. What is written there is out of its hands. It is not safe for concurrent
// use.
type Stream struct {
	w   io.WriteCloser
	buf bytes.Buffer
	err error
}

// NewStream makes one that writes to w and closes it.
func NewStream(w io.WriteCloser) *Stream { return &Stream{w: w} }

// Append adds a line. Commit writes it.
func (s *Stream) Append(r *Record) error {
	if s.err != nil {
		return s.err
	}
	return r.appendLine(&s.buf)
}

// Commit writes all appended lines. After an error it writes no more.
func (s *Stream) Commit() error {
	if s.err == nil {
		_, s.err = s.w.Write(s.buf.Bytes())
		s.buf.Reset()
	}
	if s.err != nil {
		return fmt.Errorf("write the received messages: %w", s.err)
	}
	return nil
}

// Size is 0: nothing of a stream is kept.
func (s *Stream) Size() int64 { return 0 }

// Len is 0.
func (s *Stream) Len() int { return 0 }

// Close closes what it writes to.
func (s *Stream) Close() error { return s.w.Close() }
