package local

import (
	"fmt"
	"strconv"

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

// Inspect reads a store without changing anything; no other process may hold it. visit
// may be nil.
func Inspect(fsys durable.FS, dir string, visit func(RecordInfo) error) (*Inspection, error) {
	unlock, err := fsys.Lock(dir)
	if err != nil {
		return nil, fmt.Errorf("lock store folder: %w", err)
	}
	defer unlock()
	files := storeFiles{fs: fsys, dir: dir}
	if _, err := files.loadIdentity(false); err != nil {
		return nil, err
	}
	in := &Inspection{StoreID: fmt.Sprintf("%x", files.storeID), Checkpoint: "none"}
	problem := func(err error) {
		if err != nil {
			in.Problems = append(in.Problems, err.Error())
		}
	}
	cp, err := files.readCheckpoint()
	switch {
	case err == nil:
		in.Checkpoint = cp.at.String()
	case durable.IsNotExist(err):
		cp = &checkpoint{}
	default:
		cp = &checkpoint{}
		problem(err)
	}
	index, defs, err := files.list()
	if err != nil {
		return nil, err
	}
	for _, gen := range index {
		_, err := files.readIndex(gen)
		problem(err)
	}
	for _, n := range defs {
		_, err := files.readDefinitions(n)
		problem(err)
	}
	in.Segments, in.Report, err = journal.Inspect(fsys, files.path(journalDir), files.storeID, cp.at, cp.seq, func(r journal.Record) error {
		info, err := describeRecord(r)
		if err != nil {
			problem(fmt.Errorf("record at %v: %w", r.Pos, err))
		}
		if visit == nil {
			return nil
		}
		return visit(info)
	})
	return in, err
}

func describeRecord(r journal.Record) (RecordInfo, error) {
	out := RecordInfo{Position: r.Pos.String(), Seq: r.Seq, Bytes: r.Bytes()}
	switch r.Kind {
	case kindMessage:
		m, err := decodeMessage(r.Payload, nil)
		out.Kind = "message"
		out.Detail = fmt.Sprintf("id=%s exchange=%s key=%s publisher=%s body_bytes=%d copies=%v", m.id, m.exchange, m.key, m.publisher, len(m.body), m.copies)
		if m.flags&flagMoved != 0 {
			out.Detail += fmt.Sprintf(" from=%d/%d reason=%q", m.fromQueue, m.fromSeq, m.deathReason)
		}
		return out, err
	case kindSettle:
		out.Kind = "settle"
		n := 0
		err := decodeSettle(r.Payload, func(c copyRef) {
			if n++; n <= 20 {
				out.Detail += fmt.Sprintf("%d/%d ", c.queue, c.seq)
			}
		})
		out.Detail = fmt.Sprintf("copies=%d %s", n, out.Detail)
		return out, err
	case kindReturn:
		out.Kind = "return"
		return out, decodeReturn(r.Payload, func(c copyRef, m mark) {
			out.Detail += fmt.Sprintf("%d/%d attempts=%d until=%d reason=%q ", c.queue, c.seq, m.attempts, m.until, m.reason)
		})
	case kindDeclare:
		d := decoder{b: r.Payload}
		id, name, _ := d.queue()
		out.Kind, out.Detail = "declare", fmt.Sprintf("queue=%s id=%d", name, id)
		return out, d.err
	case kindDelete:
		d := decoder{b: r.Payload}
		out.Kind, out.Detail = "delete", fmt.Sprintf("id=%d", d.uvarint())
		return out, d.err
	case kindDefine:
		defs, err := decodeDefinitions(r.Payload)
		out.Kind = "define"
		for _, d := range defs {
			out.Detail += fmt.Sprintf("%s (%d bytes) ", strconv.Quote(d.Key), len(d.Value))
		}
		return out, err
	}
	out.Kind = fmt.Sprintf("unknown (%d)", r.Kind)
	return out, nil
}
