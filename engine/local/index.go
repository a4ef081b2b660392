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
// for something else. It is written once and never changed. After the head (little endian)
// come the entries. An entry is, in uvarints if nothing else is said: offset/8 since the last entry,
// record size/8, body size, flags, time since the last entry in ms (zig-zag),
// [id hash 8 bytes, content hash 16 bytes, [scope 4 bytes,]] n, n × (queue id, seq).
const (
	indexVersion = 1
	indexSuffix  = ".idx"
)

var indexMagic = [8]byte{'S', 'E', 'A', 'L', 'M', 'Q', 'I', 'X'}

// indexHead is what an index file begins with.
type indexHead struct {
	Magic                  [8]byte
	Version, Count, IDs, _ uint32
	Generation             uint64
	StoreID                [16]byte
	Bytes, EntriesSum      uint32 // of the entries
	Sum                    uint32 // of all before
}

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
		b = appendHash(binary.LittleEndian.AppendUint64(b, id), m.hash)
		if m.flags&flagScope != 0 {
			b = binary.LittleEndian.AppendUint32(b, m.scope)
		}
		u.ids++
	}
	u.entries, u.lastOffset, u.lastTime = appendCopies(b, m.copies), place.Pos.Offset(), m.arrived
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
	scope   uint32
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
		n.id, n.hash, n.scope = 0, contentHash{}, 0
		if n.flags&flagHash != 0 {
			n.id, n.hash = d.uint64(), contentHash{d.uint64(), d.uint64()}
			if n.flags&flagScope != 0 {
				n.scope = d.uint32()
			}
		}
		n.copies = d.copies(n.copies)
		if d.err == nil {
			f(&n)
		}
	}
	return d.err
}

func indexName(gen uint64) string { return fmt.Sprintf("%016x%s", gen, indexSuffix) }

func indexGeneration(name string) (uint64, bool) {
	digits, ok := strings.CutSuffix(name, indexSuffix)
	gen, err := strconv.ParseUint(digits, 16, 64)
	return gen, ok && err == nil
}

func (f *storeFiles) writeIndex(gen uint64, x indexFile) error {
	b, _ := binary.Append(nil, binary.LittleEndian, indexHead{Magic: indexMagic, Version: indexVersion, // cannot fail
		Count: uint32(x.count), IDs: uint32(x.ids), Generation: gen, StoreID: f.storeID,
		Bytes: uint32(len(x.entries)), EntriesSum: crc32.Checksum(x.entries, castagnoli)})
	b = b[:len(b)-4]
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	return f.write(indexName(gen), append(b, x.entries...))
}

func (f *storeFiles) readIndex(gen uint64) (x indexFile, err error) {
	name := indexName(gen)
	b, err := f.read(name)
	if err != nil {
		return x, err
	}
	var h indexHead
	n, err := binary.Decode(b, binary.LittleEndian, &h)
	if err != nil || h.Magic != indexMagic || crc32.Checksum(b[:n-4], castagnoli) != h.Sum {
		return x, damaged(f.path(name), "it has no valid header")
	}
	if h.Version > indexVersion {
		return x, fmt.Errorf("%s: index format %d: %w", f.path(name), h.Version, journal.ErrNewer)
	}
	x = indexFile{b[n:], int(h.Count), int(h.IDs)}
	if h.Generation != gen || h.StoreID != f.storeID || uint32(len(x.entries)) != h.Bytes ||
		crc32.Checksum(x.entries, castagnoli) != h.EntriesSum {
		return x, damaged(f.path(name), "its checksum does not match, or it is not the index of its segment")
	}
	return x, nil
}
