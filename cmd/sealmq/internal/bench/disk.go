package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/sealmq/sealmq/internal/durable"
)

const (
	probeSyncs = 200
	probeBytes = 4096
)

// SyncTime measures the median time to write 4 KiB to a file in dir and sync it. The file
// has its final size and is overwritten, like a recycled segment, and is then removed.
func SyncTime(dir string) (time.Duration, error) {
	path := filepath.Join(dir, "sync-probe")
	f, err := durable.OS().OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return 0, fmt.Errorf("measure sync time: %w", err)
	}
	defer os.Remove(path)
	defer f.Close()
	block := make([]byte, probeBytes)
	for i := range block {
		block[i] = byte(i)
	}
	times := make([]time.Duration, 0, probeSyncs)
	for i := range 2 * probeSyncs { // the first round allocates, the second is measured
		began := time.Now()
		if _, err := f.WriteAt(block, int64(i%probeSyncs)*probeBytes); err != nil {
			return 0, fmt.Errorf("measure sync time: %w", err)
		}
		if i < probeSyncs-1 {
			continue
		}
		if err := f.Sync(); err != nil {
			return 0, fmt.Errorf("measure sync time: %w", err)
		}
		if i >= probeSyncs {
			times = append(times, time.Since(began))
		}
	}
	slices.Sort(times)
	return times[len(times)/2], nil
}
