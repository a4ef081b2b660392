package bench

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

const (
	probeSyncs = 200
	probeBytes = 4096
)

// SyncTime measures the median time of writing 4 KiB and syncing it, in a file of dir
// that has its final size and is overwritten, as a recycled segment is. The file is
// removed.
func SyncTime(dir string) (time.Duration, error) {
	f, err := os.CreateTemp(dir, "sync-probe-")
	if err != nil {
		return 0, fmt.Errorf("measure sync time: %w", err)
	}
	defer os.Remove(f.Name())
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
		if err := dataSync(f); err != nil {
			return 0, fmt.Errorf("measure sync time: %w", err)
		}
		if i >= probeSyncs {
			times = append(times, time.Since(began))
		}
	}
	slices.Sort(times)
	return times[len(times)/2], nil
}

// FolderBytes is what the files of a folder take on the disk.
func FolderBytes(dir string) (total int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return ignoreGone(err)
		}
		info, err := d.Info()
		if err != nil {
			return ignoreGone(err)
		}
		total += allocatedBytes(info)
		return nil
	})
	return total, err
}

// ignoreGone: the broker may remove a file while the folder is walked.
func ignoreGone(err error) error {
	if os.IsNotExist(err) {
		return nil
	}
	return err
}
