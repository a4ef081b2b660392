package durable_test

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/internal/testing/faultfs"
)

// TestWriteFileErrors lets every operation fail, both before and after it was done.
func TestWriteFileErrors(t *testing.T) {
	kinds := []faultfs.Kind{faultfs.Create, faultfs.Write, faultfs.Sync, faultfs.Rename, faultfs.SyncDir}
	for _, kind := range kinds {
		for _, applied := range []bool{false, true} {
			t.Run(fmt.Sprintf("%v applied=%v", kind, applied), func(t *testing.T) {
				fs := faultfs.New()
				fs.Put("d/f", []byte("old"))
				fs.Fail(kind, 1, faultfs.Fault{Err: faultfs.EIO, Applied: applied})
				err := durable.WriteFile(fs, "d/f", []byte("new"), 0o600)
				if !errors.Is(err, faultfs.EIO) {
					t.Fatalf("%v, want EIO", err)
				}
				if n := fs.Count(faultfs.Sync); n > 1 {
					t.Errorf("%d syncs: a failed one was tried again", n)
				}
				// After an error the file is old or new, and nothing else.
				if got := string(fs.Get("d/f")); got != "old" && got != "new" {
					t.Errorf("content %q", got)
				}
				if diff := cmp.Diff([]string{"/d/f"}, fs.Files()); diff != "" {
					t.Errorf("files (-want +got):\n%s", diff)
				}
				for _, mode := range faultfs.CrashModes {
					if got := string(fs.Snapshot().Crash(mode, 1).Get("d/f")); got != "old" && got != "new" {
						t.Errorf("content %q after a crash", got)
					}
				}
			})
		}
	}
}

// TestMkdirAllSurvives cuts the power after MkdirAll returned, also after earlier
// processes that were killed before they synced.
func TestMkdirAllSurvives(t *testing.T) {
	for at := 1; at <= 8; at++ {
		fs := faultfs.New()
		fs.PowerOffAt(at)
		err := durable.MkdirAll(fs, "a/b/c", 0o700)
		if err == nil != (at > 6) {
			t.Fatalf("power off at %d: %v", at, err)
		}
		// The process was killed, the machine goes on: a second one tries again.
		second := fs.Crash(faultfs.KeepAll, 0)
		killed := fs.Snapshot()
		for _, fs := range []*faultfs.FS{second, killed} {
			if err := durable.MkdirAll(fs, "a/b/c", 0o700); err != nil {
				t.Fatal(err)
			}
			if err := durable.WriteFile(fs, "a/b/c/f", nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if got := fs.Crash(faultfs.DropUnsynced, 0).Files(); !cmp.Equal(got, []string{"/a/b/c/f"}) {
				t.Errorf("killed at %d: files %q are left", at, got)
			}
		}
	}
}

func TestMkdirAllBelowAFolderThatCannotBeRead(t *testing.T) {
	fs := faultfs.New()
	fs.Put("/home/x", nil)
	fs.Hook(func(op faultfs.Op) *faultfs.Fault {
		// We may only pass through /home.
		if (op.Kind == faultfs.ReadDir || op.Kind == faultfs.SyncDir) && op.Path == "/home" {
			return &faultfs.Fault{Err: os.ErrPermission}
		}
		return nil
	})
	if err := durable.MkdirAll(fs, "/home/me/data", 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := fs.ReadDir("/home/me/data"); err != nil {
		t.Fatal(err)
	}
}
