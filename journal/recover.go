package journal

import (
	"errors"
	"iter"
	"maps"
	"path/filepath"
	"slices"
	"sort"
)

// errUnread says that Begin was called although the records were not read to their end.
var errUnread = errors.New("the journal's records were not all read")

// errNotBegun says that something was appended before Begin.
var errNotBegun = errors.New("the journal has not begun")

// opening is what a journal knows between Open and Begin.
type opening struct {
	repaired []string   // segments whose header is to be rebuilt
	doubles  []*segment // files that another one is a newer copy of
	damage   []*Damage  // to whole files
	sc       *scanner
	err      error // why the records were not read to their end, or nil
}

// Replay yields the records of the segment of from and of all later ones, in order; those
// before from are among them. from and seq are what Applied said when the caller took its
// last checkpoint: everything before from was synced, and seq is the sequence of the first
// record there. Without a checkpoint both are 0. A payload is valid until the next record.
// An error ends the loop. Before Begin the loop must be run to its end; after another one
// only the last counts.
func (j *Journal) Replay(from Position, seq uint64) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		o := j.opening
		o.sc = &scanner{segments: j.segments, from: from, fromSeq: seq, synced: from}
		gens := j.Generations()
		first := sort.Search(len(gens), func(i int) bool { return gens[i] >= from.Generation() })
		o.err = o.sc.run(gens[first:], yield)
	}
}

// Judge says what Open and Replay have found. It changes nothing: Damage is what Begin would
// refuse, or set aside with Quarantine.
func (j *Journal) Judge() *Report {
	o := j.opening
	r := o.sc.judge()
	r.Damage = slices.Concat(o.damage, r.Damage)
	r.Repaired = o.repaired
	for _, gen := range j.Generations() {
		s := j.segments[gen]
		r.Segments = append(r.Segments, SegmentReport{File: s.name, Generation: gen, BadHeader: slices.Contains(o.repaired, s.name)})
	}
	return r
}

// Begin ends what Open began: from then on records can be appended. A hole, in which no valid
// record starts, was promised if it begins below the largest offset that a valid mark or the
// checkpoint calls synced: it is damage, and Begin refuses with a *DamageError and changes
// nothing. With Quarantine it saves the bytes aside and goes on. Other holes are dropped and
// reported. Holes are covered by void records, and what no mark calls synced is written again
// and synced: after a failed sync the kernel may show bytes that the disk does not have.
func (j *Journal) Begin() (*Report, error) {
	o := j.opening
	if o == nil || o.err != nil {
		return nil, errUnread
	}
	report := j.Judge()
	if len(report.Damage) > 0 && !j.cfg.Quarantine {
		return report, &DamageError{report.Damage}
	}
	j.stats.DroppedTail = uint64(len(report.Dropped))
	err := j.repair(o)
	if err == nil {
		err = j.chooseCurrent(o.sc)
	}
	if err != nil {
		return report, err
	}
	j.unmarked = o.sc.tail > o.sc.synced || len(report.Dropped) > 0
	j.applied, j.appliedSeq = j.synced, j.seq
	j.opening = nil
	j.background.Go(j.commit)
	j.background.Go(j.prepareSegments)
	poke(j.prepare)
	return report, nil
}

// repair makes what was found durable and unambiguous; see Begin.
func (j *Journal) repair(o *opening) error {
	if err := j.setDoublesAside(o); err != nil {
		return err
	}
	for _, s := range slices.AppendSeq(slices.Clone(j.free), maps.Values(j.segments)) {
		if slices.Contains(o.repaired, s.name) {
			if err := s.writeHeader(j.cfg.StoreID, s.gen); err != nil {
				return err
			}
		}
	}
	touched := map[*segment]bool{}
	if err := j.coverHoles(o.sc.holes, touched); err != nil {
		return err
	}
	if err := j.rewriteUnsynced(o.sc, touched); err != nil {
		return err
	}
	for s := range touched {
		if err := s.file.Sync(); err != nil {
			return s.wrap("sync", err)
		}
	}
	return nil
}

// setDoublesAside renames files that are copies of segments.
func (j *Journal) setDoublesAside(o *opening) error {
	for _, s := range o.doubles {
		aside := filepath.Join(j.cfg.Dir, "damaged-"+filepath.Base(s.name)+".bin")
		if err := errors.Join(s.file.Close(), j.cfg.FS.Rename(s.name, aside)); err != nil {
			return s.wrap("set aside", err)
		}
	}
	if len(o.doubles) == 0 {
		return nil
	}
	o.doubles = nil
	return j.cfg.FS.SyncDir(j.cfg.Dir)
}

// coverHoles overwrites holes by void records. Bytes that were promised are saved first.
func (j *Journal) coverHoles(holes []*Damage, touched map[*segment]bool) error {
	for _, h := range holes {
		s := j.segments[h.Pos.Generation()]
		if s == nil {
			continue
		}
		if h.void && h.Promised {
			h.raw = make([]byte, h.Bytes)
			if err := s.read(h.raw, h.Pos.Offset()); err != nil {
				return err
			}
			if err := h.SaveAside(j.cfg.FS); err != nil {
				return err
			}
			h.raw = nil
		}
		// A torn end is cleared, or the next start would find it behind later records.
		cover := make([]byte, h.Bytes)
		if h.void && h.Bytes >= minRecordBytes {
			cover = appendVoid(cover[:0], s.sum, int(h.Bytes), h.seq, h.missing())
		}
		if _, err := s.file.WriteAt(cover, h.Pos.Offset()); err != nil {
			return s.wrap("write", err)
		}
		if h.Pos.Offset()+h.Bytes == s.size {
			s.cut = 0
		}
		touched[s] = true
	}
	return nil
}

// rewriteUnsynced writes again what no mark says is synced.
func (j *Journal) rewriteUnsynced(sc *scanner, touched map[*segment]bool) error {
	for gen, end := range sc.ends {
		s, from := j.segments[gen], int64(pageBytes)
		if gen == sc.synced.Generation() {
			from = sc.synced.Offset()
		}
		if gen < sc.synced.Generation() || from >= end {
			continue
		}
		buf := make([]byte, end-from)
		if err := s.read(buf, from); err != nil {
			return err
		}
		if _, err := s.file.WriteAt(buf, from); err != nil {
			return s.wrap("write", err)
		}
		touched[s] = true
	}
	return nil
}

// chooseCurrent picks the segment that takes the next record: the last that holds one,
// or an empty one. Empty ones behind it are prepared again with new generations.
func (j *Journal) chooseCurrent(sc *scanner) error {
	j.seq = max(sc.next, sc.fromSeq, 1)
	j.nextGen = max(j.nextGen, sc.from.Generation()+1)
	for _, gen := range j.Generations() {
		s := j.segments[gen]
		end, scanned := sc.ends[gen]
		if !scanned || end > pageBytes || gen == sc.from.Generation() {
			if scanned {
				j.cur, j.off = s, end
			}
			continue
		}
		delete(j.segments, gen)
		switch {
		case s.cut != 0:
			// Cut short before its first record. It goes now: a later start, whose checkpoint
			// is behind it, could not know that it never held one.
			if err := j.removeSegment(s); err != nil {
				return err
			}
		case j.cur == nil: // nothing was ever written: the first segment stays the first
			j.segments[gen], j.cur, j.off = s, s, end
		default:
			j.free = append(j.free, s)
		}
	}
	if j.cur == nil {
		s, err := createSegment(j.cfg.FS, j.cfg.Dir, j.nextNum, j.cfg.SegmentBytes, j.cfg.StoreID, j.nextGen)
		if err != nil {
			return err
		}
		j.nextNum++
		j.nextGen++
		j.segments[s.gen], j.cur, j.off = s, s, pageBytes
	}
	j.off = max(j.off, pageBytes)
	j.synced = position(j.cur.gen, j.off)
	return nil
}

// Scan yields every valid record of one segment, whatever the checkpoint says. An error
// comes last; a *Damage says that there are holes between the records.
func (j *Journal) Scan(generation uint64) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		s := j.segmentOf(position(generation, 0))
		if s == nil {
			yield(Record{}, ErrReleased)
			return
		}
		sc := &scanner{segments: map[uint64]*segment{generation: s}}
		if sc.run([]uint64{generation}, yield) != nil {
			return
		}
		for _, h := range sc.holes {
			if h.void || h.certain {
				h.Promised = true
				yield(Record{}, h)
				return
			}
		}
	}
}
