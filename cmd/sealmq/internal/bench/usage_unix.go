//go:build unix

package bench

import (
	"io/fs"
	"syscall"
	"time"
)

// processCPU is the processor time of this process since its start.
func processCPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0 // cannot happen with these arguments
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// allocatedBytes is the size of a file's blocks. It differs from the file's length if the
// file has holes or was allocated ahead.
func allocatedBytes(info fs.FileInfo) int64 {
	const blockBytes = 512 // the unit of Blocks on every file system
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return int64(s.Blocks) * blockBytes
	}
	return info.Size()
}
