package faultfs_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/internal/testing/faultfs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const rw = os.O_RDWR | os.O_CREATE

func open(t testing.TB, fs durable.FS, name string, flag int) durable.File {
	t.Helper()
	f, err := fs.OpenFile(name, flag, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func write(t testing.TB, f durable.File, data string, off int64) {
	t.Helper()
	if n, err := f.WriteAt([]byte(data), off); err != nil || n != len(data) {
		t.Fatalf("wrote %d of %d bytes: %v", n, len(data), err)
	}
}

// durableFile returns an open file; its content and its name are durable.
func durableFile(t testing.TB, fs *faultfs.FS, name, content string) durable.File {
	t.Helper()
	fs.Put(name, []byte(content))
	return open(t, fs, name, os.O_RDWR)
}

func sectors(fill ...byte) string {
	var b []byte
	for _, c := range fill {
		b = append(b, bytes.Repeat([]byte{c}, faultfs.SectorBytes)...)
	}
	return string(b)
}

func TestUnsyncedContent(t *testing.T) {
	old, now := sectors('a', 'b', 'c'), sectors('A', 'B', 'C', 'D')
	fs := faultfs.New()
	f := durableFile(t, fs, "f", old)
	write(t, f, now, 0)

	if got := fs.Snapshot().Crash(faultfs.DropUnsynced, 1).Get("f"); string(got) != old {
		t.Error("drop-unsynced did not give the synced content")
	}
	if got := fs.Snapshot().Crash(faultfs.KeepAll, 1).Get("f"); string(got) != now {
		t.Error("keep-all did not give the written content")
	}
	shapes := make(map[string]bool)
	for seed := range uint64(500) {
		got := fs.Snapshot().Crash(faultfs.KeepRandom, seed).Get("f")
		again := fs.Snapshot().Crash(faultfs.KeepRandom, seed).Get("f")
		if !bytes.Equal(got, again) {
			t.Fatalf("seed %d does not replay", seed)
		}
		shape := ""
		for i := 0; i*faultfs.SectorBytes < len(got); i++ {
			s := string(got[i*faultfs.SectorBytes : min(len(got), (i+1)*faultfs.SectorBytes)])
			if s != sectors(s[0])[:len(s)] {
				t.Fatalf("seed %d tore sector %d", seed, i)
			}
			shape += s[:1]
		}
		shapes[shape] = true
	}
	for _, want := range []string{"abc", "ABCD", "aBc", "AbC", "abcD", "abc\x00"} {
		if !shapes[want] {
			t.Errorf("500 crashes never left %q", want)
		}
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	for _, mode := range faultfs.CrashModes {
		if got := fs.Snapshot().Crash(mode, 3).Get("f"); string(got) != now {
			t.Errorf("%v lost synced content", mode)
		}
	}
}

func TestEarlierVersionOfASectorMaySurvive(t *testing.T) {
	fs := faultfs.New()
	f := durableFile(t, fs, "f", "....")
	write(t, f, "1", 0)
	write(t, f, "2", 1)
	write(t, f, "3", 2)
	seen := make(map[string]bool)
	for seed := range uint64(300) {
		seen[string(fs.Snapshot().Crash(faultfs.KeepRandom, seed).Get("f"))] = true
	}
	want := map[string]bool{"....": true, "1...": true, "12..": true, "123.": true}
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Errorf("states after a crash (-want +got):\n%s", diff)
	}
}

func TestUnsyncedEntries(t *testing.T) {
	exists := func(fs *faultfs.FS, name string) bool {
		f, err := fs.OpenFile(name, os.O_RDONLY, 0)
		if err == nil {
			f.Close()
		}
		return err == nil
	}
	t.Run("created file", func(t *testing.T) {
		fs := faultfs.New()
		f := open(t, fs, "f", rw)
		write(t, f, "x", 0)
		if err := f.Sync(); err != nil {
			t.Fatal(err)
		}
		if exists(fs.Snapshot().Crash(faultfs.DropUnsynced, 0), "f") {
			t.Error("a synced file survived without its folder")
		}
		if err := fs.SyncDir("/"); err != nil {
			t.Fatal(err)
		}
		if got := fs.Crash(faultfs.DropUnsynced, 0).Get("f"); string(got) != "x" {
			t.Errorf("content %q after both syncs", got)
		}
	})
	t.Run("entry without content", func(t *testing.T) {
		fs := faultfs.New()
		write(t, open(t, fs, "f", rw), "x", 0)
		if err := fs.SyncDir("/"); err != nil {
			t.Fatal(err)
		}
		if got := fs.Crash(faultfs.DropUnsynced, 0).Get("f"); len(got) != 0 {
			t.Errorf("content %q without a sync of the file", got)
		}
	})
	t.Run("removed file", func(t *testing.T) {
		fs := faultfs.New()
		fs.Put("f", []byte("x"))
		if err := fs.Remove("f"); err != nil {
			t.Fatal(err)
		}
		if !exists(fs.Snapshot().Crash(faultfs.DropUnsynced, 0), "f") {
			t.Error("the removal survived without a sync of the folder")
		}
		if err := fs.SyncDir("/"); err != nil {
			t.Fatal(err)
		}
		if exists(fs.Crash(faultfs.DropUnsynced, 0), "f") {
			t.Error("the file came back after the folder was synced")
		}
	})
	t.Run("folder in folder", func(t *testing.T) {
		fs := faultfs.New()
		if err := fs.MkdirAll("a/b", 0o700); err != nil {
			t.Fatal(err)
		}
		if err := durable.WriteFile(fs, "a/b/f", []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := fs.Snapshot().Crash(faultfs.DropUnsynced, 0).Files(); len(got) != 0 {
			t.Errorf("%q survived in a folder that nobody synced", got)
		}
		if err := durable.MkdirAll(fs, "a/b", 0o700); err != nil {
			t.Fatal(err)
		}
		// The entry of a in the root was not synced.
		if err := fs.SyncDir("/"); err != nil {
			t.Fatal(err)
		}
		if got := fs.Crash(faultfs.DropUnsynced, 0).Files(); !cmp.Equal(got, []string{"/a/b/f"}) {
			t.Errorf("files %q", got)
		}
	})
	t.Run("rename is whole", func(t *testing.T) {
		fs := faultfs.New()
		fs.Put("old", []byte("new"))
		fs.Put("f", []byte("old"))
		if err := fs.Rename("old", "f"); err != nil {
			t.Fatal(err)
		}
		outcomes := make(map[string]int)
		for seed := range uint64(100) {
			after := fs.Snapshot().Crash(faultfs.KeepRandom, seed)
			outcomes[string(after.Get("f"))]++
			if (string(after.Get("f")) == "new") == exists(after, "old") {
				t.Fatalf("seed %d did half a rename", seed)
			}
		}
		if outcomes["new"] == 0 || outcomes["old"] == 0 {
			t.Errorf("outcomes %v", outcomes)
		}
	})
	t.Run("rename across folders", func(t *testing.T) {
		fs := faultfs.New()
		fs.Put("a/f", nil)
		fs.Put("b/g", nil)
		if err := fs.Rename("a/f", "b/f"); !errors.Is(err, syscall.EXDEV) {
			t.Errorf("%v, want EXDEV", err)
		}
	})
}

func TestPowerOff(t *testing.T) {
	fs := faultfs.New()
	f := open(t, fs, "f", rw) // the first mutation
	fs.PowerOffAt(2)
	write(t, f, "x", 0)
	select {
	case <-fs.Off():
		t.Fatal("one mutation too early")
	default:
	}
	for what, err := range map[string]error{
		"sync":   f.Sync(),
		"read":   second(f.ReadAt(make([]byte, 1), 0)),
		"write":  second(f.WriteAt([]byte("x"), 0)),
		"size":   second(f.Size()),
		"mkdir":  fs.MkdirAll("d", 0o700),
		"open":   second(fs.OpenFile("f", os.O_RDWR, 0)),
		"remove": fs.Remove("f"),
		"lock":   second(fs.Lock("/")),
	} {
		if !errors.Is(err, faultfs.ErrPowerOff) {
			t.Errorf("%s: %v, want ErrPowerOff", what, err)
		}
	}
	<-fs.Off()
	if got := fs.Crash(faultfs.KeepAll, 0).Get("f"); string(got) != "x" {
		t.Errorf("content %q", got)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

func second[T any](_ T, err error) error { return err }

// TestAtomicReplacement crashes after every operation of durable.WriteFile, and of wrong
// variants of it, which it must find: a sweep that cannot fail is worth nothing.
func TestAtomicReplacement(t *testing.T) {
	old, now := bytes.Repeat([]byte("o"), 2000), bytes.Repeat([]byte("n"), 1500)
	broken := map[string]func(durable.FS) error{
		"": func(fs durable.FS) error { return durable.WriteFile(fs, "f", now, 0o600) },
		"in place": func(fs durable.FS) error {
			f, err := fs.OpenFile("f", rw|os.O_TRUNC, 0o600)
			if err != nil {
				return err
			}
			if _, err := f.WriteAt(now, 0); err != nil {
				return err
			}
			return f.Sync()
		},
		"without sync":        func(fs durable.FS) error { return durable.WriteFile(noSync{fs}, "f", now, 0o600) },
		"without folder sync": func(fs durable.FS) error { return durable.WriteFile(noSyncDir{fs}, "f", now, 0o600) },
	}
	for name, replace := range broken {
		t.Run(name, func(t *testing.T) {
			var bad []string
			for at := 1; at <= 12; at++ {
				fs := faultfs.New()
				fs.Put("f", old)
				fs.PowerOffAt(at)
				err := replace(fs)
				for _, mode := range faultfs.CrashModes {
					for seed := range uint64(20) {
						got := fs.Snapshot().Crash(mode, seed).Get("f")
						if !bytes.Equal(got, now) && (err == nil || !bytes.Equal(got, old)) {
							bad = append(bad, mode.String())
						}
					}
				}
			}
			if (len(bad) == 0) != (name == "") {
				t.Errorf("%d bad outcomes: %.200q", len(bad), bad)
			}
		})
	}
}

type noSyncDir struct{ durable.FS }

func (noSyncDir) SyncDir(string) error { return nil }

type noSync struct{ durable.FS }

func (fs noSync) OpenFile(name string, flag int, perm os.FileMode) (durable.File, error) {
	f, err := fs.FS.OpenFile(name, flag, perm)
	return noSyncFile{f}, err
}

type noSyncFile struct{ durable.File }

func (noSyncFile) Sync() error { return nil }

func TestConcurrentUse(t *testing.T) {
	fs := faultfs.New()
	fs.Put("f", make([]byte, 64*faultfs.SectorBytes))
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			f := open(t, fs, "f", os.O_RDWR)
			defer f.Close()
			b := make([]byte, faultfs.SectorBytes)
			for i := range 200 {
				at := int64((i*4+g)%64) * faultfs.SectorBytes
				if _, err := f.WriteAt([]byte(sectors(byte(g))), at); err != nil {
					t.Error(err)
				}
				if _, err := f.ReadAt(b, at); err != nil && err != io.EOF {
					t.Error(err)
				}
				if i%20 == 0 {
					f.Sync()
					fs.Snapshot().Crash(faultfs.KeepRandom, uint64(i))
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkFlipAndReopen(b *testing.B) {
	fs := faultfs.New()
	fs.Put("f", bytes.Repeat([]byte("x"), 64<<10))
	buf := make([]byte, 64<<10)
	for i := 0; b.Loop(); i++ {
		snap := fs.Snapshot()
		snap.FlipBit("f", int64(i)%(8*64<<10))
		f, err := snap.OpenFile("f", os.O_RDWR, 0)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := f.ReadAt(buf, 0); err != nil {
			b.Fatal(err)
		}
		f.Close()
	}
}

func BenchmarkWriteSyncCrash(b *testing.B) {
	fs := faultfs.New()
	fs.Put("f", make([]byte, 1<<20))
	f := open(b, fs, "f", os.O_RDWR)
	data := bytes.Repeat([]byte("x"), 4000)
	for i := 0; b.Loop(); i++ {
		if _, err := f.WriteAt(data, int64(i*4000)%(1<<20-4000)); err != nil {
			b.Fatal(err)
		}
		f.Sync()
		fs.Snapshot().Crash(faultfs.KeepRandom, uint64(i))
	}
}
