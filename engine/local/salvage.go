package local

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/journal"
)

// This file is what a start does about damage; what is found later is in damage.go. It goes on
// in memory, to find all of it. Without Quarantine it then refuses with an error that names each
// file, and has changed none. With it, it goes on with what is left, says so, and ends with a
// checkpoint behind the damage, so that the next start does not find it again.

// accept notes damage and what it costs. An error that is not damage it returns.
func (r *recovery) accept(err error, cost string) error {
	damage, ok := errors.AsType[*journal.DamageError](err)
	if !ok {
		return err
	}
	for _, d := range damage.Damage {
		if cost != "" {
			d.Reason += "; " + cost
		}
		r.damage = append(r.damage, d)
	}
	return nil
}

// loseIdentity goes on without the store's identity. The segments have its id, but nothing else
// has the key of the hashes.
func (r *recovery) loseIdentity(err error) error {
	f := &r.e.files
	if err := r.accept(err, "repeated publishes of messages that are there are not recognised"); err != nil {
		return err
	}
	r.noIdentity = true
	f.inventIdentity()
	if id, ok := journal.StoreID(f.fs, f.path(journalDir)); ok {
		f.storeID = id
	}
	return nil
}

// renewIdentity writes the identity that is used from now on, and keeps the damaged one aside.
func (r *recovery) renewIdentity() error {
	f := &r.e.files
	err := f.fs.Rename(f.path(identityName), f.path("damaged-"+identityName+".bin"))
	if err != nil && !durable.IsNotExist(err) {
		return fmt.Errorf("keep damaged %s aside: %w", identityName, err)
	}
	return f.writeIdentity()
}

// loseCheckpoint goes on without a checkpoint: everything that still is in the journal is
// replayed.
func (r *recovery) loseCheckpoint(err error) error {
	if err := r.accept(err, "messages that were settled may come again"); err != nil {
		return err
	}
	return r.newestDefinitions()
}

// checkForLostCheckpoint notices a checkpoint that is missing. Segments are released only
// after a checkpoint, so they are all there if there never was any. The declaration of a queue
// may have been in one that is not, so a start that goes on needs the definitions first.
func (r *recovery) checkForLostCheckpoint(gens []uint64) error {
	if r.cp.at > 0 || len(gens) == 0 || len(r.definitions)+len(r.index) == 0 {
		return nil
	}
	if gens[0] == 1 {
		for _, err := range r.e.j.Replay(0, 0) {
			if err != nil {
				return err
			}
		}
		if len(r.e.j.Judge().Damage) == 0 {
			return nil
		}
	}
	return r.loseCheckpoint(damaged(r.e.files.path(checkpointName), "it is missing"))
}

// loseDefinitions goes on with what is intact of the definitions of a checkpoint. Its queues are
// kept; one whose name is lost gets a name that says so.
func (r *recovery) loseDefinitions(cp *checkpoint, intact *definitions, err error) error {
	e := r.e
	if durable.IsNotExist(err) {
		err = damaged(e.files.path(definitionsName(cp.definitions)), "it is missing")
	}
	cost := "queues and definitions are lost"
	if intact != nil && intact.total > 0 {
		cost = fmt.Sprintf("%d of %d queues and definitions are lost", intact.total-intact.entries, intact.total)
	}
	if err := r.accept(err, cost); err != nil {
		return err
	}
	if intact != nil {
		e.state.adopt(intact)
	} else if err := r.newestDefinitions(); err != nil {
		return err
	}
	exists := map[uint32]bool{}
	for i := range cp.queues {
		id := cp.queues[i].id
		exists[id] = true
		if e.state.byID[id] == nil {
			r.nameless[id] = true
			name := fmt.Sprintf("recovered-%d", id)
			for e.state.queues[name] != nil {
				name += "-again"
			}
			e.state.addQueue(newQueue(id, name, sealmq.QueueOptions{}.Normalize()))
		}
	}
	for id, q := range e.state.byID {
		if !exists[id] { // deleted after those definitions were written
			delete(e.state.byID, id)
			delete(e.state.queues, q.name)
		}
	}
	return nil
}

// newestDefinitions adopts the newest definitions that can be read. Older ones than the
// checkpoint's are better than none.
func (r *recovery) newestDefinitions() error {
	for i := len(r.definitions) - 1; i >= 0; i-- {
		defs, err := r.e.files.readDefinitions(r.definitions[i])
		if err == nil {
			r.e.state.adopt(defs)
			return nil
		}
		if errors.Is(err, journal.ErrNewer) {
			return err
		}
	}
	return nil
}

// nameAgain gives a queue its name back if that was lost and a declaration in the journal
// tells it.
func (r *recovery) nameAgain(q, d *queue) {
	e := r.e
	if !r.nameless[q.id] || e.state.queues[d.name] != nil {
		return
	}
	delete(e.state.queues, q.name)
	q.name, q.options, q.paused = d.name, d.options, d.paused
	e.state.queues[q.name] = q
}

// loseIndex goes on without an index file: by its segment or, if that was released,
// without the ids of its messages.
func (r *recovery) loseIndex(gen uint64, err error) error {
	e := r.e
	if errors.Is(err, journal.ErrNewer) {
		return err
	}
	if !r.gens[gen] {
		r.unusable = append(r.unusable, gen)
		return r.accept(err, "repeated publishes of its messages are not recognised")
	}
	e.log.Warn("index file is missing or damaged, its segment is read instead", "file", indexName(gen), "err", err)
	e.state.use(gen).sealed = true
	for rec, err := range e.j.Scan(gen) {
		if err == nil && rec.Kind == kindMessage {
			err = r.message(rec)
		}
		if damage, ok := errors.AsType[*journal.Damage](err); ok {
			return r.accept(&journal.DamageError{Damage: []*journal.Damage{damage}}, "")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// hasLostQueue reports whether a message is for a queue whose declaration was lost with a
// torn batch. Then the message was not promised either, and what it settles or repeats must
// stay as it was. The ids of such queues are never given to other queues.
func (r *recovery) hasLostQueue(copies []copyRef) (lost bool) {
	e := r.e
	for _, c := range copies {
		if c.queue >= r.known && !r.declared[c.queue] && !e.state.neverDeclared[c.queue] {
			e.state.neverDeclared[c.queue] = true
			e.state.nextID = max(e.state.nextID, c.queue+1)
			e.state.defsChanged = true
		}
		lost = lost || e.state.neverDeclared[c.queue]
	}
	return lost
}

// checkQueue removes copies whose segment does not exist or is too short, and compares what the
// checkpoint says was there with what was found.
func (r *recovery) checkQueue(q *queue) {
	cut := map[uint64]*journal.Damage{}
	for _, d := range r.report.Damage {
		if d.Pos.Generation() < r.cp.at.Generation() && d.Bytes > 0 {
			cut[d.Pos.Generation()] = d
		}
	}
	lost := map[uint64][]uint64{}
	for seq, n := range q.copiesFrom(0) {
		place := n.place()
		gen := place.Pos.Generation()
		if d := cut[gen]; !r.gens[gen] || d != nil && place.Pos+journal.Position(place.Bytes) > d.Pos {
			lost[gen] = append(lost[gen], seq)
		}
	}
	dir := r.e.files.path(journalDir)
	for _, gen := range slices.Sorted(maps.Keys(lost)) {
		seqs := lost[gen]
		cost := fmt.Sprintf("%d messages of queue %q are lost", len(seqs), q.name)
		if d := cut[gen]; d != nil {
			d.Reason += "; " + cost
		} else {
			_ = r.accept(damaged(dir, fmt.Sprintf("segment with generation %d is missing", gen)), cost)
		}
		for _, seq := range seqs {
			r.e.forget(q, seq)
		}
	}
	s := r.at[q.id]
	if s == nil {
		return
	}
	missing := -r.found[q.id]
	for _, l := range s.live {
		missing += int(l.to - l.from)
	}
	if missing > 0 {
		_ = r.accept(damaged(dir, fmt.Sprintf("%d messages of queue %q are in the checkpoint and in no segment", missing, q.name)), "")
	}
}

// eachUnreadable reads the living messages of segments before the checkpoint, which a start
// does not read before they are needed, and calls f for each copy whose record is damaged.
func (r *recovery) eachUnreadable(f func(c copyRef, pos journal.Position, err error)) {
	var copies []copyRef
	var places []journal.Place
	read := func() {
		r.e.j.Read(places, func(i int, _ journal.Record, err error) {
			if err != nil {
				f(copies[i], places[i].Pos, err)
			}
		})
		copies, places = copies[:0], places[:0]
	}
	for _, id := range slices.Sorted(maps.Keys(r.e.state.byID)) {
		q := r.e.state.byID[id]
		for seq, n := range q.copiesFrom(0) {
			if n.pos().Generation() >= r.cp.at.Generation() {
				continue
			}
			copies, places = append(copies, copyRef{q.id, seq}), append(places, n.place())
			if len(places) == 256 {
				read()
			}
		}
	}
	read()
}

// quarantineUnreadable finds with Quarantine what would be found one by one later.
func (r *recovery) quarantineUnreadable() {
	if !r.e.cfg.Quarantine {
		return
	}
	type unreadable struct {
		c   copyRef
		pos journal.Position
		err error
	}
	var all []unreadable
	r.eachUnreadable(func(c copyRef, pos journal.Position, err error) { all = append(all, unreadable{c, pos, err}) })
	for _, u := range all {
		r.e.quarantine([]copyRef{u.c}, u.pos, u.err)
		r.e.saveAsides()
	}
}

// logFindings logs and counts what was found.
func (r *recovery) logFindings() {
	e := r.e
	for _, d := range r.damage {
		e.log.Error("store is damaged", "file", d.File, "reason", d.Reason)
	}
	for _, d := range slices.Concat(e.report.Damage, e.report.Dropped) {
		level := e.log.Error
		if !d.Promised {
			level = e.log.Warn
		}
		level("journal was repaired", "file", d.File, "offset", d.Pos.Offset(), "bytes", d.Bytes,
			"first_seq", d.FirstSeq, "last_seq", d.LastSeq, "promised", d.Promised, "reason", d.Reason)
	}
	for _, name := range e.report.Repaired {
		e.log.Warn("the header of a segment was rebuilt from its records", "file", name)
	}
	e.damage.found.Add(uint64(len(r.damage) + len(e.report.Damage)))
}

// firstCheckpoint takes a checkpoint without what was found damaged, and renames damaged index
// files. It also takes the first one of a store: from then on no segment can be missing
// unnoticed.
func (r *recovery) firstCheckpoint() error {
	e := r.e
	harmed := e.damage.found.Load() > 0
	if !harmed && e.saved.at != 0 {
		return nil
	}
	e.state.defsChanged = e.state.defsChanged || harmed
	if _, err := e.takeCheckpoint(); journal.IsNoSpace(err) && !harmed {
		e.log.Warn("the first checkpoint was not written", "err", err)
	} else if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	for _, gen := range r.unusable {
		name := indexName(gen)
		if err := e.cfg.FS.Rename(e.files.path(name), e.files.path("damaged-"+name+".bin")); err != nil {
			return fmt.Errorf("keep damaged index file aside: %w", err)
		}
	}
	return nil
}
