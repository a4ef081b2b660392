package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"

	"github.com/sealmq/sealmq/internal/durable"
)

// Damage describes bytes in which no valid record was found.
type Damage struct {
	File  string   `json:"file"`
	Pos   Position `json:"position"`
	Bytes int64    `json:"bytes"`
	// FirstSeq to LastSeq are the records that are missing; both 0 if not known.
	FirstSeq uint64 `json:"first_seq"`
	LastSeq  uint64 `json:"last_seq"`
	// Promised tells damage from a torn tail: true below the synced offset.
	Promised bool   `json:"promised"`
	Reason   string `json:"reason"`
	// Err is set if the bytes could not be read at all. Then they may be intact.
	Err     error  `json:"-"`
	raw     []byte // what Read found there
	void    bool   // a void record will cover it; what else there is will be written over
	seq     uint64 // of the void record
	certain bool   // damage wherever the synced offset is
}

// Unwrap returns Err.
func (d *Damage) Unwrap() error { return d.Err }

func (d *Damage) missing() uint64 {
	if d.FirstSeq == 0 {
		return 0
	}
	return d.LastSeq - d.FirstSeq + 1
}

// Error names the file, the offset, what was expected and what was found.
func (d *Damage) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "damaged journal: %s at offset %d, %d bytes: %s", d.File, d.Pos.Offset(), d.Bytes, d.Reason)
	if d.FirstSeq != 0 {
		fmt.Fprintf(&b, " (records %d to %d)", d.FirstSeq, d.LastSeq)
	}
	return b.String()
}

// Report is what Open found.
type Report struct {
	// Damage lists promised records that are gone; not empty only with Quarantine.
	Damage []*Damage `json:"damage"`
	// Dropped lists what was written but never promised and is torn.
	Dropped []*Damage `json:"dropped"`
	// Repaired lists segments whose header was rebuilt from their records.
	Repaired []string `json:"repaired"`
	Records  int      `json:"records"`
}

// DamageError is Open's refusal to go on. It names every damaged place.
type DamageError struct{ Damage []*Damage }

// Error lists the damage.
func (e *DamageError) Error() string {
	s := make([]string, len(e.Damage))
	for i, d := range e.Damage {
		s[i] = d.Error()
	}
	return strings.Join(s, "\n")
}

// Open opens the journal in cfg.Dir, creating it if there is none, and calls replay
// for each record of the segment of cfg.From and all later ones, in order. A payload
// is valid during the call only. Records before From are among them.
//
// The caller holds the folder's lock. The same path is taken after a crash and after a
// clean stop:
//
//   - The synced offset S is the largest that any valid mark (or cfg.From) names.
//   - Where no valid record starts, the next one is searched for. What lies between is
//     a hole. A hole that begins below S was promised: it is damage, and Open refuses
//     or, with Quarantine, saves the bytes aside and goes on.
//   - A hole above S was never promised. It is dropped and reported; valid records
//     behind it are kept, because nothing depends on what was lost with it.
//   - Holes are then overwritten by void records and everything above S is written
//     again and synced: after a failed sync the kernel may show bytes that the disk
//     does not have, and the next batch will declare all before it as synced.
func Open(cfg Config, replay func(Record) error) (*Journal, *Report, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, nil, err
	}
	j := &Journal{
		cfg: cfg, pending: &batch{}, segments: map[uint64]*segment{}, nextGen: cfg.From.Generation() + 1,
		wake: make(chan struct{}, 1), prepare: make(chan struct{}, 1),
		stop: make(chan struct{}), failedCh: make(chan struct{}),
	}
	j.room = sync.NewCond(&j.mu)
	j.cache.limit = cfg.CacheBytes
	report := &Report{}
	err = j.recover(report, replay)
	if err != nil {
		for _, s := range j.segments {
			_ = s.file.Close()
		}
		for _, s := range j.free {
			_ = s.file.Close()
		}
		return nil, report, err
	}
	j.applied, j.appliedSeq = j.synced, j.seq
	j.background.Add(2)
	go j.commit()
	go j.prepareSegments()
	j.askPreparer()
	return j, report, nil
}

func (j *Journal) recover(report *Report, replay func(Record) error) error {
	if err := durable.MkdirAll(j.cfg.FS, j.cfg.Dir, 0o700); err != nil {
		return fmt.Errorf("create journal folder: %w", err)
	}
	if err := j.openSegments(report); err != nil {
		return err
	}
	sc := &scanner{segments: j.segments, from: j.cfg.From, fromSeq: j.cfg.FromSeq, synced: j.cfg.From, replay: replay}
	gens := sortedGenerations(j.segments)
	if err := j.cfg.Opened(gens, j.Scan); err != nil {
		return err
	}
	first := sort.Search(len(gens), func(i int) bool { return gens[i] >= j.cfg.From.Generation() })
	if err := sc.scanAll(gens[first:]); err != nil {
		return err
	}
	promised := sc.sort(report)
	if len(promised) > 0 && !j.cfg.Quarantine {
		return &DamageError{promised}
	}
	report.Damage = promised
	j.stats.damaged.Add(uint64(len(promised)))
	j.stats.droppedTail.Add(uint64(len(report.Dropped)))
	if err := j.mend(sc, report); err != nil {
		return err
	}
	j.unmarked = sc.tail > sc.synced || len(report.Dropped) > 0
	return j.chooseCurrent(sc, gens)
}

// openSegments opens every segment file and learns its generation.
func (j *Journal) openSegments(report *Report) error {
	names, err := j.cfg.FS.ReadDir(j.cfg.Dir)
	if err != nil {
		return fmt.Errorf("read journal folder: %w", err)
	}
	var unused []*segment
	for _, name := range names {
		num, ok := segmentNumber(name)
		if !ok {
			continue
		}
		j.nextNum = max(j.nextNum, num+1)
		s, repaired, err := openSegment(j.cfg.FS, filepath.Join(j.cfg.Dir, name), num, os.O_RDWR, j.cfg.StoreID)
		if err != nil {
			return err
		}
		if repaired {
			report.Repaired = append(report.Repaired, s.name)
		}
		same := []*segment{s}
		if other := j.segments[s.gen]; other != nil {
			// One of them has a header that is not its own. Marks cannot be mistaken.
			delete(j.segments, s.gen)
			same = append(same, other)
			report.Repaired = append(report.Repaired, s.name, other.name)
		}
		for _, s := range same {
			if len(same) > 1 {
				if err := s.rescue(j.cfg.StoreID); err != nil {
					return err
				}
			}
			if s.gen == 0 { // a crash while it was made: it never held a record
				unused = append(unused, s)
			} else if err := j.addSegment(s); err != nil {
				return err
			}
		}
	}
	for _, s := range unused {
		if err := j.removeSegment(s); err != nil {
			return err
		}
	}
	return nil
}

func (j *Journal) addSegment(s *segment) error {
	if other := j.segments[s.gen]; other != nil {
		_ = s.file.Close()
		return &DamageError{[]*Damage{{File: s.name, Pos: position(s.gen, 0), Bytes: s.size, Promised: true,
			Reason: "same generation as " + other.name}}}
	}
	j.segments[s.gen] = s
	j.nextGen = max(j.nextGen, s.gen+1)
	return nil
}

// openSegment opens one file. With a bad header the generation is read from the marks
// in the file; it is 0 if there are none, because then it never held a record.
func openSegment(fsys durable.FS, name string, num, flag int, storeID [16]byte) (_ *segment, repaired bool, err error) {
	s := &segment{num: num, name: name}
	if s.file, err = fsys.OpenFile(name, flag, filePerm); err != nil {
		return nil, false, fmt.Errorf("open segment: %w", err)
	}
	defer func() {
		if err != nil {
			_ = s.file.Close()
		}
	}()
	if s.size, err = s.file.Size(); err != nil {
		return nil, false, s.wrap("size of", err)
	}
	page := make([]byte, min(s.size, pageBytes))
	if _, err := s.file.ReadAt(page, 0); err != nil && len(page) > 0 {
		return nil, false, s.wrap("read header of", err)
	}
	h, err := decodeHeader(page)
	switch {
	case err == nil && h.storeID != storeID:
		return nil, false, s.wrap("open", errors.New("the segment belongs to another store"))
	case err == nil:
		s.gen, s.sum = h.generation, generationSum(storeID, h.generation)
		if int64(h.size) > s.size {
			s.cut, s.size = s.size, int64(h.size)
		}
		return s, false, nil
	case errors.Is(err, errNoHeader):
		err = s.rescue(storeID)
		return s, s.gen != 0, err
	}
	return nil, false, s.wrap("open", err)
}

// rescue takes the highest generation that a valid mark in the file names.
func (s *segment) rescue(storeID [16]byte) error {
	if s.cut != 0 {
		s.cut, s.size = 0, s.cut
	}
	buf := make([]byte, s.size)
	if err := s.read(buf, 0); err != nil && s.size > 0 {
		return err
	}
	s.gen = 0
	for off := pageBytes; off+markBytes <= len(buf); off += recordAlign {
		if binary.LittleEndian.Uint32(buf[off+4:]) != recordHeaderBytes+16 || buf[off+16] != kindMark {
			continue
		}
		gen := binary.LittleEndian.Uint64(buf[off+recordHeaderBytes:])
		if _, ok := decodeRecord(buf[off:], generationSum(storeID, gen)); ok {
			s.gen = max(s.gen, gen)
		}
	}
	s.sum = generationSum(storeID, s.gen)
	return nil
}

// mend makes what was found durable and unambiguous; see Open.
func (j *Journal) mend(sc *scanner, report *Report) error {
	touched := map[*segment]bool{}
	for _, name := range report.Repaired {
		for _, s := range j.segments {
			if s.name == name {
				if err := s.writeHeader(j.cfg.StoreID, s.gen); err != nil {
					return err
				}
			}
		}
	}
	for _, h := range sc.holes {
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
		// A torn end is cleared, or it would be met again behind later records.
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
	for gen, end := range sc.ends {
		s := j.segments[gen]
		from := int64(pageBytes)
		if gen < sc.synced.Generation() {
			continue
		}
		if gen == sc.synced.Generation() {
			from = sc.synced.Offset()
		}
		if from >= end {
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
	for s := range touched {
		if err := s.file.Sync(); err != nil {
			return s.wrap("sync", err)
		}
	}
	return nil
}

// errUnread says that there are no bytes to be kept.
var errUnread = errors.New("the bytes could not be read")

// SaveAside writes the damaged bytes that Read has found to a file of their own beside the
// segment, so that they are kept when the segment is used again. It needs nothing of the
// journal and may be called after the segment was released.
func (d *Damage) SaveAside(fsys durable.FS) error {
	if d.raw == nil {
		return errUnread
	}
	name := fmt.Sprintf("damaged-%d-%d.bin", d.Pos.Generation(), d.Pos.Offset())
	return durable.WriteFile(fsys, filepath.Join(filepath.Dir(d.File), name), d.raw, filePerm)
}

// chooseCurrent picks the segment that takes the next record: the last that holds one,
// or an empty one. Empty ones behind it are prepared again with new generations.
func (j *Journal) chooseCurrent(sc *scanner, gens []uint64) error {
	j.seq = max(sc.next, j.cfg.FromSeq, 1)
	for _, gen := range gens {
		s := j.segments[gen]
		end, scanned := sc.ends[gen]
		if !scanned || end > pageBytes || gen == j.cfg.From.Generation() {
			if scanned {
				j.cur, j.off = s, end
			}
			continue
		}
		delete(j.segments, gen)
		if s.cut == 0 && j.cur == nil {
			// Nothing was ever written: the first segment stays the first.
			j.segments[gen], j.cur, j.off = s, s, end
		} else if s.cut == 0 {
			j.free = append(j.free, s)
		} else if err := j.removeSegment(s); err != nil { // a crash while it was made
			return err
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
