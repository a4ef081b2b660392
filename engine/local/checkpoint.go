package local

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"sort"

	"github.com/sealmq/sealmq/journal"
)

// A checkpoint lets recovery begin at a position of the journal instead of at its
// start. It is made of three kinds of files:
//
//   - an index file for each sealed segment, written once (index.go);
//   - a definitions file, written when a queue or a definition changed (definitions.go);
//   - the file "checkpoint", replaced as a whole, which names the position, the
//     definitions file and, for each queue, which sequence numbers live. A queue that
//     is consumed in order has one range, however long it is, so the size does not
//     grow with the backlog.
//
// Nothing in it may be ahead of the journal: before the file is put in place, the
// journal is synced. It may be ahead of its own position; replaying what it already
// contains changes nothing.
const checkpointName = "checkpoint"

var checkpointKind = framed{[8]byte([]byte("SEALMQCP")), 1}

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
				if c.entries[k].phase != gone {
					add(c.base+uint64(k), c.base+uint64(k)+1)
				}
			}
		}
	}
	return out
}

func (f *storeFiles) writeCheckpoint(c *checkpoint) error {
	return f.writeFramed(checkpointName, checkpointKind, c.appendTo)
}

func (f *storeFiles) readCheckpoint() (*checkpoint, error) {
	return readFramed(f, checkpointName, checkpointKind, decodeCheckpoint)
}

func (c *checkpoint) appendTo(b []byte) []byte {
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
	return b
}

func decodeCheckpoint(b []byte) (*checkpoint, error) {
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

// saved is what is on disk of the state. Only the reclaimer uses it after Open.
type saved struct {
	at          journal.Position // of the checkpoint
	definitions uint64           // number of the current definitions file; 0 if there is none
	newest      uint64           // largest number used
	stale       []string         // definitions files that the next checkpoint makes useless
}

// errUnindexed says that a checkpoint was written, but that there was no space for some
// index files: a start reads their segments instead, and they are not released before they
// have one.
var errUnindexed = errors.New("an index file was not written")

// takeCheckpoint writes a checkpoint as of now. Only the reclaimer calls it.
func (e *Engine) takeCheckpoint() error {
	e.mu.Lock()
	c := checkpoint{definitions: e.saved.definitions}
	c.at, c.seq = e.j.Applied()
	recorded := e.removals.total() // by being absent from what is captured
	var defs *definitions
	if e.state.defsChanged {
		defs = e.state.declared()
		e.state.defsChanged = false
		e.saved.newest++
		c.definitions = e.saved.newest
	}
	c.queues = make([]queueState, 0, len(e.state.queues))
	for _, q := range e.state.queues {
		c.queues = append(c.queues, queueState{id: q.id, next: q.next, live: q.liveRanges(), marks: maps.Clone(q.marks)})
	}
	e.mu.Unlock()

	err := e.storeCheckpoint(&c, defs)
	written := err == nil || errors.Is(err, errUnindexed)
	e.mu.Lock()
	if !written {
		e.state.defsChanged = e.state.defsChanged || defs != nil
	} else {
		e.removals.done(recorded)
	}
	e.mu.Unlock()
	if !written {
		return err
	}
	e.reclaimer.checkpoints.Add(1)
	e.saved.at = c.at
	if old := e.saved.definitions; defs != nil && old != 0 {
		e.saved.stale = append(e.saved.stale, definitionsName(old))
	}
	e.saved.definitions = c.definitions
	for _, name := range e.saved.stale {
		_ = e.files.remove(name) // or the next start finds and removes it
	}
	e.saved.stale = nil
	return err
}

// storeCheckpoint writes the files of a checkpoint.
func (e *Engine) storeCheckpoint(c *checkpoint, defs *definitions) error {
	unindexed := e.writeIndexes(c.at.Generation())
	if unindexed != nil && !journal.IsNoSpace(unindexed) {
		return unindexed
	}
	if defs != nil {
		if err := e.files.writeDefinitions(c.definitions, defs); err != nil {
			return err
		}
	}
	// The state that was captured may contain what is not synced yet.
	if err := e.j.Sync(); err != nil {
		return err
	}
	if err := e.files.writeCheckpoint(c); err != nil {
		return err
	}
	if unindexed != nil {
		return fmt.Errorf("%w: %w", errUnindexed, unindexed)
	}
	return nil
}

// writeIndexes writes the missing index files of all segments below a generation.
func (e *Engine) writeIndexes(below uint64) error {
	type job struct {
		u    *segmentUse
		file indexFile
	}
	var jobs []job
	e.mu.Lock()
	for gen, u := range e.state.segs {
		if !u.indexed && gen < below {
			jobs = append(jobs, job{u, u.indexFile})
		}
	}
	e.mu.Unlock()
	for _, w := range jobs {
		if err := e.files.writeIndex(w.u.gen, w.file); err != nil {
			return err
		}
		e.mu.Lock()
		w.u.indexed, w.u.entries = true, nil
		e.mu.Unlock()
	}
	return nil
}
