package seal

import (
	"encoding/binary"
	"fmt"
	"strings"
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

// fields reads or writes a binary form, so that one function describes it for both. Once
// something is missing, nothing more is read.
type fields struct {
	p       []byte // what is left to read, or what was written
	reading bool
	cut     bool // something was missing
}

// bytes is for n bytes. What is read aliases what is read from.
func (f *fields) bytes(v *[]byte, n int) {
	switch {
	case !f.reading:
		f.p = append(f.p, *v...)
	case len(f.p) < n:
		f.p, f.cut, *v = nil, true, nil
	default:
		*v, f.p = f.p[:n:n], f.p[n:]
	}
}

// array is for bytes that have a place already.
func (f *fields) array(v []byte) {
	p := v
	if f.bytes(&p, len(v)); f.reading {
		copy(v, p)
	}
}

// integer is for a number in so many bytes.
func integer[T byte | uint16 | uint64 | int64 | Scheme](f *fields, v *T, size int) {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(*v))
	f.array(b[8-size:])
	*v = T(binary.BigEndian.Uint64(b[:]))
}

// prefixed is for what has its length before it.
func prefixed[T ~string | ~[]byte](f *fields, v *T) {
	if !f.reading {
		f.p = appendPrefixed(f.p, *v)
		return
	}
	var n uint16
	var p []byte
	integer(f, &n, 2)
	f.bytes(&p, int(n))
	*v = T(p)
}

// end refuses a form that lacks something or is followed by something.
func (f *fields) end(what string) error {
	switch {
	case f.cut:
		return malformed("%s is cut", what)
	case len(f.p) > 0:
		return malformed("something follows %s", what)
	}
	return nil
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
	if !utf8.ValidString(s) {
		return fmt.Errorf("the %s is not valid UTF-8", kind)
	}
	if strings.ContainsFunc(s, unicode.IsControl) {
		return fmt.Errorf("the %s has a control character", kind)
	}
	return nil
}
