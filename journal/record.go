package journal

import (
	"encoding/binary"
	"hash/crc32"
)

// A record, little endian, padded with zeros to a multiple of 8 bytes:
//
//	 0        4        8                 16   17
//	+--------+--------+-----------------+----+---------+--------+
//	| crc32c | length | sequence        |kind| payload | zeros  |
//	+--------+--------+-----------------+----+---------+--------+
//
// length counts header and payload. The checksum is CRC-32C over the store's id, the
// segment's generation, and the bytes from 4 to length; so a record is valid only in
// the life of the segment it was written in, and nobody who does not know the store's
// id can plant one in a payload. Sequences rise by one without gaps through the whole
// journal. Zeros are no valid record, because length is never zero.
const (
	recordHeaderBytes = 17
	recordAlign       = 8
	markBytes         = 40

	// kindMark opens each batch: its own segment's generation, then the position
	// that was synced before the batch was written (8 bytes each).
	kindMark byte = 1

	// kindVoid covers bytes that recovery gave up. Its sequence is the next one that was
	// expected there; the payload begins with how many are missing (7 bytes).
	kindVoid byte = 2

	// reserveBytes are left free at the end of each segment: for one more mark, so that
	// the last batch can be covered, and for a void record, should the end be lost.
	reserveBytes = markBytes + minRecordBytes

	minRecordBytes = 24

	// FirstKind is the smallest kind that Append takes.
	FirstKind byte = 16
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Record is one record as it was read. Payload aliases the buffer it was read into.
type Record struct {
	Pos     Position
	Seq     uint64
	Kind    byte
	Payload []byte
}

// Bytes is the room that the record takes in its segment.
func (r Record) Bytes() int { return padded(recordHeaderBytes + len(r.Payload)) }

// RecordBytes is the size of a record with that many payload bytes.
func RecordBytes(payload int) int { return padded(recordHeaderBytes + payload) }

func padded(n int) int { return (n + recordAlign - 1) &^ (recordAlign - 1) }

// generationSum is the state that the checksum of each record of a segment starts from.
func generationSum(storeID [16]byte, generation uint64) uint32 {
	var b [24]byte
	copy(b[:], storeID[:])
	binary.LittleEndian.PutUint64(b[16:], generation)
	return crc32.Checksum(b[:], castagnoli)
}

// appendRecord appends a record and its padding. The payload is head and then body.
func appendRecord(dst []byte, sum uint32, seq uint64, kind byte, head, body []byte) []byte {
	start, n := len(dst), recordHeaderBytes+len(head)+len(body)
	var h [recordHeaderBytes]byte
	binary.LittleEndian.PutUint32(h[4:], uint32(n))
	binary.LittleEndian.PutUint64(h[8:], seq)
	h[16] = kind
	dst = append(dst, h[:]...)
	dst = append(dst, head...)
	dst = append(dst, body...)
	binary.LittleEndian.PutUint32(dst[start:], crc32.Update(sum, castagnoli, dst[start+4:]))
	return append(dst, zeroPad[:padded(n)-n]...)
}

var zeroPad [recordAlign]byte

// fillMark writes a mark record over the first markBytes of dst.
func fillMark(dst []byte, sum uint32, seq, generation uint64, synced Position) {
	var p [16]byte
	binary.LittleEndian.PutUint64(p[:], generation)
	binary.LittleEndian.PutUint64(p[8:], uint64(synced))
	appendRecord(dst[:0:markBytes], sum, seq, kindMark, p[:], nil)
}

// decodeRecord decodes the record at the start of b. ok is false if there is none that
// is valid and complete; what follows in b does not matter.
func decodeRecord(b []byte, sum uint32) (r Record, ok bool) {
	if len(b) < recordHeaderBytes {
		return r, false
	}
	n := int64(binary.LittleEndian.Uint32(b[4:]))
	if n < recordHeaderBytes || n > int64(len(b)) || padded(int(n)) > len(b) {
		return r, false
	}
	if crc32.Update(sum, castagnoli, b[4:n]) != binary.LittleEndian.Uint32(b) {
		return r, false
	}
	return Record{Seq: binary.LittleEndian.Uint64(b[8:]), Kind: b[16], Payload: b[recordHeaderBytes:n:n]}, true
}

// appendVoid appends a void record of n bytes in all, at least minRecordBytes.
func appendVoid(dst []byte, sum uint32, n int, seq, missing uint64) []byte {
	payload := make([]byte, n-recordHeaderBytes)
	var count [8]byte
	binary.LittleEndian.PutUint64(count[:], missing)
	copy(payload, count[:7])
	return appendRecord(dst, sum, seq, kindVoid, payload, nil)
}

// nextSeq is the sequence that comes after a record.
func (r Record) nextSeq() uint64 {
	if r.Kind != kindVoid {
		return r.Seq + 1
	}
	var count [8]byte
	copy(count[:7], r.Payload)
	return r.Seq + binary.LittleEndian.Uint64(count[:])
}

// maxSequenceGap bounds how many records a hole is believed to hide; it keeps a search
// through arbitrary bytes from computing checksums of everything.
const maxSequenceGap = 1 << 24

// findRecord searches b, from off on, for the next valid record with a sequence of at
// least minSeq, and of not much more if minSeq is where the last record ended. It
// returns its offset, or -1.
func findRecord(b []byte, off int, sum uint32, minSeq uint64, exact bool) (int, Record) {
	for ; off+recordHeaderBytes <= len(b); off += recordAlign {
		seq := binary.LittleEndian.Uint64(b[off+8:])
		if seq < minSeq || exact && seq-minSeq > maxSequenceGap {
			continue
		}
		if r, ok := decodeRecord(b[off:], sum); ok {
			return off, r
		}
	}
	return -1, Record{}
}
