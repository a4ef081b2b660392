package local

import (
	"errors"
	"maps"
	"slices"

	"github.com/sealmq/sealmq"
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

	noIdentity bool // store.json is lost

	visit  func(journal.Record) error // is shown each record before it is applied; may be nil
	damage []*journal.Damage          // to files beside the journal
	report *journal.Report            // what the journal found
}

func newRecovery(e *Engine) *recovery {
	return &recovery{e: e, cp: &checkpoint{}, at: map[uint32]*queueState{}, gens: map[uint64]bool{},
		declared: map[uint32]bool{}, found: map[uint32]int{}, nameless: map[uint32]bool{}}
}

// recover does what Open promises.
func (e *Engine) recover() error {
	r := newRecovery(e)
	err := r.examine(false)
	if err == nil {
		err = r.begin()
	}
	if err != nil && e.j != nil {
		err = errors.Join(err, e.j.Close())
	}
	return err
}

// examine reads what a start needs and decides what is damaged. It changes no file, so a look
// at a store and a start of it cannot disagree. It sets the journal if it could be opened.
func (r *recovery) examine(readOnly bool) (err error) {
	e := r.e
	if err := e.files.loadIdentity(!readOnly); err != nil {
		if err := r.loseIdentity(err); err != nil {
			return err
		}
	}
	r.continueTime()
	e.state.dedup = newDedup(e.files.hashKey)
	if r.index, r.definitions, err = e.files.list(); err != nil {
		return err
	}
	if err := r.loadCheckpoint(); err != nil {
		return err
	}
	j, err := journal.Open(journal.Config{
		Dir: e.files.path(journalDir), FS: e.cfg.FS, StoreID: e.files.storeID, SegmentBytes: e.cfg.SegmentBytes,
		CacheBytes: e.cfg.CacheBytes, MaxPendingBytes: e.cfg.MaxPendingBytes, MinFreeBytes: e.cfg.MinFreeBytes,
		Quarantine: e.cfg.Quarantine, ReadOnly: readOnly, Sealed: e.sealed, Committed: e.cfg.Committed, Clock: e.cfg.Clock, Log: e.log,
	})
	if err != nil {
		return err
	}
	e.j = j
	if err := r.replay(); err != nil {
		return err
	}
	r.report = j.Judge()
	for _, id := range slices.Sorted(maps.Keys(e.state.byID)) {
		r.checkQueue(e.state.byID[id])
	}
	return nil
}

// begin makes of what was examined a store that takes records, unless something is damaged and
// Quarantine is not set.
func (r *recovery) begin() (err error) {
	e := r.e
	if all := slices.Concat(r.damage, r.report.Damage); len(all) > 0 && !e.cfg.Quarantine {
		return &journal.DamageError{Damage: all}
	}
	if r.noIdentity {
		if err := r.renewIdentity(); err != nil {
			return err
		}
	} else if e.files.older {
		if err := e.files.writeIdentity(); err != nil {
			return err
		}
	}
	if e.report, err = e.j.Begin(); err != nil {
		return err
	}
	r.derive()
	e.saveTime()
	r.logFindings()
	r.quarantineUnreadable()
	return r.firstCheckpoint()
}

// loadCheckpoint reads the checkpoint and the definitions that it names.
func (r *recovery) loadCheckpoint() error {
	e := r.e
	cp, err := readFramed(&e.files, checkpointName, checkpointKind, decodeCheckpoint)
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
		} else if err := r.loseDefinitions(cp, defs, err); err != nil {
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
		if gen < r.cp.at.Generation() {
			if err := r.show(gen); err != nil {
				return err
			}
		}
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
		if err == nil && r.visit != nil {
			err = r.visit(rec)
		}
		if err == nil {
			err = r.apply(rec)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// show shows the records of a segment before the checkpoint, which a start does not read.
func (r *recovery) show(gen uint64) error {
	if r.visit == nil {
		return nil
	}
	for rec, err := range r.e.j.Scan(gen) {
		if _, ok := errors.AsType[*journal.Damage](err); ok {
			return nil // what it costs is found with what lives
		}
		if err == nil {
			err = r.visit(rec)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// loadIndex adds the messages of a segment before the checkpoint. If the segment was
// released, its index is there for the ids of its messages.
func (r *recovery) loadIndex(gen uint64) error {
	e := r.e
	x, err := e.files.readIndex(gen)
	if err != nil {
		return r.loseIndex(gen, err)
	}
	u := e.state.use(gen)
	u.sealed, u.indexed, u.released = true, true, !r.gens[gen]
	u.count, u.ids = x.count, x.ids
	return decodeIndex(gen, x.entries, r.add)
}

// derive sets what is not stored.
func (r *recovery) derive() {
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
		r.applyMarks(q)
	}
	e.saved.files = r.definitions
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
		m.until = min(m.until, e.nowMillis()+sealmq.MaxDelay.Milliseconds()) // whatever the clock was
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
