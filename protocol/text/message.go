package text

import (
	"fmt"

	"github.com/sealmq/sealmq"
)

const (
	// MaxDepth bounds how deep objects and arrays nest in a message, the message itself
	// counted.
	MaxDepth = 128
	// MaxBatch bounds the elements of one publish_batch.
	MaxBatch = 10_000
)

// Envelope is one message of a publish or publish_batch line.
type Envelope struct {
	// Body is exactly the JSON object as it came. It aliases the input.
	Body []byte
	// ID is the value of message_id. It aliases the input unless it was spelled with
	// escapes.
	ID []byte
}

// FormatError says what is wrong with a message. Its text is safe to show to a peer:
// it quotes nothing of the input.
type FormatError struct {
	Reason string
	// Offset is the byte at which it was seen, from zero.
	Offset int
}

// Error gives the reason and the place.
func (e *FormatError) Error() string {
	return fmt.Sprintf("%s at byte %d", e.Reason, e.Offset)
}

// CheckMessage checks that data is one JSON object as RFC 8259 has it, all of it valid
// UTF-8 and nested no deeper than MaxDepth, with exactly one member message_id, however
// that name is spelled, whose value is a string that sealmq.CheckName accepts. Nothing
// else in the object is looked at. It builds nothing and, unless message_id is spelled
// with escapes, does not allocate. Errors are of type *FormatError.
func CheckMessage(data []byte) (Envelope, error) {
	var e Envelope
	s := scanner{data: data}
	if s.message(&e) && s.end() {
		return e, nil
	}
	return Envelope{}, s.err
}

// CheckBatch does the same for an array of at most MaxBatch objects and appends one
// Envelope for each to dst. If any of them is wrong nothing is appended.
func CheckBatch(dst []Envelope, data []byte) ([]Envelope, error) {
	s := scanner{data: data}
	if out, ok := s.batch(dst); ok && s.end() {
		return out, nil
	}
	return dst, s.err
}

func (s *scanner) batch(dst []Envelope) ([]Envelope, bool) {
	if s.peek() != '[' {
		return dst, s.fail("expected an array of JSON objects")
	}
	n := 0
	s.depth = -1 // the array does not count
	ok := s.items(']', "expected a comma or the end of the array", func() bool {
		if n++; n > MaxBatch {
			return s.failAt(s.pos, fmt.Sprintf("more than %d messages", MaxBatch))
		}
		var e Envelope
		if !s.message(&e) {
			return false
		}
		dst = append(dst, e)
		return true
	})
	return dst, ok
}

// message scans the object at pos, whose members alone are compared with message_id.
func (s *scanner) message(e *Envelope) bool {
	if s.peek() != '{' {
		return s.fail("expected a JSON object")
	}
	start := s.pos
	if !s.items('}', "expected a member or the end of the object", func() bool { return s.member(e) }) {
		return false
	}
	e.Body = s.data[start:s.pos]
	return e.ID != nil || s.failAt(start, "missing field message_id")
}

// messageID scans the value of message_id.
func (s *scanner) messageID(e *Envelope) bool {
	if s.peek() != '"' {
		return s.fail("message_id is not a string")
	}
	at := s.pos
	raw, escaped, ok := s.str()
	if !ok {
		return false
	}
	if escaped {
		if raw, ok = unescape(raw); !ok {
			return s.failAt(at, "message_id is not valid Unicode")
		}
	}
	if err := sealmq.CheckName("message_id", alias(raw)); err != nil {
		return s.failAt(at, err.Error())
	}
	e.ID = raw
	return true
}

func isMessageID(name []byte, escaped bool) bool {
	if escaped {
		name, _ = unescape(name)
	}
	return string(name) == "message_id"
}
