package faultfs_test

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/internal/testing/faultfs"
)

// TestBehavesLikeTheSystem does the same random operations here and on a real disk.
func TestBehavesLikeTheSystem(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "faultfs")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		mem, disk := faultfs.New(), durable.OS()
		if err := mem.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		name := rapid.Custom(func(t *rapid.T) string {
			return filepath.Join(dir, rapid.SampledFrom([]string{"a", "b", "sub", "sub/c"}).Draw(t, "name"))
		})
		flags := rapid.SampledFrom([]int{os.O_RDWR, rw, rw | os.O_EXCL, rw | os.O_TRUNC, os.O_RDONLY})
		same := func(what string, a, b error) {
			if (a == nil) != (b == nil) || durable.IsNotExist(a) != durable.IsNotExist(b) {
				t.Fatalf("%s: here %v, system %v", what, a, b)
			}
		}
		type pair struct{ mem, disk durable.File }
		var files []pair
		defer func() {
			for _, p := range files {
				p.disk.Close()
			}
		}()
		t.Repeat(map[string]func(*rapid.T){
			"open": func(t *rapid.T) {
				n, flag := name.Draw(t, "file"), flags.Draw(t, "flag")
				if info, err := os.Stat(n); err == nil && info.IsDir() {
					t.Skip("the system opens folders")
				}
				a, aerr := mem.OpenFile(n, flag, 0o600)
				b, berr := disk.OpenFile(n, flag, 0o600)
				same("open", aerr, berr)
				if aerr == nil {
					files = append(files, pair{a, b})
				}
			},
			"write": func(t *rapid.T) {
				if len(files) == 0 {
					t.Skip()
				}
				p := rapid.SampledFrom(files).Draw(t, "handle")
				data := bytes.Repeat([]byte{rapid.Byte().Draw(t, "fill")}, rapid.IntRange(1, 1500).Draw(t, "len"))
				off := rapid.Int64Range(0, 3000).Draw(t, "off")
				_, aerr := p.mem.WriteAt(data, off)
				_, berr := p.disk.WriteAt(data, off)
				same("write", aerr, berr)
			},
			"read": func(t *rapid.T) {
				if len(files) == 0 {
					t.Skip()
				}
				p := rapid.SampledFrom(files).Draw(t, "handle")
				off, n := rapid.Int64Range(0, 5000).Draw(t, "off"), rapid.IntRange(1, 5000).Draw(t, "len")
				a, b := make([]byte, n), make([]byte, n)
				an, aerr := p.mem.ReadAt(a, off)
				bn, berr := p.disk.ReadAt(b, off)
				if an != bn || aerr != berr || !bytes.Equal(a, b) {
					t.Fatalf("read %d+%d: here %d %v, system %d %v", off, n, an, aerr, bn, berr)
				}
				as, _ := p.mem.Size()
				bs, _ := p.disk.Size()
				if as != bs {
					t.Fatalf("size: here %d, system %d", as, bs)
				}
			},
			"truncate": func(t *rapid.T) {
				if len(files) == 0 {
					t.Skip()
				}
				p, size := rapid.SampledFrom(files).Draw(t, "handle"), rapid.Int64Range(0, 4000).Draw(t, "size")
				same("truncate", p.mem.Truncate(size), p.disk.Truncate(size))
			},
			"sync": func(t *rapid.T) {
				if len(files) == 0 {
					t.Skip()
				}
				if err := rapid.SampledFrom(files).Draw(t, "handle").mem.Sync(); err != nil {
					t.Fatal(err)
				}
			},
			"mkdir": func(t *rapid.T) {
				n := filepath.Join(dir, "sub")
				same("mkdir", mem.MkdirAll(n, 0o700), disk.MkdirAll(n, 0o700))
			},
			"remove": func(t *rapid.T) {
				n := name.Draw(t, "file")
				same("remove", mem.Remove(n), disk.Remove(n))
			},
			"rename": func(t *rapid.T) {
				from, to := name.Draw(t, "from"), name.Draw(t, "to")
				if filepath.Dir(from) != filepath.Dir(to) {
					t.Skip("refused here")
				}
				same("rename", mem.Rename(from, to), disk.Rename(from, to))
			},
			"": func(t *rapid.T) {
				for _, d := range []string{dir, filepath.Join(dir, "sub")} {
					a, aerr := mem.ReadDir(d)
					b, berr := disk.ReadDir(d)
					same("readdir", aerr, berr)
					if !slices.Equal(a, b) {
						t.Fatalf("%s: here %q, system %q", d, a, b)
					}
				}
			},
		})
	})
}

// TestSyncedContentAlwaysSurvives tests the promise that every store relies on.
func TestSyncedContentAlwaysSurvives(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		fs := faultfs.New()
		fs.Put("f", nil)
		f, err := fs.OpenFile("f", os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		var synced []byte
		// touched are the sectors that changed since; the others must keep the content.
		touched := make(map[int]bool)
		t.Repeat(map[string]func(*rapid.T){
			"write": func(t *rapid.T) {
				off, n := rapid.IntRange(0, 4000).Draw(t, "off"), rapid.IntRange(1, 1200).Draw(t, "len")
				if _, err := f.WriteAt(bytes.Repeat([]byte{rapid.Byte().Draw(t, "fill")}, n), int64(off)); err != nil {
					t.Fatal(err)
				}
				for i := off / faultfs.SectorBytes; i <= (off+n-1)/faultfs.SectorBytes; i++ {
					touched[i] = true
				}
			},
			"sync": func(t *rapid.T) {
				if err := f.Sync(); err != nil {
					t.Fatal(err)
				}
				synced, touched = fs.Get("f"), make(map[int]bool)
			},
			"": func(t *rapid.T) {
				mode := rapid.SampledFrom(faultfs.CrashModes).Draw(t, "mode")
				got := fs.Snapshot().Crash(mode, rapid.Uint64().Draw(t, "seed")).Get("f")
				if len(got) < len(synced) {
					t.Fatalf("%d bytes are left of %d synced ones", len(got), len(synced))
				}
				for i := range synced {
					if !touched[i/faultfs.SectorBytes] && got[i] != synced[i] {
						t.Fatalf("%v changed the synced byte %d", mode, i)
					}
				}
			},
		})
	})
}
