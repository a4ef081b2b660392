package journal_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sealmq/sealmq/internal/testing/faultfs"
	"github.com/sealmq/sealmq/journal"
)

// setVersion makes a segment file one of another format version.
func setVersion(b []byte, version uint32) {
	binary.LittleEndian.PutUint32(b[8:], version)
	binary.LittleEndian.PutUint32(b[40:], crc32.Checksum(b[:40], crc32.MakeTable(crc32.Castagnoli)))
}

func TestNewerFormatIsRefused(t *testing.T) {
	fs, l := stopped(t, 1)
	name := fs.Files()[0]
	b := fs.Get(name)
	setVersion(b, 2)
	fs.Put(name, b)
	_, _, err := l.open(l.config(fs))
	if !errors.Is(err, journal.ErrNewer) || !strings.Contains(err.Error(), filepath.Base(name)) {
		t.Errorf("got %v", err)
	}
	if !bytes.Equal(fs.Get(name), b) {
		t.Error("the file was changed")
	}
}

func TestSegmentsOfAnotherStoreAreRefused(t *testing.T) {
	fs, l := stopped(t, 1)
	cfg := l.config(fs)
	cfg.StoreID[3] ^= 1
	if _, _, err := l.open(cfg); err == nil || !strings.Contains(err.Error(), "another store") {
		t.Errorf("got %v", err)
	}
	if err := l.survives(fs, newRand(1)); err != nil {
		t.Errorf("afterwards, with the right id: %v", err)
	}
}

// TestHeadersAreRebuilt damages the headers of all segments, one after the other and all
// together. Those that hold records are rebuilt from their marks.
func TestHeadersAreRebuilt(t *testing.T) {
	for _, what := range []string{"zeros", "garbage"} {
		fs, l := stopped(t, 2)
		var names []string
		for _, name := range fs.Files() {
			page := make([]byte, firstOffset)
			if what == "garbage" {
				page = bytes.Repeat([]byte("garbage!"), firstOffset/8)
			}
			overwrite(fs, name, 0, page)
			names = append(names, strings.TrimPrefix(name, "/"))
		}
		j, f, err := l.reopen(l.config(fs))
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		if len(f.report.Repaired) == 0 || !slices.Contains(names, f.report.Repaired[0]) {
			t.Errorf("%s: %d of %d headers are reported: %q", what, len(f.report.Repaired), len(names), f.report.Repaired)
		}
		if err := j.Close(); err != nil {
			t.Error(err)
		}
		if err := l.survives(fs, newRand(1)); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestForeignFilesAreLeftAlone: what is not named like a segment is not touched.
func TestForeignFilesAreLeftAlone(t *testing.T) {
	fs := faultfs.New()
	names := []string{"notes.txt", "x.seg", "-1.seg", "damaged-1-4096.bin"}
	for _, name := range names {
		fs.Put(testDir+"/"+name, []byte("mine"))
	}
	l := newLedger()
	if err := l.survives(fs, newRand(1)); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if got := fs.Get(testDir + "/" + name); string(got) != "mine" {
			t.Errorf("%s has become %q", name, got)
		}
	}
}

func TestSegmentSizeIsChecked(t *testing.T) {
	for _, size := range []int{1, 4096, journal.MinSegmentBytes + 1, journal.MaxSegmentBytes + 4096} {
		cfg := faultConfig(faultfs.New())
		cfg.SegmentBytes = size
		if _, _, err := newLedger().open(cfg); err == nil {
			t.Errorf("size %d was accepted", size)
		}
	}
}

// TestLargestRecord: a record that fills a segment fits, one that is larger is refused
// for good.
func TestLargestRecord(t *testing.T) {
	fs, l := faultfs.New(), newLedger()
	j, _, err := l.open(faultConfig(fs))
	if err != nil {
		t.Fatal(err)
	}
	waitReady(t, j)
	largest := journal.MinSegmentBytes
	for ; errors.Is(j.Room(true, largest), journal.ErrTooLarge); largest-- {
	}
	if largest < journal.MinSegmentBytes-firstOffset-200 {
		t.Errorf("the largest record has %d bytes", largest)
	}
	if _, err := j.Append(true, journal.FirstKind, make([]byte, largest+1), nil); !errors.Is(err, journal.ErrTooLarge) {
		t.Errorf("a larger one: %v", err)
	}
	for range 5 {
		if err := l.append(t.Context(), j, journal.FirstKind, bytes.Repeat([]byte("x"), largest)); err != nil {
			t.Fatal(err)
		}
	}
	l.report(j)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if err := l.survives(fs, newRand(1)); err != nil {
		t.Error(err)
	}
}
