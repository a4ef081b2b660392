package crash_test

import (
	"errors"
	"flag"
	"testing"
	"time"

	"github.com/sealmq/sealmq/internal/testing/crash"
)

var freezes = flag.Int("freezes", 1, "how often TestFrozenDisk lets the disk hang")

func newDisk(t *testing.T) *crash.Disk {
	disk, err := crash.NewDisk(t.TempDir())
	if errors.Is(err, crash.ErrNoDisk) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := disk.Close(); err != nil {
			t.Error(err)
		}
	})
	return disk
}

// TestFrozenDisk: while the disk hangs for six seconds health says so and publishers wait; then
// everything goes on.
func TestFrozenDisk(t *testing.T) {
	if testing.Short() {
		t.Skip("it waits for seconds")
	}
	disk := newDisk(t)
	t.Cleanup(func() { _ = disk.Thaw() }) // or nothing that uses it could end
	r, err := crash.FrozenDisk(t.Context(), config(t, disk.Dir, *freezes), disk, 6*time.Second)
	if errors.Is(err, crash.ErrNoDisk) {
		t.Skip(err)
	}
	judge(t, r, err)
}

func TestPowerLoss(t *testing.T) {
	t.Parallel() // it mostly waits for the disk
	disk := newDisk(t)
	r, err := crash.PowerLoss(t.Context(), config(t, disk.Dir, *cuts), disk)
	if errors.Is(err, crash.ErrNoDisk) {
		t.Skip(err)
	}
	judge(t, r, err)
}
