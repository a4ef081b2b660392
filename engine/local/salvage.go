package local

import (
	"errors"
	"fmt"
	"slices"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/journal"
)

// This file is what a start does about damage; what is found later is in damage.go. Without Quarantine it refuses with an error
// that names the file. With it, it goes on with what is left, says so, and ends with a
// checkpoint behind the damage, so that the next start does not find it again.

// accept goes on past damage with Quarantine: it is logged and counted, and cost says what
// is lost. Otherwise, and if err is not damage, it returns an error.
func (r *recovery) accept(err error, cost string) error {
	var damage *journal.DamageError
	if !errors.As(err, &damage) {
		return err
	}
	for _, d := range damage.Damage {
		if cost != "" {
			d.Reason += "; " + cost
		}
		if r.e.cfg.Quarantine {
			r.e.damage.found.Add(1)
			r.e.log.Error("store is damaged", "file", d.File, "reason", d.Reason)
		}
	}
	if r.e.cfg.Quarantine {
		return nil
	}
	return damage
}

// explain names the checkpoint where its loss can be why the journal looks damaged: then
// segments were released that only the checkpoint said were not needed.
func (r *recovery) explain(err error) error {
	if _, ok := errors.AsType[*journal.DamageError](err); ok && r.cp.at == 0 && len(r.definitions)+len(r.index) > 0 {
		return fmt.Errorf("%s is missing, which may be all: %w", r.e.files.path(checkpointName), err)
	}
	return err
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
		if !r.e.cfg.Quarantine {
			return nil // the journal refuses, and explain adds why
		}
		for _, err := range r.e.j.Replay(0, 0) {
			if err != nil {
				return err
			}
		}
		if !r.e.j.Damaged() {
			return nil
		}
	}
	return r.loseCheckpoint(damaged(r.e.files.path(checkpointName), "it is missing"))
}

// loseDefinitions goes on without the definitions of a checkpoint. Its queues are kept; one
// whose name is lost gets a name that says so.
func (r *recovery) loseDefinitions(cp *checkpoint, err error) error {
	e := r.e
	if durable.IsNotExist(err) {
		err = damaged(e.files.path(definitionsName(cp.definitions)), "it is missing")
	}
	if err := r.accept(err, "queues and definitions are lost"); err != nil {
		return err
	}
	if err := r.newestDefinitions(); err != nil {
		return err
	}
	exists := map[uint32]bool{}
	for i := range cp.queues {
		id := cp.queues[i].id
		exists[id] = true
		if e.state.byID[id] == nil {
			r.nameless[id] = true
			e.state.addQueue(newQueue(id, fmt.Sprintf("recovered-%d", id), sealmq.QueueOptions{}.Normalize()))
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
func (r *recovery) nameAgain(q *queue, name string, o sealmq.QueueOptions) {
	e := r.e
	if !r.nameless[q.id] || e.state.queues[name] != nil {
		return
	}
	delete(e.state.queues, q.name)
	q.name, q.options = name, o
	e.state.queues[name] = q
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

// checkQueue removes copies whose segment does not exist, and compares what the checkpoint
// says was there with what was found.
func (r *recovery) checkQueue(q *queue) error {
	dir := r.e.files.path(journalDir)
	lost := map[uint64][]uint64{}
	for seq, n := range q.copiesFrom(0) {
		if gen := n.pos().Generation(); !r.gens[gen] {
			lost[gen] = append(lost[gen], seq)
		}
	}
	for gen, seqs := range lost {
		err := damaged(dir, fmt.Sprintf("segment with generation %d is missing", gen))
		if err := r.accept(err, fmt.Sprintf("%d messages of queue %q are lost", len(seqs), q.name)); err != nil {
			return err
		}
		for _, seq := range seqs {
			r.e.forget(q, seq)
		}
	}
	s := r.at[q.id]
	if s == nil {
		return nil
	}
	missing := -r.found[q.id]
	for _, l := range s.live {
		missing += int(l.to - l.from)
	}
	if missing <= 0 {
		return nil
	}
	return r.accept(damaged(dir, fmt.Sprintf("%d messages of queue %q are in the checkpoint and in no segment", missing, q.name)), "")
}

// reportJournal logs and counts what the journal found.
func (r *recovery) reportJournal() {
	e := r.e
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
	e.damage.found.Add(uint64(len(e.report.Damage)))
}

// checkpointPastDamage takes a checkpoint without what was found damaged, and renames
// damaged index files.
func (r *recovery) checkpointPastDamage() error {
	e := r.e
	if e.damage.found.Load() == 0 {
		return nil
	}
	e.state.defsChanged = true
	if _, err := e.takeCheckpoint(); err != nil {
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
