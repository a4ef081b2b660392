//go:build !unix

package bench

import (
	"io/fs"
	"time"
)

// processCPU is not known on this system.
func processCPU() time.Duration { return 0 }

func allocatedBytes(info fs.FileInfo) int64 { return info.Size() }
