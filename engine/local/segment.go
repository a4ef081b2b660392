package local

import "github.com/sealmq/sealmq/journal"

// segmentUse is what the engine knows of one segment of the journal.
type segmentUse struct {
	gen      uint64
	total    int   // copies that were ever stored in it
	live     int   // of these, not gone
	bytes    int64 // of its message records
	sealed   bool  // takes no more records
	indexed  bool  // its index file is on disk
	released bool  // was given back to the journal
	// indexFile is what is to be written. Once it is on disk only the counts stay.
	indexFile
	lastOffset int64 // of the last entry
	lastTime   int64
	// settledBy is how many ids had been settled when the last copy in this segment was
	// gone. When all of them are forgotten, nothing needs its index file.
	settledBy uint64
	// checkpoints is how many checkpoints had been taken when it was released.
	checkpoints uint64
}

func (u *segmentUse) add(copies, record int) {
	u.total += copies
	u.live += copies
	u.bytes += int64(record)
}

// store appends a message record and notes it in the index of its segment. head is the
// encoding of m without its body, id the hash of its message id. Callers hold mu.
func (e *Engine) store(urgent bool, m *messageRecord, head []byte, id uint64) (journal.Place, error) {
	pos, err := e.j.Append(urgent, kindMessage, head, m.body)
	if err != nil {
		return journal.Place{}, err
	}
	place := journal.Place{Pos: pos, Bytes: journal.RecordBytes(len(head) + len(m.body))}
	use := e.state.use(pos.Generation())
	use.index(m, place, id)
	use.add(len(m.copies), place.Bytes)
	return place, nil
}

// liveBytes estimates the bytes of records that hold a living copy.
func (u *segmentUse) liveBytes() int64 {
	return int64(float64(u.bytes) * float64(u.live) / float64(max(u.total, 1)))
}

// sealed is the journal's notice that a segment takes no more records.
func (e *Engine) sealed(gen uint64) {
	e.mu.Lock()
	e.state.seal(gen)
	e.mu.Unlock()
	poke(e.reclaimer.wake)
}
