package local

import "os"

// ballast is a file of zeros that is given up when the disk is full, so that a
// checkpoint can be written and segments come free.
const (
	ballastName  = "ballast"
	ballastBytes = 16 << 20 // more than the index of a segment of the default size takes
)

// ensureBallast makes the file if there is room for it. Nothing depends on its content.
func (e *Engine) ensureBallast() {
	size := int64(min(ballastBytes, e.cfg.SegmentBytes/2))
	f, err := e.cfg.FS.OpenFile(e.files.path(ballastName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return
	}
	defer f.Close()
	if have, err := f.Size(); err != nil || have >= size {
		return
	}
	zeros := make([]byte, 64<<10)
	for off := int64(0); off < size; off += int64(len(zeros)) {
		if _, err := f.WriteAt(zeros[:min(int64(len(zeros)), size-off)], off); err != nil {
			_ = e.files.remove(ballastName)
			return
		}
	}
}
