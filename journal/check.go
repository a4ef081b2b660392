package journal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/sealmq/sealmq/internal/durable"
)

// SegmentReport is what Inspect found in one segment.
type SegmentReport struct {
	File       string `json:"file"`
	Generation uint64 `json:"generation"`
	Records    int    `json:"records"`
	End        int64  `json:"end"` // offset behind the last record
	BadHeader  bool   `json:"bad_header"`
}

// Inspect reads all segments of a journal without changing anything and calls visit
// for each record. Without a store id (all zero) it takes that of the first valid
// header. Segments that were used again hold records of their last life only; from the
// segment of the last checkpoint (from) on none may be missing.
func Inspect(fsys durable.FS, dir string, storeID [16]byte, from Position, visit func(Record) error) ([]SegmentReport, *Report, error) {
	names, err := fsys.ReadDir(dir)
	if err != nil {
		return nil, nil, fmt.Errorf("read journal folder: %w", err)
	}
	j := &Journal{cfg: Config{Dir: dir, FS: fsys, StoreID: storeID}, segments: map[uint64]*segment{}}
	defer func() {
		for _, s := range j.segments {
			_ = s.file.Close()
		}
	}()
	if storeID == [16]byte{} {
		if j.cfg.StoreID, err = findStoreID(fsys, dir, names); err != nil {
			return nil, nil, err
		}
	}
	report := &Report{}
	for _, name := range names {
		num, ok := segmentNumber(name)
		if !ok {
			continue
		}
		s, repaired, err := openSegment(fsys, filepath.Join(dir, name), num, os.O_RDONLY, j.cfg.StoreID)
		if err != nil {
			return nil, nil, err
		}
		if s.gen == 0 {
			_ = s.file.Close()
			continue
		}
		if repaired {
			report.Repaired = append(report.Repaired, s.name)
		}
		j.segments[s.gen] = s
	}
	return j.inspect(report, from, visit)
}

func (j *Journal) inspect(report *Report, from Position, visit func(Record) error) ([]SegmentReport, *Report, error) {
	counts := map[uint64]int{}
	sc := &scanner{segments: j.segments, from: from, synced: from, replay: func(r Record) error {
		counts[r.Pos.Generation()]++
		return visit(r)
	}}
	gens := sortedGenerations(j.segments)
	if err := sc.scanAll(gens); err != nil {
		return nil, nil, err
	}
	report.Damage = sc.sort(report)
	var out []SegmentReport
	for _, gen := range gens {
		s := j.segments[gen]
		sr := SegmentReport{File: s.name, Generation: gen, Records: counts[gen], End: sc.ends[gen]}
		for _, name := range report.Repaired {
			sr.BadHeader = sr.BadHeader || name == s.name
		}
		out = append(out, sr)
	}
	return out, report, nil
}

func findStoreID(fsys durable.FS, dir string, names []string) (id [16]byte, err error) {
	for _, name := range names {
		if _, ok := segmentNumber(name); !ok {
			continue
		}
		f, err := fsys.OpenFile(filepath.Join(dir, name), os.O_RDONLY, filePerm)
		if err != nil {
			return id, fmt.Errorf("open segment: %w", err)
		}
		page := make([]byte, pageBytes)
		_, err = f.ReadAt(page, 0)
		if err = errors.Join(err, f.Close()); err != nil {
			continue
		}
		h, err := decodeHeader(page)
		if errors.Is(err, ErrNewer) {
			return id, fmt.Errorf("%s: %w", name, err)
		}
		if err == nil {
			return h.storeID, nil
		}
	}
	return id, nil
}

// Scan is a ScanFunc: it reads one segment whole, whatever the checkpoint says.
func (j *Journal) Scan(generation uint64, visit func(Record) error) error {
	s := j.segmentOf(position(generation, 0))
	if s == nil {
		return ErrReleased
	}
	sc := &scanner{segments: map[uint64]*segment{generation: s}, replay: visit}
	if err := sc.scanAll([]uint64{generation}); err != nil {
		return err
	}
	for _, h := range sc.holes {
		if h.void || h.certain {
			h.Promised = true
			return h
		}
	}
	return nil
}
