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

// allocatedBytes counts the blocks of a file, which differ from its length when it has
// holes or is allocated ahead.
func allocatedBytes(info fs.FileInfo) int64 {
	const blockBytes = 512 // whatever the file system's own block size is
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return int64(s.Blocks) * blockBytes
	}
	return info.Size()
}
