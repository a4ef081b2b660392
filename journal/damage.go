package journal

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

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
	void    bool   // a void record will cover it; otherwise it will be cleared
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
	fmt.Fprintf(&b, "damaged journal: %s", d.File)
	if d.Bytes > 0 {
		fmt.Fprintf(&b, " at offset %d, %d bytes", d.Pos.Offset(), d.Bytes)
	}
	fmt.Fprintf(&b, ": %s", d.Reason)
	if d.FirstSeq != 0 {
		fmt.Fprintf(&b, " (records %d to %d)", d.FirstSeq, d.LastSeq)
	}
	return b.String()
}

// Report is what a start found.
type Report struct {
	// Damage lists promised records that are gone, and what is wrong with whole files.
	Damage []*Damage `json:"damage"`
	// Dropped lists what was written but never promised and is torn.
	Dropped []*Damage `json:"dropped"`
	// Repaired lists segments whose header was rebuilt from their records.
	Repaired []string `json:"repaired"`
	Records  int      `json:"records"`
	// Segments are all segments, in the order of their generations.
	Segments []SegmentReport `json:"-"`
}

// SegmentReport describes one segment.
type SegmentReport struct {
	File       string `json:"file"`
	Generation uint64 `json:"generation"`
	Records    int    `json:"records"` // filled in by those who read them
	End        int64  `json:"end"`     // offset behind the last of these
	BadHeader  bool   `json:"bad_header"`
}

// DamageError is the refusal to go on past damage. It names every damaged place.
type DamageError struct{ Damage []*Damage }

// Error lists the damage.
func (e *DamageError) Error() string {
	s := make([]string, len(e.Damage))
	for i, d := range e.Damage {
		s[i] = d.Error()
	}
	return strings.Join(s, "\n")
}

// errNoBytes says that there are no bytes to be kept.
var errNoBytes = errors.New("the bytes could not be read")

// SaveAside writes the damaged bytes that Read has found to a file of their own beside the
// segment, so that they are kept when the segment is used again. It needs nothing of the
// journal and may be called after the segment was released.
func (d *Damage) SaveAside(fsys durable.FS) error {
	if d.raw == nil {
		return errNoBytes
	}
	name := fmt.Sprintf("damaged-%d-%d.bin", d.Pos.Generation(), d.Pos.Offset())
	return durable.WriteFile(fsys, filepath.Join(filepath.Dir(d.File), name), d.raw, filePerm)
}
