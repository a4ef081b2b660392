package local

// removals are copies that were removed from memory by their queue's own rule, or that
// needed no ack, and whose record is not written for want of room. Nobody waits for the
// record; but while there are some, no segment may be released, or a crash would find the
// copies in the checkpoint and not in the journal.
type removals struct {
	waiting  []copyRef
	recorded uint64 // how many are not waiting any more
}

func (r *removals) add(c ...copyRef) { r.waiting = append(r.waiting, c...) }

// total is how many there ever were.
func (r *removals) total() uint64 { return r.recorded + uint64(len(r.waiting)) }

// done notes that the first n ever are recorded.
func (r *removals) done(n uint64) {
	if n > r.recorded {
		r.waiting = r.waiting[n-r.recorded:]
		r.recorded = n
	}
	if len(r.waiting) == 0 {
		r.waiting = nil
	}
}

// removalGroup bounds the size of one record of removals.
const removalGroup = 512

// recordRemovals records the removals that wait, if there is room. Callers hold mu.
func (e *Engine) recordRemovals() {
	r := &e.removals
	for len(r.waiting) > 0 {
		group := r.waiting[:min(len(r.waiting), removalGroup)]
		if e.j.Room(true, 12*len(group)) != nil {
			return
		}
		e.scratch = appendSettle(e.scratch[:0], group)
		if _, err := e.urgent(kindSettle, e.scratch); err != nil {
			return
		}
		r.done(r.recorded + uint64(len(group)))
	}
}
