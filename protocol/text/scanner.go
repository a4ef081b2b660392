package text

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf8"
	"unsafe"
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

// value scans any value. It keeps the kinds of the open containers in a bit each and
// does not recurse, so that depth costs no stack.
func (s *scanner) value() bool {
	var objects [MaxDepth/64 + 1]uint64
	floor := s.depth
	for {
		c := s.peek()
		if c != '{' && c != '[' {
			if !s.scalar(c) {
				return false
			}
		} else {
			if s.depth == MaxDepth {
				return s.fail("nested too deep")
			}
			s.depth++
			s.pos++
			word, bit := s.depth/64, uint64(1)<<(s.depth%64)
			if c == '[' {
				objects[word] &^= bit
				if s.peek() != ']' {
					continue
				}
			} else {
				objects[word] |= bit
				if s.peek() != '}' {
					if !s.name() {
						return false
					}
					continue
				}
			}
			s.pos++
			s.depth--
		}
		more, ok := s.afterValue(&objects, floor)
		if !more {
			return ok
		}
	}
}

// afterValue closes the containers that end here. more says that another value must
// follow; otherwise ok says whether the outermost value is complete.
func (s *scanner) afterValue(objects *[MaxDepth/64 + 1]uint64, floor int) (more, ok bool) {
	for s.depth > floor {
		object := objects[s.depth/64]>>(s.depth%64)&1 == 1
		switch c := s.peek(); {
		case c == ',':
			s.pos++
			if object && !s.name() {
				return false, false
			}
			return true, true
		case c == '}' && object, c == ']' && !object:
			s.pos++
			s.depth--
		default:
			return false, s.fail("expected a comma or the end of an object or array")
		}
	}
	return false, true
}

// name scans a member name and its colon.
func (s *scanner) name() bool {
	if s.peek() != '"' {
		return s.fail("expected a member name")
	}
	if _, _, ok := s.str(); !ok {
		return false
	}
	if s.peek() != ':' {
		return s.fail("expected a colon")
	}
	s.pos++
	return true
}

func (s *scanner) scalar(c byte) bool {
	switch {
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
	for _, c := range b[:4] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// unescape decodes what str returned. ok is false for half of a surrogate pair, which
// is no character.
func unescape(raw []byte) (out []byte, ok bool) {
	out = make([]byte, 0, len(raw))
	for i := 0; i < len(raw); {
		if raw[i] != '\\' {
			out = append(out, raw[i])
			i++
			continue
		}
		if raw[i+1] != 'u' {
			out = append(out, unescaped(raw[i+1]))
			i += 2
			continue
		}
		r, _ := hex4(raw[i+2:])
		i += 6
		if 0xd800 <= r && r < 0xe000 {
			low, ok := rune(0), false
			if r < 0xdc00 && i+6 <= len(raw) && raw[i] == '\\' && raw[i+1] == 'u' {
				low, ok = hex4(raw[i+2:])
			}
			if !ok || low < 0xdc00 || low >= 0xe000 {
				return nil, false
			}
			r = 0x10000 + (r-0xd800)<<10 + (low - 0xdc00)
			i += 6
		}
		out = utf8.AppendRune(out, r)
	}
	return out, true
}

func unescaped(c byte) byte {
	switch c {
	case 'b':
		return '\b'
	case 'f':
		return '\f'
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	}
	return c
}

// alias gives b's bytes as a string without copying. The string is valid only while b
// is not written to: it may be handed to calls that promise to copy what they keep.
func alias(b []byte) string {
	return unsafe.String(unsafe.SliceData(b), len(b))
}
