package faultfs_test

import (
	"bytes"
	"errors"
	"math"
	"os"
	"runtime"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/internal/testing/faultfs"
)

func TestFailedSyncLosesPages(t *testing.T) {
	fs := faultfs.New()
	f := durableFile(t, fs, "f", sectors('a', 'b'))
	write(t, f, sectors('A'), 0)
	fs.Fail(faultfs.Sync, 1, faultfs.Fault{})
	if err := f.Sync(); !errors.Is(err, syscall.EIO) {
		t.Fatalf("%v, want EIO", err)
	}
	write(t, f, sectors('B'), faultfs.SectorBytes)
	if err := f.Sync(); err != nil {
		t.Fatalf("the retry must lie: %v", err)
	}
	if got := fs.Get("f"); string(got) != sectors('A', 'B') {
		t.Error("the cache does not show what was written")
	}
	for _, mode := range faultfs.CrashModes {
		if got := fs.Snapshot().Crash(mode, 1).Get("f"); string(got) != sectors('a', 'B') {
			t.Errorf("%v: the lost page came back", mode)
		}
	}
	fs.DropCaches()
	if got := fs.Get("f"); string(got) != sectors('a', 'B') {
		t.Error("without the cache the lost page still shows")
	}
	write(t, f, sectors('A'), 0)
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	if got := fs.Crash(faultfs.DropUnsynced, 1).Get("f"); string(got) != sectors('A', 'B') {
		t.Error("written anew and synced, but not durable")
	}
}

func TestPartialSync(t *testing.T) {
	shapes := make(map[string]bool)
	for seed := range uint64(100) {
		fs := faultfs.New()
		f := durableFile(t, fs, "f", sectors('a', 'b'))
		write(t, f, sectors('A', 'B'), 0)
		fs.Fail(faultfs.Sync, 1, faultfs.Fault{Err: faultfs.EIO, Partial: true, Seed: seed})
		if err := f.Sync(); !errors.Is(err, faultfs.EIO) {
			t.Fatal(err)
		}
		got := fs.Crash(faultfs.KeepAll, 0).Get("f")
		shapes[string([]byte{got[0], got[faultfs.SectorBytes]})] = true
	}
	if len(shapes) != 4 {
		t.Errorf("only %v after 100 failed syncs", shapes)
	}
}

func TestFaults(t *testing.T) {
	boom := errors.New("boom")
	t.Run("not applied", func(t *testing.T) {
		fs := faultfs.New()
		f := durableFile(t, fs, "f", "old")
		fs.Fail(faultfs.Write, 2, faultfs.Fault{Err: boom})
		write(t, f, "n", 0)
		if n, err := f.WriteAt([]byte("xx"), 0); n != 0 || !errors.Is(err, boom) {
			t.Fatalf("%d, %v", n, err)
		}
		write(t, f, "w", 2)
		if got := fs.Get("f"); string(got) != "nlw" {
			t.Errorf("content %q", got)
		}
	})
	t.Run("applied but reported failed", func(t *testing.T) {
		fs := faultfs.New()
		fs.Put("f", nil)
		for kind, do := range map[faultfs.Kind]func() error{
			faultfs.Create: func() error { return second(fs.OpenFile("g", rw, 0)) },
			faultfs.Rename: func() error { return fs.Rename("f", "h") },
			faultfs.Mkdir:  func() error { return fs.MkdirAll("d", 0o700) },
		} {
			fs.Fail(kind, 1, faultfs.Fault{Err: boom, Applied: true})
			if err := do(); !errors.Is(err, boom) {
				t.Errorf("%v: %v", kind, err)
			}
		}
		if names, _ := fs.ReadDir("/"); !cmp.Equal(names, []string{"d", "g", "h"}) {
			t.Errorf("names %q", names)
		}
		fs.Fail(faultfs.Remove, 1, faultfs.Fault{Err: boom, Applied: true})
		if err := fs.Remove("g"); !errors.Is(err, boom) {
			t.Error(err)
		}
		fs.Fail(faultfs.SyncDir, 1, faultfs.Fault{Err: boom, Applied: true})
		if err := fs.SyncDir("/"); !errors.Is(err, boom) {
			t.Error(err)
		}
		if names, _ := fs.Crash(faultfs.DropUnsynced, 0).ReadDir("/"); !cmp.Equal(names, []string{"d", "h"}) {
			t.Errorf("names after a crash %q", names)
		}
	})
	t.Run("short write", func(t *testing.T) {
		fs := faultfs.New()
		f := durableFile(t, fs, "f", "......")
		fs.Fail(faultfs.Write, 1, faultfs.Fault{Err: syscall.ENOSPC, Short: 2})
		if n, err := f.WriteAt([]byte("abcd"), 1); n != 2 || !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("%d, %v", n, err)
		}
		if got := fs.Get("f"); string(got) != ".ab..." {
			t.Errorf("content %q", got)
		}
	})
	t.Run("read", func(t *testing.T) {
		fs := faultfs.New()
		f := durableFile(t, fs, "f", "abc")
		fs.Fail(faultfs.Read, 1, faultfs.Fault{Damage: func(p []byte) { p[1] ^= 0x20 }})
		fs.Fail(faultfs.Read, 2, faultfs.Fault{})
		b := make([]byte, 3)
		if _, err := f.ReadAt(b, 0); err != nil || string(b) != "aBc" {
			t.Errorf("%q, %v", b, err)
		}
		if _, err := f.ReadAt(b, 0); !errors.Is(err, faultfs.EIO) {
			t.Errorf("%v, want EIO", err)
		}
		if _, err := f.ReadAt(b, 0); err != nil || string(b) != "abc" {
			t.Errorf("%q, %v", b, err)
		}
	})
}

func TestHook(t *testing.T) {
	fs := faultfs.New()
	var ops []string
	var before []*faultfs.FS
	fs.Hook(func(op faultfs.Op) *faultfs.Fault {
		ops = append(ops, op.String())
		if op.Mutation > 0 {
			before = append(before, fs.Snapshot())
		}
		return nil
	})
	if err := durable.WriteFile(fs, "f", []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	want := []string{"remove f.tmp", "create f.tmp", "write f.tmp [0+1]", "sync f.tmp", "rename f.tmp -> f", "syncdir ."}
	if diff := cmp.Diff(want, ops); diff != "" {
		t.Errorf("operations (-want +got):\n%s", diff)
	}
	if fs.Mutations() != len(want) || fs.Count(faultfs.Sync) != 1 {
		t.Errorf("%d mutations, %d syncs", fs.Mutations(), fs.Count(faultfs.Sync))
	}
	for i, snap := range before {
		if n := len(snap.Files()); n != min(1, max(0, i-1)) {
			t.Errorf("before %s: %d files", want[i], n)
		}
	}
}

func TestHungSync(t *testing.T) {
	for _, release := range []string{"released", "power off"} {
		t.Run(release, func(t *testing.T) {
			fs := faultfs.New()
			f := durableFile(t, fs, "f", "")
			write(t, f, "x", 0)
			free := make(chan struct{})
			fs.Fail(faultfs.Sync, 1, faultfs.Fault{Hang: free})
			done := make(chan error, 1)
			go func() { done <- f.Sync() }()
			for fs.Count(faultfs.Sync) == 0 {
				runtime.Gosched() // the sync is counted before it hangs
			}
			write(t, f, "y", 1) // other work goes on meanwhile
			select {
			case err := <-done:
				t.Fatalf("did not hang: %v", err)
			default:
			}
			var want error
			if release == "released" {
				close(free)
			} else {
				fs.PowerOff()
				want = faultfs.ErrPowerOff
			}
			if err := <-done; !errors.Is(err, want) {
				t.Fatalf("%v, want %v", err, want)
			}
			if want == nil {
				if got := string(fs.Snapshot().Crash(faultfs.DropUnsynced, 0).Get("f")); got != "x" {
					t.Errorf("content %q: a sync covers what was written before it, and no more", got)
				}
				if err := f.Sync(); err != nil {
					t.Fatal(err)
				}
				if got := string(fs.Crash(faultfs.DropUnsynced, 0).Get("f")); got != "xy" {
					t.Errorf("content %q after the next sync", got)
				}
			}
		})
	}
}

func TestDiskFull(t *testing.T) {
	fs := faultfs.New()
	if free, err := fs.FreeBytes("/"); err != nil || free != math.MaxInt64 {
		t.Fatalf("%d, %v", free, err)
	}
	fs.SetCapacity(3 * faultfs.SectorBytes)
	f := open(t, fs, "f", rw)
	n, err := f.WriteAt([]byte(sectors('a', 'b', 'c', 'd')), 0)
	if n != 3*faultfs.SectorBytes || !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("wrote %d, %v", n, err)
	}
	write(t, f, sectors('A', 'B', 'C'), 0) // in place
	if free, err := fs.FreeBytes("/"); err != nil || free != 0 {
		t.Fatalf("free %d, %v", free, err)
	}
	if err := f.Truncate(faultfs.SectorBytes); err != nil {
		t.Fatal(err)
	}
	g := open(t, fs, "g", rw)
	write(t, g, sectors('x', 'y'), 0)
	if fs.Used() != 3*faultfs.SectorBytes {
		t.Errorf("used %d", fs.Used())
	}
	if err := fs.Remove("g"); err != nil {
		t.Fatal(err)
	}
	if fs.Used() != 3*faultfs.SectorBytes {
		t.Errorf("the space of an open file was given away: %d", fs.Used())
	}
	g.Close()
	if fs.Used() != faultfs.SectorBytes {
		t.Errorf("used %d after the last close", fs.Used())
	}
	if free, _ := fs.Crash(faultfs.KeepAll, 0).FreeBytes("/"); free != 2*faultfs.SectorBytes {
		t.Errorf("free %d after a crash", free)
	}
}

func TestLock(t *testing.T) {
	fs := faultfs.New()
	unlock, err := fs.Lock("/")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fs.Lock("/"); !errors.Is(err, durable.ErrLocked) {
		t.Fatalf("%v, want ErrLocked", err)
	}
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
	if _, err := fs.Lock("/"); err != nil {
		t.Fatal(err)
	}
	if _, err := fs.Crash(faultfs.KeepAll, 0).Lock("/"); err != nil {
		t.Fatalf("after a crash: %v", err)
	}
}

func TestDamageTools(t *testing.T) {
	fs := faultfs.New()
	fs.Put("/d/f", []byte(sectors('a', 'b', 'c')))
	fs.FlipBit("/d/f", 8*700+5)
	snap := fs.Snapshot()
	snap.Cut("/d/f", 800)
	got := snap.Crash(faultfs.DropUnsynced, 0).Get("d/f")
	want := []byte(sectors('a', 'b'))[:800]
	want[700] ^= 0x20
	if !bytes.Equal(got, want) {
		t.Error("flip or cut is wrong or not durable")
	}
	if len(fs.Get("d/f")) != 3*faultfs.SectorBytes {
		t.Error("the snapshot is not independent")
	}
	if got := fs.Unsynced(); len(got) != 0 {
		t.Errorf("unsynced %q", got)
	}
	f := open(t, fs, "d/f", os.O_RDWR)
	write(t, f, "x", 0)
	open(t, fs, "d/g", rw)
	if diff := cmp.Diff([]string{"entries of /d", "content of /d/f"}, fs.Unsynced()); diff != "" {
		t.Errorf("unsynced (-want +got):\n%s", diff)
	}
}
