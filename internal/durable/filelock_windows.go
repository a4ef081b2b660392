package durable

import (
	"os"

	"golang.org/x/sys/windows"
)

// lockContent locks a byte that no content reaches, because a locked range cannot be
// read by others.
func lockContent(f *os.File) error {
	at := &windows.Overlapped{OffsetHigh: 1 << 30}
	return windows.LockFileEx(windows.Handle(f.Fd()),
		windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, at)
}
