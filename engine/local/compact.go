package local

import (
	"errors"
	"fmt"

	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/journal"
)

// Compaction keeps one old message from holding back the disk: what still lives in a
// segment is appended again, and the segment can be released. Copies keep their sequence
// numbers, so a start that finds a record twice takes the later one.

// segmentToCompact picks the sealed segment with the fewest living bytes if sealed segments
// take more than twice the space of what lives in them plus four segments. On a full disk
// it also picks one if the copies leave half of the remaining room to acks.
func (e *Engine) segmentToCompact() *segmentUse {
	room, noSpace := e.j.Space()
	full := noSpace != nil
	e.reclaimer.full.Store(full)
	e.mu.Lock()
	defer e.mu.Unlock()
	var used, live int64
	var best *segmentUse
	size := int64(e.cfg.SegmentBytes)
	for gen, u := range e.state.segs {
		if !u.sealed || u.released || gen >= e.saved.at.Generation() {
			continue
		}
		used += size
		live += u.liveBytes()
		if u.live > 0 && (best == nil || u.liveBytes() < best.liveBytes()) {
			best = u
		}
	}
	switch {
	case best == nil || best.liveBytes() > size*3/4:
		return nil
	case full && best.liveBytes()*2 < room:
		return best
	case !full && used > 2*live+4*size:
		return best
	}
	return nil
}

// survivor is a record of which a copy still lives.
type survivor struct {
	place  journal.Place
	copies []copyRef
}

// compact copies the messages that still live in a segment to the end of the journal.
func (e *Engine) compact(u *segmentUse) error {
	all, err := e.survivors(u)
	if err != nil {
		return err
	}
	for i := range all {
		r, err := e.readRecord(all[i].place)
		if damage, ok := errors.AsType[*journal.Damage](err); ok && damage.Err == nil {
			e.quarantine(all[i].copies, all[i].place.Pos, err)
			continue
		}
		if err == nil {
			err = e.copyRecord(&all[i], r)
		}
		if err != nil {
			return err
		}
	}
	if err := e.j.Sync(); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if u.live > 0 {
		return fmt.Errorf("%d messages of segment %d are in no index and cannot be copied forward", u.live, u.gen)
	}
	return nil
}

// survivors lists what lives in a segment, from its index or, if that is damaged, from the
// segment itself.
func (e *Engine) survivors(u *segmentUse) (all []survivor, err error) {
	add := func(place journal.Place, copies []copyRef) {
		if living := e.state.livingAt(place.Pos, nil, copies); living != nil {
			all = append(all, survivor{place, living})
		}
	}
	index, err := e.files.readIndex(u.gen)
	if err == nil {
		e.mu.Lock()
		defer e.mu.Unlock()
		err = decodeIndex(u.gen, index.entries, func(n *indexEntry) {
			add(n.place, n.copies)
		})
		return all, err
	}
	if isFatal(err) && !durable.IsNotExist(err) {
		return nil, err
	}
	e.log.Warn("index file is missing or damaged, its segment is read instead", "file", indexName(u.gen), "err", err)
	for r, err := range e.j.Scan(u.gen) {
		if _, ok := errors.AsType[*journal.Damage](err); ok {
			break // what is in the holes is found damaged when it is read
		}
		var m messageRecord
		if err == nil && r.Kind == kindMessage {
			m, err = decodeMessage(r.Payload, nil)
		}
		if err != nil {
			return nil, err
		}
		e.mu.Lock()
		add(journal.Place{Pos: r.Pos, Bytes: r.Bytes()}, m.copies)
		e.mu.Unlock()
	}
	return all, nil
}

// copyRecord appends a record again. The copies that still live move to it when it is
// synced; until then they are read from the old place.
func (e *Engine) copyRecord(s *survivor, r journal.Record) error {
	m, err := decodeMessage(r.Payload, nil)
	if err != nil {
		return err
	}
	if err := e.lockWithRoom(len(r.Payload)); err != nil {
		return err
	}
	defer e.mu.Unlock()
	if m.copies = e.state.livingAt(s.place.Pos, m.copies[:0], s.copies); len(m.copies) == 0 {
		return nil
	}
	m.flags |= flagForward
	e.scratch = m.appendHead(e.scratch[:0])
	place, err := e.store(true, &m, e.scratch, e.state.dedup.key.id(m.id))
	if err != nil {
		return err
	}
	e.reclaimer.copied.Add(1)
	copies := m.copies
	e.j.OnSync(func(err error) {
		if err == nil {
			e.mu.Lock()
			defer e.mu.Unlock()
			e.state.relocate(copies, s.place.Pos, place)
		}
	})
	return nil
}
