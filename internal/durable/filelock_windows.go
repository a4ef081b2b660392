package durable

import (
	"os"

	"golang.org/x/sys/windows"
)

// lockContent locks a byte far beyond any content, because other processes cannot read a
// locked range.
func lockContent(f *os.File) error {
	at := &windows.Overlapped{OffsetHigh: 1 << 30}
	return windows.LockFileEx(windows.Handle(f.Fd()),
		windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, at)
}
