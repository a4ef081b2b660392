package local_test

import (
	"errors"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/sealmq/sealmq/engine/enginetest"
	"github.com/sealmq/sealmq/internal/testing/faultfs"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(os.Exit))
}

func TestCrashes(t *testing.T) { enginetest.Crashes(t, newMachine) }

// TestEveryOperationFails lets each operation of each kind fail at its n-th call, then
// cuts the power. A store that goes on must keep its promises until then, too.
func TestEveryOperationFails(t *testing.T) {
	faults := []faultfs.Fault{
		{Err: faultfs.EIO},
		{Err: faultfs.EIO, Applied: true},
		{Err: faultfs.EIO, Short: 700, Partial: true, Seed: 3},
	}
	kinds := []faultfs.Kind{faultfs.Open, faultfs.Read, faultfs.ReadDir, faultfs.Lock, faultfs.Create, faultfs.Write,
		faultfs.Sync, faultfs.Truncate, faultfs.Rename, faultfs.Remove, faultfs.Mkdir, faultfs.SyncDir}
	for _, kind := range kinds {
		t.Run(kind.String(), func(t *testing.T) {
			t.Parallel()
			for i, fault := range faults {
				for n := 1; ; n += enginetest.Thin(n) {
					w, m := newWorld(t, uint64(i*1000+n))
					if n%2 == 0 {
						if err := w.Live(100); err != nil {
							t.Fatal(err)
						}
					}
					before := m.fs.Count(kind)
					m.fs.Fail(kind, n, fault)
					err := w.Live(150)
					if err != nil && !w.Stopped(err) && !errors.Is(err, faultfs.EIO) {
						t.Errorf("fault %d at %d: %v", i, n, err)
					}
					if m.fs.Count(kind) < before+n {
						break
					}
					w.Reboot(uint64(n))
					if err := w.Survives(); err != nil {
						t.Errorf("fault %d at %d: %v", i, n, err)
					}
				}
			}
		})
	}
}
