package text

import (
	"encoding/binary"
	"math/bits"
	"slices"
	"strconv"
	"unicode/utf8"
	"unsafe"

	"github.com/go-json-experiment/json/jsontext"
)

// scanner walks over JSON once, from left to right. Methods that return false have
// set err.
type scanner struct {
	data  []byte
	pos   int
	depth int // of the containers that are open around pos
	err   error
}

func (s *scanner) fail(reason string) bool {
	if s.pos >= len(s.data) {
		reason = "unexpected end of input"
	}
	s.err = &FormatError{Reason: reason, Offset: s.pos}
	return false
}

func (s *scanner) failAt(pos int, reason string) bool {
	s.err = &FormatError{Reason: reason, Offset: pos}
	return false
}

// peek skips white space and returns the byte after it, 0 at the end. A zero byte is
// nowhere valid outside a string, so the two need not be told apart.
func (s *scanner) peek() byte {
	for s.pos < len(s.data) {
		switch c := s.data[s.pos]; c {
		case ' ', '\t', '\r', '\n':
			s.pos++
		default:
			return c
		}
	}
	return 0
}

func (s *scanner) end() bool {
	s.peek()
	if s.pos < len(s.data) {
		return s.failAt(s.pos, "trailing characters")
	}
	return true
}

// value scans any value.
func (s *scanner) value() bool {
	const ends = "expected a comma or the end of an object or array"
	switch c := s.peek(); {
	case c == '{':
		return s.items('}', ends, func() bool { return s.member(nil) })
	case c == '[':
		return s.items(']', ends, s.value)
	case c == '"':
		_, _, ok := s.str()
		return ok
	case c == '-' || '0' <= c && c <= '9':
		return s.number()
	case c == 't':
		return s.literal("true")
	case c == 'f':
		return s.literal("false")
	case c == 'n':
		return s.literal("null")
	}
	return s.fail("expected a value")
}

// items scans the object or array at pos, whose parts item scans. ends is the reason if
// neither a comma nor the end follows one.
func (s *scanner) items(closing byte, ends string, item func() bool) bool {
	if s.depth == MaxDepth {
		return s.fail("nested too deep")
	}
	s.depth++
	s.pos++
	for c := s.peek(); c != closing; {
		if !item() {
			return false
		}
		if c = s.peek(); c == ',' {
			s.pos++
		} else if c != closing {
			return s.fail(ends)
		}
	}
	s.pos++
	s.depth--
	return true
}

// member scans a member of an object. If it is the message_id of e, it notes that.
func (s *scanner) member(e *Envelope) bool {
	if s.peek() != '"' {
		return s.fail("expected a member name")
	}
	at := s.pos
	name, escaped, ok := s.str()
	if !ok {
		return false
	}
	if s.peek() != ':' {
		return s.fail("expected a colon")
	}
	s.pos++
	if e == nil || !isMessageID(name, escaped) {
		return s.value()
	}
	if e.ID != nil {
		return s.failAt(at, "repeated field message_id")
	}
	return s.messageID(e)
}

func (s *scanner) literal(word string) bool {
	if len(s.data)-s.pos < len(word) || string(s.data[s.pos:s.pos+len(word)]) != word {
		return s.failAt(s.pos, "expected a value")
	}
	s.pos += len(word)
	return true
}

func (s *scanner) number() bool {
	if s.data[s.pos] == '-' {
		s.pos++
	}
	if s.pos < len(s.data) && s.data[s.pos] == '0' {
		s.pos++
	} else if !s.digits() {
		return false
	}
	if s.pos < len(s.data) && s.data[s.pos] == '.' {
		s.pos++
		if !s.digits() {
			return false
		}
	}
	if s.pos < len(s.data) && s.data[s.pos]|0x20 == 'e' {
		s.pos++
		if s.pos < len(s.data) && (s.data[s.pos] == '+' || s.data[s.pos] == '-') {
			s.pos++
		}
		return s.digits()
	}
	return true
}

func (s *scanner) digits() bool {
	from := s.pos
	for s.pos < len(s.data) && s.data[s.pos]-'0' <= 9 {
		s.pos++
	}
	if s.pos == from {
		return s.fail("expected a digit")
	}
	return true
}

// str scans the string whose opening quote is at pos and returns what stands between
// its quotes, as spelled. Most strings are long runs of plain ASCII (base64), which it
// takes eight bytes at a time.
func (s *scanner) str() (raw []byte, escaped, ok bool) {
	data, i := s.data, s.pos+1
	for {
		i = plain(data, i)
		if i >= len(data) {
			s.pos = len(data)
			return nil, false, s.fail("")
		}
		switch c := data[i]; {
		case c == '"':
			raw = data[s.pos+1 : i]
			s.pos = i + 1
			return raw, escaped, true
		case c == '\\':
			escaped = true
			n := escapeLen(data[i:])
			if n == 0 {
				return nil, false, s.failAt(i, "invalid escape in a string")
			}
			i += n
		case c < ' ':
			return nil, false, s.failAt(i, "control character in a string")
		case c >= utf8.RuneSelf:
			r, n := utf8.DecodeRune(data[i:])
			if r == utf8.RuneError && n == 1 {
				return nil, false, s.failAt(i, "invalid UTF-8")
			}
			i += n
		default:
			i++
		}
	}
}

// plain returns the first place from i on that may not be a plain character of a
// string, that is printable ASCII and neither quote nor backslash. In the last 15 bytes
// it may stop early.
func plain(data []byte, i int) int {
	for ; i+16 <= len(data); i += 16 {
		low := special(binary.LittleEndian.Uint64(data[i:]))
		high := special(binary.LittleEndian.Uint64(data[i+8:]))
		if low|high != 0 {
			if low != 0 {
				return i + bits.TrailingZeros64(low)/8
			}
			return i + 8 + bits.TrailingZeros64(high)/8
		}
	}
	return i
}

const (
	lowBits  = 0x0101010101010101
	highBits = 0x8080808080808080
)

// special marks in the high bit of each byte of w whether the byte is a quote, a
// backslash, a control character or not ASCII. Flipping bit 1 puts the quote (0x22)
// next to the control characters and moves no other byte across 0x21, so that one
// subtraction finds both. Borrows make bytes above the first marked one unreliable;
// callers use the lowest mark alone.
func special(w uint64) uint64 {
	quoteOrControl := (w ^ lowBits*0x02) - lowBits*0x21
	slash := (w ^ lowBits*'\\') - lowBits
	return (quoteOrControl | slash | w) & highBits
}

// escapeLen is the length of the escape sequence at the start of b, 0 if it is none.
func escapeLen(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	switch b[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		if _, ok := hex4(b[2:]); ok {
			return 6
		}
	}
	return 0
}

func hex4(b []byte) (r rune, ok bool) {
	if len(b) < 4 {
		return 0, false
	}
	n, err := strconv.ParseUint(alias(b[:4]), 16, 16)
	return rune(n), err == nil
}

// unescape decodes what str returned. ok is false for half of a surrogate pair, which
// is no character.
func unescape(raw []byte) (out []byte, ok bool) {
	out, err := jsontext.AppendUnquote(nil, slices.Concat([]byte{'"'}, raw, []byte{'"'}))
	return out, err == nil
}

// alias gives b's bytes as a string without copying. The string is valid only while b
// is not written to: it may be handed to calls that promise to copy what they keep.
func alias(b []byte) string {
	return unsafe.String(unsafe.SliceData(b), len(b))
}
