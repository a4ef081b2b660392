package journal

// Next is the position from which the next record can be: everything appended so far
// is before it.
func (j *Journal) Next() Position {
	j.mu.Lock()
	defer j.mu.Unlock()
	return position(j.cur.gen, j.off)
}
