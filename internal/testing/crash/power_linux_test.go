package crash_test

import (
	"errors"
	"testing"

	"github.com/sealmq/sealmq/internal/testing/crash"
)

func TestPowerLoss(t *testing.T) {
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
	r, err := crash.PowerLoss(t.Context(), config(t, disk.Dir, times(*cuts, 6, 30)), disk)
	if errors.Is(err, crash.ErrNoDisk) {
		t.Skip(err)
	}
	judge(t, r, err)
}
