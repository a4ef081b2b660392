package journal

import (
	"io"
	"path/filepath"
)

// Copy calls f with every segment file up to a position that was applied, as it would be if
// the disk had been cut off there: what was written behind the position reads as zeros. A
// start from such files finds all records before it, and nothing else.
//
// Records are appended meanwhile. The caller makes sure that no segment is released.
func (j *Journal) Copy(to Position, f func(name string, size int64, content io.Reader) error) error {
	for _, gen := range j.Generations() {
		s := j.segmentOf(position(gen, 0))
		if gen > to.Generation() || s == nil {
			continue
		}
		end := s.size
		if gen == to.Generation() {
			end = to.Offset()
		}
		content := io.MultiReader(&segmentReader{s: s, end: end}, io.LimitReader(endlessZeros{}, s.size-end))
		if err := f(filepath.Base(s.name), s.size, content); err != nil {
			return err
		}
	}
	return nil
}

// segmentReader reads a segment up to an offset. A file that ends before is an error that names it:
// a copy without the end would look complete.
type segmentReader struct {
	s       *segment
	at, end int64
}

// Read implements io.Reader.
func (r *segmentReader) Read(p []byte) (int, error) {
	if r.at >= r.end {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), r.end-r.at)]
	if err := r.s.read(p, r.at); err != nil {
		return 0, err
	}
	r.at += int64(len(p))
	return len(p), nil
}

// endlessZeros is an endless reader.
type endlessZeros struct{}

// Read implements io.Reader.
func (endlessZeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
