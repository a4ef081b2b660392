package local

import (
	"fmt"

	"github.com/sealmq/sealmq/engine"
	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/journal"
)

// RecordInfo describes a record for people. Bodies are shown by their size only.
type RecordInfo struct {
	Position string `json:"position"`
	Seq      uint64 `json:"seq"`
	Bytes    int    `json:"bytes"`
	Kind     string `json:"kind"`
	Detail   string `json:"detail"`
}

// Inspection is what Inspect found.
type Inspection struct {
	StoreID    string                  `json:"store_id"`
	Checkpoint string                  `json:"checkpoint"`
	Segments   []journal.SegmentReport `json:"segments"`
	Report     *journal.Report         `json:"report"`
	// Problems lists damaged files other than segments.
	Problems []string `json:"problems"`
}

// Inspect says what a start would find, without changing anything, and reads every living
// message besides. No other process may hold the store. visit may be nil.
func Inspect(fsys durable.FS, dir string, visit func(RecordInfo) error) (*Inspection, error) {
	unlock, err := fsys.Lock(dir)
	if err != nil {
		return nil, fmt.Errorf("lock store folder: %w", err)
	}
	defer unlock()
	e := newEngine(Config{FS: fsys, Dir: dir})
	r := newRecovery(e)
	records, ends := map[uint64]int{}, map[uint64]int64{}
	r.visit = func(rec journal.Record) error {
		gen := rec.Pos.Generation()
		records[gen]++
		ends[gen] = rec.Pos.Offset() + int64(rec.Bytes())
		if visit == nil {
			return nil
		}
		info, err := describeRecord(rec)
		if err != nil {
			return fmt.Errorf("record at %v: %w", rec.Pos, err)
		}
		return visit(info)
	}
	err = r.examine(true)
	if e.j != nil {
		defer e.j.Close()
	}
	if err != nil {
		return nil, err
	}
	in := &Inspection{StoreID: fmt.Sprintf("%x", e.files.storeID), Checkpoint: "none", Report: r.report, Segments: r.report.Segments}
	if r.cp.at != 0 {
		in.Checkpoint = r.cp.at.String()
	}
	for _, d := range r.damage {
		in.Problems = append(in.Problems, d.Error())
	}
	r.eachUnreadable(func(_ copyRef, _ journal.Position, err error) { in.Problems = append(in.Problems, err.Error()) })
	for i := range in.Segments {
		s := &in.Segments[i]
		s.Records, s.End = records[s.Generation], ends[s.Generation]
	}
	return in, nil
}

func describeRecord(r journal.Record) (out RecordInfo, err error) {
	out = RecordInfo{Position: r.Pos.String(), Seq: r.Seq, Bytes: r.Bytes()}
	add := func(format string, args ...any) { out.Detail += fmt.Sprintf(format, args...) }
	d := decoder{b: r.Payload}
	switch r.Kind {
	case kindMessage:
		var m messageRecord
		m, err = decodeMessage(r.Payload, nil)
		out.Kind = "message"
		add("id=%s exchange=%s key=%s publisher=%s body_bytes=%d copies=%v", m.id, m.exchange, m.key, m.publisher, len(m.body), m.copies)
		if m.flags&flagMoved != 0 {
			add(" from=%d/%d reason=%q", m.fromQueue, m.fromSeq, m.deathReason)
		}
	case kindSettle:
		out.Kind = "settle"
		n := 0
		err = decodeSettle(r.Payload, func(c copyRef) {
			if n++; n <= 20 {
				add("%d/%d ", c.queue, c.seq)
			}
		})
		out.Detail = fmt.Sprintf("copies=%d %s", n, out.Detail)
	case kindReturn:
		out.Kind = "return"
		err = decodeReturn(r.Payload, func(c copyRef, m mark) {
			add("%d/%d attempts=%d until=%d reason=%q ", c.queue, c.seq, m.attempts, m.until, m.reason)
		})
	case kindDeclare:
		q := d.queue()
		out.Kind, err = "declare", d.err
		add("queue=%s id=%d", q.name, q.id)
		if q.paused {
			add(" paused")
		}
	case kindDelete:
		out.Kind = "delete"
		add("id=%d", d.uvarint())
		err = d.err
	case kindDefine:
		var defs []engine.Definition
		defs, err = decodeDefinitions(r.Payload)
		out.Kind = "define"
		for _, d := range defs {
			add("%q (%d bytes) ", d.Key, len(d.Value))
		}
	default:
		out.Kind = fmt.Sprintf("unknown (%d)", r.Kind)
	}
	return out, err
}
