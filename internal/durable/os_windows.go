package durable

import (
	"os"

	"golang.org/x/sys/windows"
)

var errWouldBlock error = windows.ERROR_LOCK_VIOLATION

// There are no pipes to wait for, and links need a privilege.
const openNow, openNoLink = 0, 0

func checkOnlyName(*os.File) error { return nil }

func lockFile(f *os.File, at uint64) error {
	return windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY,
		0, 1, 0, &windows.Overlapped{Offset: uint32(at), OffsetHigh: uint32(at >> 32)})
}

func syncDir(string) error { return nil }

// Space is how much of the disk of a folder is free for this process, and how much it would have if
// the disk were empty.
func Space(dir string) (free, total int64, err error) {
	p, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return 0, 0, &os.PathError{Op: "free space", Path: dir, Err: err}
	}
	var here, all uint64
	if err := windows.GetDiskFreeSpaceEx(p, &here, &all, nil); err != nil {
		return 0, 0, &os.PathError{Op: "free space", Path: dir, Err: err}
	}
	return clampProduct(here, 1), clampProduct(all, 1), nil
}
