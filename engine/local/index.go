package local

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"

	"github.com/sealmq/sealmq/journal"
)

// An index file summarises the messages of one sealed segment, so that a start need
// not read the segment, and so that their ids are remembered when the segment is used
// for something else. It is written once and never changed (little endian):
//
//	"SEALMQIX", version 4, count 4, ids 4, reserved 4, generation 8, store id 16,
//	length of entries 8, crc32c of the entries 4, crc32c of all before 4, entries
//
// An entry is, in uvarints if nothing else is said: offset/8 since the last entry,
// record size/8, body size, flags, time since the last entry in ms (zig-zag),
// [id hash 8 bytes, content hash 16 bytes,] n, n × (queue id, seq).
const (
	indexHeader  = 60
	indexVersion = 1
	indexSuffix  = ".idx"
)

var indexMagic = [8]byte{'S', 'E', 'A', 'L', 'M', 'Q', 'I', 'X'}

// indexFile is the content of an index file.
type indexFile struct {
	entries []byte
	count   int // messages in it
	ids     int // of these, with an id
}

// index adds a message record to the index of its segment.
func (u *segmentUse) index(m *messageRecord, place journal.Place, id uint64) {
	b := u.entries
	b = binary.AppendUvarint(b, uint64(place.Pos.Offset()-u.lastOffset)/8)
	b = binary.AppendUvarint(b, uint64(place.Bytes/8))
	b = binary.AppendUvarint(b, uint64(len(m.body)))
	b = append(b, m.flags)
	b = binary.AppendVarint(b, m.arrived-u.lastTime)
	if m.flags&flagHash != 0 {
		b = binary.LittleEndian.AppendUint64(b, id)
		b = binary.LittleEndian.AppendUint64(b, m.hash[0])
		b = binary.LittleEndian.AppendUint64(b, m.hash[1])
		u.ids++
	}
	b = binary.AppendUvarint(b, uint64(len(m.copies)))
	for _, c := range m.copies {
		b = binary.AppendUvarint(b, uint64(c.queue))
		b = binary.AppendUvarint(b, c.seq)
	}
	u.entries, u.lastOffset, u.lastTime = b, place.Pos.Offset(), m.arrived
	u.count++
}

// indexEntry is a decoded entry. copies is valid until the next one.
type indexEntry struct {
	place   journal.Place
	body    int
	flags   byte
	arrived int64
	id      uint64
	hash    contentHash
	copies  []copyRef
}

func decodeIndex(gen uint64, entries []byte, f func(*indexEntry)) error {
	d := decoder{b: entries}
	var n indexEntry
	var off int64
	for d.more() {
		off += int64(d.uvarint()) * 8
		n.place = journal.Place{Pos: journal.Position(gen<<32 | uint64(off)), Bytes: int(d.uvarint()) * 8}
		n.body = int(d.uvarint())
		n.flags = d.byte()
		n.arrived += d.varint()
		n.id, n.hash = 0, contentHash{}
		if n.flags&flagHash != 0 {
			n.id, n.hash = d.uint64(), contentHash{d.uint64(), d.uint64()}
		}
		n.copies = n.copies[:0]
		for range d.count(2) {
			n.copies = append(n.copies, copyRef{uint32(d.uvarint()), d.uvarint()})
		}
		if d.err == nil {
			f(&n)
		}
	}
	return d.err
}

func indexName(gen uint64) string { return fmt.Sprintf("%016x%s", gen, indexSuffix) }

func indexGeneration(name string) (uint64, bool) {
	digits, ok := strings.CutSuffix(name, indexSuffix)
	if !ok {
		return 0, false
	}
	gen, err := strconv.ParseUint(digits, 16, 64)
	return gen, err == nil
}

func (f *storeFiles) writeIndex(gen uint64, x indexFile) error {
	b := make([]byte, indexHeader, indexHeader+len(x.entries))
	copy(b, indexMagic[:])
	binary.LittleEndian.PutUint32(b[8:], indexVersion)
	binary.LittleEndian.PutUint32(b[12:], uint32(x.count))
	binary.LittleEndian.PutUint32(b[16:], uint32(x.ids))
	binary.LittleEndian.PutUint64(b[24:], gen)
	copy(b[32:48], f.storeID[:])
	binary.LittleEndian.PutUint32(b[48:], uint32(len(x.entries)))
	binary.LittleEndian.PutUint32(b[52:], crc32.Checksum(x.entries, castagnoli))
	binary.LittleEndian.PutUint32(b[56:], crc32.Checksum(b[:56], castagnoli))
	return f.write(indexName(gen), append(b, x.entries...))
}

// readIndex reads an index file, into buf if it is large enough.
func (f *storeFiles) readIndex(gen uint64, buf []byte) (x indexFile, err error) {
	name := indexName(gen)
	b, err := f.read(buf, name)
	if err != nil {
		return x, err
	}
	if len(b) < indexHeader || [8]byte(b[:8]) != indexMagic ||
		crc32.Checksum(b[:56], castagnoli) != binary.LittleEndian.Uint32(b[56:]) {
		return x, damaged(f.path(name), "it has no valid header")
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v > indexVersion {
		return x, fmt.Errorf("%s: index format %d: %w", f.path(name), v, journal.ErrNewer)
	}
	x = indexFile{b[indexHeader:], int(binary.LittleEndian.Uint32(b[12:])), int(binary.LittleEndian.Uint32(b[16:]))}
	if binary.LittleEndian.Uint64(b[24:]) != gen || [16]byte(b[32:48]) != f.storeID ||
		uint32(len(x.entries)) != binary.LittleEndian.Uint32(b[48:]) ||
		crc32.Checksum(x.entries, castagnoli) != binary.LittleEndian.Uint32(b[52:]) {
		return x, damaged(f.path(name), "its checksum does not match, or it is not the index of its segment")
	}
	return x, nil
}
