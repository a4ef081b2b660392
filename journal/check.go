package journal

import (
	"iter"
	"os"
	"slices"

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
// for each record. Segments that were used again hold records of their last life only.
// from and seq are those of the last checkpoint, as for Replay: from its segment on none
// may be missing.
func Inspect(fsys durable.FS, dir string, storeID [16]byte, from Position, seq uint64, visit func(Record) error) ([]SegmentReport, *Report, error) {
	j, err := open(Config{Dir: dir, FS: fsys, StoreID: storeID}, os.O_RDONLY)
	if err != nil {
		return nil, nil, err
	}
	defer j.Close()
	counts := map[uint64]int{}
	sc := &scanner{segments: j.segments, from: from, fromSeq: seq, synced: from}
	gens := j.Generations()
	_ = sc.run(gens, func(r Record, readErr error) bool {
		if err = readErr; err == nil {
			counts[r.Pos.Generation()]++
			err = visit(r)
		}
		return err == nil
	})
	if err != nil {
		return nil, nil, err
	}
	report := j.opening.report
	report.Damage = sc.judge(report)
	var out []SegmentReport
	for _, gen := range gens {
		s := j.segments[gen]
		out = append(out, SegmentReport{File: s.name, Generation: gen, Records: counts[gen], End: sc.ends[gen],
			BadHeader: slices.Contains(report.Repaired, s.name)})
	}
	return out, report, nil
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
