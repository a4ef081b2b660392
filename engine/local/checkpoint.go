package local

import (
	"encoding/binary"
	"maps"
	"slices"
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

func decodeCheckpoint(_ uint32, b []byte) (*checkpoint, error) {
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
	definitions uint64           // number of the last definitions file that was written; 0 if there is none
	files       []uint64         // numbers of all definitions files, ascending
}

// takeCheckpoint writes a checkpoint as of now. unindexed says that there was no space for
// some index files: a start reads their segments instead, and they are not released before
// they have one. Only the reclaimer calls it.
func (e *Engine) takeCheckpoint() (unindexed, err error) {
	e.mu.Lock()
	c := checkpoint{definitions: e.saved.definitions}
	c.at, c.seq = e.j.Applied()
	recorded := e.removals // by being absent from what is captured
	e.removals = nil
	var defs *definitions
	if e.state.defsChanged {
		defs = e.state.declared()
		e.state.defsChanged = false
		if c.definitions = 1; len(e.saved.files) > 0 {
			c.definitions += slices.Max(e.saved.files)
		}
	}
	c.queues = make([]queueState, 0, len(e.state.queues))
	for _, q := range e.state.queues {
		c.queues = append(c.queues, queueState{id: q.id, next: q.next, live: q.liveRanges(), marks: maps.Clone(q.marks)})
	}
	e.mu.Unlock()

	if unindexed, err = e.storeCheckpoint(&c, defs); err != nil {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.state.defsChanged = e.state.defsChanged || e.saved.definitions != c.definitions
		e.removals = append(recorded, e.removals...)
		return nil, err
	}
	e.reclaimer.checkpoints.Add(1)
	e.saved.at = c.at
	e.saved.files = slices.DeleteFunc(e.saved.files, func(n uint64) bool {
		if n != c.definitions {
			_ = e.files.remove(definitionsName(n)) // or after the next start
		}
		return n != c.definitions
	})
	return unindexed, nil
}

// storeCheckpoint writes the files of a checkpoint.
func (e *Engine) storeCheckpoint(c *checkpoint, defs *definitions) (unindexed, err error) {
	unindexed = e.writeIndexes(c.at.Generation())
	if unindexed != nil && !journal.IsNoSpace(unindexed) {
		return nil, unindexed
	}
	if defs != nil {
		err = e.files.writeFramed(definitionsName(c.definitions), definitionsKind, func(b []byte) []byte {
			return defs.appendTo(b, e.files.storeID)
		})
		if err == nil {
			// They stay those to name if what follows fails: nothing else piles up on a full disk.
			e.saved.definitions = c.definitions
			e.saved.files = append(e.saved.files, c.definitions)
		}
	}
	if err == nil { // the state that was captured may contain what is not synced yet
		err = e.j.Sync()
	}
	if err == nil {
		err = e.files.writeFramed(checkpointName, checkpointKind, c.appendTo)
	}
	return unindexed, err
}

// writeIndexes writes the missing index files of all segments below a generation.
func (e *Engine) writeIndexes(below uint64) error {
	var missing []segmentUse
	e.mu.Lock()
	for gen, u := range e.state.segs {
		if !u.indexed && gen < below {
			missing = append(missing, *u)
		}
	}
	e.mu.Unlock()
	for _, u := range missing {
		if err := e.files.writeIndex(u.gen, u.indexFile); err != nil {
			return err
		}
		e.mu.Lock()
		e.state.segs[u.gen].indexed, e.state.segs[u.gen].entries = true, nil
		e.mu.Unlock()
	}
	return nil
}
