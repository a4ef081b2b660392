package local

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"sort"
	"strconv"
	"strings"

	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/journal"
)

// A checkpoint lets recovery begin at a position of the journal instead of at its
// start. It is made of three kinds of files:
//
//   - an index file for each sealed segment, written once (index.go);
//   - a definitions file, written when a queue or a definition changed;
//   - the file "checkpoint", replaced as a whole, which names the position, the
//     definitions file and, for each queue, which sequence numbers live. A queue that
//     is consumed in order has one range, however long it is, so the size does not
//     grow with the backlog.
//
// Nothing in it may be ahead of the journal: before the file is put in place, the
// journal is synced. It may be ahead of its own position; replaying what it already
// contains changes nothing.
const (
	checkpointName     = "checkpoint"
	definitionsPrefix  = "definitions-"
	checkpointVersion  = 1
	definitionsVersion = 1
)

var (
	checkpointMagic  = [8]byte{'S', 'E', 'A', 'L', 'M', 'Q', 'C', 'P'}
	definitionsMagic = [8]byte{'S', 'E', 'A', 'L', 'M', 'Q', 'D', 'F'}
)

// seqRange is from, to exclusive.
type seqRange struct{ from, to uint64 }

// queueState is one queue in a checkpoint.
type queueState struct {
	id    uint32
	next  uint64
	live  []seqRange
	marks map[uint64]mark
}

func (s *queueState) has(seq uint64) bool {
	i := sort.Search(len(s.live), func(i int) bool { return s.live[i].to > seq })
	return i < len(s.live) && s.live[i].from <= seq
}

type checkpoint struct {
	at          journal.Position
	seq         uint64
	definitions uint64 // number of the definitions file
	queues      []queueState
}

// liveRanges lists the sequence numbers that live. Full chunks are not looked into.
func (q *queue) liveRanges() (out []seqRange) {
	add := func(from, to uint64) {
		if n := len(out); n > 0 && out[n-1].to == from {
			out[n-1].to = to
			return
		}
		out = append(out, seqRange{from, to})
	}
	for _, c := range q.chunks {
		switch c.live {
		case 0:
		case len(c.entries):
			add(c.base, c.base+uint64(len(c.entries)))
		default:
			for k := range c.entries {
				if c.entries[k].state != gone {
					add(c.base+uint64(k), c.base+uint64(k)+1)
				}
			}
		}
	}
	return out
}

func (c *checkpoint) encode(storeID [16]byte) []byte {
	b := frameHeader(checkpointMagic, checkpointVersion, storeID)
	b = binary.LittleEndian.AppendUint64(b, uint64(c.at))
	b = binary.LittleEndian.AppendUint64(b, c.seq)
	b = binary.LittleEndian.AppendUint64(b, c.definitions)
	b = binary.AppendUvarint(b, uint64(len(c.queues)))
	for i := range c.queues {
		q := &c.queues[i]
		b = binary.AppendUvarint(b, uint64(q.id))
		b = binary.AppendUvarint(b, q.next)
		b = binary.AppendUvarint(b, uint64(len(q.live)))
		last := uint64(0)
		for _, r := range q.live {
			b = binary.AppendUvarint(b, r.from-last)
			b = binary.AppendUvarint(b, r.to-r.from)
			last = r.to
		}
		b = binary.AppendUvarint(b, uint64(len(q.marks)))
		for seq, m := range q.marks {
			b = binary.AppendUvarint(b, seq)
			b = appendMark(b, m)
		}
	}
	return appendCRC(b)
}

func decodeCheckpoint(b []byte, storeID [16]byte) (*checkpoint, error) {
	b, err := openFrame(b, checkpointMagic, checkpointVersion, storeID)
	if err != nil {
		return nil, err
	}
	d := decoder{b: b}
	c := &checkpoint{at: journal.Position(d.uint64()), seq: d.uint64(), definitions: d.uint64()}
	for range d.count(4) {
		q := queueState{id: uint32(d.uvarint()), next: d.uvarint(), marks: map[uint64]mark{}}
		last := uint64(0)
		for range d.count(2) {
			r := seqRange{from: last + d.uvarint()}
			r.to = r.from + d.uvarint()
			last = r.to
			q.live = append(q.live, r)
		}
		for range d.count(4) {
			seq := d.uvarint()
			q.marks[seq] = d.mark()
		}
		c.queues = append(c.queues, q)
	}
	return c, d.err
}

func frameHeader(magic [8]byte, version uint32, storeID [16]byte) []byte {
	b := append([]byte{}, magic[:]...)
	b = binary.LittleEndian.AppendUint32(b, version)
	return append(b, storeID[:]...)
}

func appendCRC(b []byte) []byte {
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// openFrame checks a whole file and returns what is between header and checksum.
func openFrame(b []byte, magic [8]byte, version uint32, storeID [16]byte) ([]byte, error) {
	const head = 8 + 4 + 16
	if len(b) < head+4 || [8]byte(b[:8]) != magic {
		return nil, fmt.Errorf("it does not begin with %q", magic[:])
	}
	if crc32.Checksum(b[:len(b)-4], castagnoli) != binary.LittleEndian.Uint32(b[len(b)-4:]) {
		return nil, fmt.Errorf("its checksum does not match")
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v > version {
		return nil, fmt.Errorf("format %d, this program reads up to %d: %w", v, version, journal.ErrNewer)
	}
	if [16]byte(b[12:28]) != storeID {
		return nil, fmt.Errorf("it belongs to another store")
	}
	return b[head : len(b)-4], nil
}

func definitionsName(n uint64) string { return fmt.Sprintf("%s%d", definitionsPrefix, n) }

func definitionsNumber(name string) (uint64, bool) {
	digits, ok := strings.CutPrefix(name, definitionsPrefix)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	return n, err == nil
}

// encodeDefinitionsFile encodes all queues and definitions. Callers hold mu.
func (e *Engine) encodeDefinitionsFile() []byte {
	b := frameHeader(definitionsMagic, definitionsVersion, e.meta.storeID)
	b = binary.AppendUvarint(b, uint64(e.nextID))
	b = binary.AppendUvarint(b, uint64(len(e.neverDeclared)))
	for id := range e.neverDeclared {
		b = binary.AppendUvarint(b, uint64(id))
	}
	b = binary.AppendUvarint(b, uint64(len(e.queues)))
	for _, q := range e.queues {
		b = appendQueue(b, q.id, q.name, q.options)
	}
	for k, v := range e.defs {
		b = appendString(b, k)
		b = append(b, 1)
		b = appendString(b, aliasString(v))
	}
	return appendCRC(b)
}

func (e *Engine) decodeDefinitionsFile(b []byte) error {
	b, err := openFrame(b, definitionsMagic, definitionsVersion, e.meta.storeID)
	if err != nil {
		return err
	}
	d := decoder{b: b}
	e.nextID = uint32(d.uvarint())
	for range d.count(1) {
		e.neverDeclared[uint32(d.uvarint())] = true
	}
	for range d.count(3) {
		id, name, o := d.queue()
		if d.err == nil {
			e.addQueue(newQueue(id, name, o))
		}
	}
	if d.err != nil {
		return d.err
	}
	defs, err := decodeDefinitions(d.b)
	e.applyDefinitions(defs)
	return err
}

// takeCheckpoint writes a checkpoint as of now and returns the position it names. An
// error without a position says that none was written; with one, that there was no space
// for some index files. Only the reclaimer calls it.
func (e *Engine) takeCheckpoint() (journal.Position, error) {
	e.mu.Lock()
	c := checkpoint{definitions: e.definitionsAt}
	c.at, c.seq = e.j.Applied()
	recorded := e.logged + uint64(len(e.unlogged)) // by being absent from what is captured now
	var definitions []byte
	if e.defsChanged {
		definitions = e.encodeDefinitionsFile()
		e.defsChanged = false
		e.definitionsTop++
		c.definitions = e.definitionsTop
	}
	c.queues = make([]queueState, 0, len(e.queues))
	for _, q := range e.queues {
		s := queueState{id: q.id, next: q.next, live: q.liveRanges()}
		if len(q.marks) > 0 {
			s.marks = make(map[uint64]mark, len(q.marks))
			for seq, m := range q.marks {
				s.marks[seq] = m
			}
		}
		c.queues = append(c.queues, s)
	}
	e.mu.Unlock()

	unindexed, err := e.storeCheckpoint(&c, definitions)
	if err != nil {
		e.mu.Lock()
		e.defsChanged = e.defsChanged || definitions != nil
		e.mu.Unlock()
		return 0, err
	}
	e.mu.Lock()
	if recorded > e.logged {
		e.unlogged = e.unlogged[recorded-e.logged:]
		e.logged = recorded
	}
	e.mu.Unlock()
	e.checkpoints.Add(1)
	e.checkpointAt = c.at
	for _, name := range e.stale {
		_ = e.cfg.FS.Remove(e.storeDir(name))
	}
	e.stale = nil
	if definitions != nil {
		old := e.definitionsAt
		e.definitionsAt = c.definitions
		if old != 0 {
			_ = e.cfg.FS.Remove(e.storeDir(definitionsName(old))) // found and removed at the next start otherwise
		}
	}
	return c.at, unindexed
}

// storeCheckpoint writes the files of a checkpoint. Index files for which there is no
// space are left for later, which unindexed tells: their segments are read instead at a
// start, and not released before they have one.
func (e *Engine) storeCheckpoint(c *checkpoint, definitions []byte) (unindexed, err error) {
	if unindexed = e.writeIndexes(c.at.Generation()); unindexed != nil && !journal.IsNoSpace(unindexed) {
		return nil, unindexed
	}
	if definitions != nil {
		name := e.storeDir(definitionsName(c.definitions))
		if err := durable.WriteFile(e.cfg.FS, name, definitions, 0o600); err != nil {
			return nil, err
		}
	}
	// The state that was captured may contain what is not synced yet.
	if err := e.j.Sync(); err != nil {
		return nil, err
	}
	return unindexed, durable.WriteFile(e.cfg.FS, e.storeDir(checkpointName), c.encode(e.meta.storeID), 0o600)
}

// writeIndexes writes the index files of all segments below a generation.
func (e *Engine) writeIndexes(below uint64) error {
	type job struct {
		u          *segmentUse
		entries    []byte
		count, ids int
	}
	var jobs []job
	e.mu.Lock()
	for gen, u := range e.segs {
		if !u.indexed && gen < below {
			jobs = append(jobs, job{u, u.entries, u.count, u.ids})
		}
	}
	e.mu.Unlock()
	for _, w := range jobs {
		if err := e.writeIndex(w.u, w.entries, w.count, w.ids); err != nil {
			return err
		}
		e.mu.Lock()
		w.u.indexed, w.u.entries = true, nil
		e.mu.Unlock()
	}
	return nil
}
