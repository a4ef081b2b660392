package seal

import (
	"encoding/binary"
	"fmt"
	"unicode"
	"unicode/utf8"

	"github.com/sealmq/sealmq"
)

// In the binary forms integers are big-endian, and what has no fixed length has its
// length in two bytes before it.

func appendPrefixed[T ~string | ~[]byte](dst []byte, v T) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(v)))
	return append(dst, v...)
}

// reader takes a byte string apart. Once something is missing, nothing more comes.
type reader struct{ p []byte }

func (r *reader) take(n int) ([]byte, bool) {
	if n < 0 || len(r.p) < n {
		r.p = nil
		return nil, false
	}
	v := r.p[:n:n]
	r.p = r.p[n:]
	return v, true
}

func (r *reader) uint8() (byte, bool) {
	v, ok := r.take(1)
	if !ok {
		return 0, false
	}
	return v[0], true
}

func (r *reader) uint16() (uint16, bool) {
	v, ok := r.take(2)
	if !ok {
		return 0, false
	}
	return binary.BigEndian.Uint16(v), true
}

func (r *reader) uint64() (uint64, bool) {
	v, ok := r.take(8)
	if !ok {
		return 0, false
	}
	return binary.BigEndian.Uint64(v), true
}

func (r *reader) prefixed() ([]byte, bool) {
	n, ok := r.uint16()
	if !ok {
		return nil, false
	}
	return r.take(int(n))
}

// checkText reports whether s can be a name in an envelope: 1 to 255 bytes of
// UTF-8 without control characters. Unlike sealmq.CheckName it lets spaces pass, because
// certificates have them in names.
func checkText(kind, s string) error {
	if s == "" {
		return fmt.Errorf("the %s is empty", kind)
	}
	return checkOptional(kind, s)
}

// checkOptional is checkText for what may be empty.
func checkOptional(kind, s string) error {
	if len(s) > sealmq.MaxNameBytes {
		return fmt.Errorf("the %s is longer than %d bytes", kind, sealmq.MaxNameBytes)
	}
	plain := true
	for i := 0; i < len(s); i++ {
		plain = plain && s[i] >= ' ' && s[i] < 0x7f
	}
	if plain {
		return nil
	}
	if !utf8.ValidString(s) {
		return fmt.Errorf("the %s is not valid UTF-8", kind)
	}
	for _, r := range s {
		if unicode.IsControl(r) {
			return fmt.Errorf("the %s has a control character", kind)
		}
	}
	return nil
}
