package local

import (
	"errors"
	"slices"

	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/journal"
)

// A start brings the engine to the state of the last synced record; ARCHITECTURE.md has the
// steps. What is read may be older than the checkpoint or be read twice: a copy is added once,
// and lives only if the checkpoint says so or if it came later. What is done about damage is
// in salvage.go.

// A recovery holds what only a start needs.
type recovery struct {
	e    *Engine
	cp   *checkpoint            // empty if there is none
	at   map[uint32]*queueState // the queues of the checkpoint, by id
	gens map[uint64]bool        // the segments that exist
	// The index files and definitions files that exist.
	index, definitions []uint64
	// Queue ids below known are in the definitions or were deleted before; declared are
	// those of later records.
	known    uint32
	declared map[uint32]bool
	found    map[uint32]int // by queue: how many copies that lived at the checkpoint are there

	nameless map[uint32]bool // queues whose names are lost
	unusable []uint64        // damaged index files of segments that were released
}

// recover does what Open promises.
func (e *Engine) recover() error {
	r := &recovery{e: e, cp: &checkpoint{}, at: map[uint32]*queueState{}, gens: map[uint64]bool{},
		declared: map[uint32]bool{}, found: map[uint32]int{}, nameless: map[uint32]bool{}}
	key, err := e.files.loadIdentity(true)
	if err != nil {
		return err
	}
	e.state.dedup = newDedup(key)
	if r.index, r.definitions, err = e.files.list(); err != nil {
		return err
	}
	if err := r.loadCheckpoint(); err != nil {
		return err
	}
	e.j, err = journal.Open(journal.Config{
		Dir: e.files.path(journalDir), FS: e.cfg.FS, StoreID: e.files.storeID, SegmentBytes: e.cfg.SegmentBytes,
		CacheBytes: e.cfg.CacheBytes, MaxPendingBytes: e.cfg.MaxPendingBytes, MinFreeBytes: e.cfg.MinFreeBytes,
		Quarantine: e.cfg.Quarantine, Sealed: e.sealed, Committed: e.cfg.Committed, Clock: e.cfg.Clock, Log: e.log,
	})
	if err != nil {
		return r.explain(err)
	}
	if err := r.replay(); err != nil {
		return errors.Join(r.explain(err), e.j.Close())
	}
	return nil
}

// loadCheckpoint reads the checkpoint and the definitions that it names.
func (r *recovery) loadCheckpoint() error {
	e := r.e
	cp, err := e.files.readCheckpoint()
	if durable.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return r.loseCheckpoint(err)
	}
	if cp.definitions != 0 {
		defs, err := e.files.readDefinitions(cp.definitions)
		if err == nil {
			e.state.adopt(defs)
			e.state.defsChanged = false
		} else if err := r.loseDefinitions(cp, err); err != nil {
			return err
		}
	}
	r.cp, e.saved.at, e.saved.definitions = cp, cp.at, cp.definitions
	for i := range cp.queues {
		s := &cp.queues[i]
		r.at[s.id] = s
		if q := e.state.byID[s.id]; q != nil {
			q.next = s.next
		}
	}
	return nil
}

// replay loads the index files, applies the records behind the checkpoint, and derives the
// rest.
func (r *recovery) replay() error {
	e := r.e
	gens := e.j.Generations()
	if err := r.checkForLostCheckpoint(gens); err != nil {
		return err
	}
	r.known = e.state.nextID
	for _, gen := range gens {
		r.gens[gen] = true
	}
	all := slices.Concat(gens, r.index) // a segment may have no index file, and an index no segment
	slices.Sort(all)
	for _, gen := range slices.Compact(all) {
		if gen >= r.cp.at.Generation() {
			break // an index is of a checkpoint that was not completed: it is written again
		}
		if err := r.loadIndex(gen); err != nil {
			return err
		}
	}
	for rec, err := range e.j.Replay(r.cp.at, r.cp.seq) {
		if err == nil {
			err = r.apply(rec)
		}
		if err != nil {
			return err
		}
	}
	var err error
	if e.report, err = e.j.Begin(); err != nil {
		return err
	}
	if err := r.derive(); err != nil {
		return err
	}
	return r.checkpointPastDamage()
}

// loadIndex adds the messages of a segment before the checkpoint. If the segment was
// released, its index is there for the ids of its messages.
func (r *recovery) loadIndex(gen uint64) error {
	e := r.e
	x, err := e.files.readIndex(gen)
	if err != nil {
		return r.loseIndex(gen, err)
	}
	e.state.dedup.reserve(x.ids)
	u := e.state.use(gen)
	u.sealed, u.indexed, u.released = true, true, !r.gens[gen]
	u.count, u.ids = x.count, x.ids
	return decodeIndex(gen, x.entries, r.add)
}

// derive sets what is not stored, and checks that everything that lives is there.
func (r *recovery) derive() error {
	e := r.e
	gens := e.j.Generations()
	for _, gen := range gens {
		e.state.use(gen).sealed = gen != gens[len(gens)-1]
	}
	e.state.dedup.found = e.nowSeconds()
	for _, u := range e.state.segs {
		if u.live == 0 {
			u.settledBy = e.state.dedup.settledTotal
		}
	}
	for _, q := range e.state.queues {
		q.visible, q.head, q.durable = q.next, q.next, true
		if len(q.chunks) > 0 {
			q.head = q.chunks[0].base
		}
		if err := r.checkQueue(q); err != nil {
			return err
		}
		r.applyMarks(q)
	}
	e.saved.files = r.definitions
	r.reportJournal()
	return nil
}

// applyMarks gives copies that came back their state.
func (r *recovery) applyMarks(q *queue) {
	e := r.e
	if s := r.at[q.id]; s != nil {
		for seq, m := range s.marks {
			if _, newer := q.marks[seq]; !newer && q.at(seq) != nil {
				q.setMark(seq, m)
			}
		}
	}
	for seq, m := range q.marks {
		n := q.at(seq)
		m.holder = 0
		q.marks[seq] = m
		switch {
		case m.reason != "":
			q.setPhase(n, dying)
			e.dead.waiting = append(e.dead.waiting, copyRef{q.id, seq})
		case m.until > e.nowMillis():
			q.delay(seq, n)
		}
	}
}
