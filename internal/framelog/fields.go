package framelog

import (
	"encoding/binary"
	"math"
	"time"
)

// Fields parses a payload. After the first field that is missing, all further fields are
// empty and Bad is set. Integers are big-endian.
type Fields struct {
	Rest []byte // not parsed yet
	Bad  bool
}

// Bytes takes n bytes.
func (f *Fields) Bytes(n int) []byte {
	if n < 0 || n > len(f.Rest) {
		f.Rest, f.Bad = nil, true
		return nil
	}
	p := f.Rest[:n:n]
	f.Rest = f.Rest[n:]
	return p
}

// Byte takes one byte.
func (f *Fields) Byte() byte {
	if p := f.Bytes(1); p != nil {
		return p[0]
	}
	return 0
}

// Uint32 takes four bytes.
func (f *Fields) Uint32() uint32 {
	if p := f.Bytes(4); p != nil {
		return binary.BigEndian.Uint32(p)
	}
	return 0
}

// Uint64 takes eight bytes.
func (f *Fields) Uint64() uint64 {
	if p := f.Bytes(8); p != nil {
		return binary.BigEndian.Uint64(p)
	}
	return 0
}

// Time takes eight bytes: milliseconds since 1970.
func (f *Fields) Time() time.Time { return time.UnixMilli(int64(f.Uint64())) }

// Hash takes a SHA-256.
func (f *Fields) Hash() (h [32]byte) {
	copy(h[:], f.Bytes(len(h)))
	return h
}

// Prefixed takes a field that follows its length in two bytes.
func (f *Fields) Prefixed() []byte {
	p := f.Bytes(2)
	if p == nil {
		return nil
	}
	return f.Bytes(int(binary.BigEndian.Uint16(p)))
}

// AppendPrefixed appends a field of at most 64 KiB after its length in two bytes.
func AppendPrefixed[T string | []byte](dst []byte, v T) []byte {
	if len(v) > math.MaxUint16 {
		panic("framelog: a field is longer than its callers allow")
	}
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(v)))
	return append(dst, v...)
}
