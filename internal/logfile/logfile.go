// Package logfile writes a log into a file that is put aside when its day is over.
package logfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/sealmq/sealmq/internal/durable"
)

// A File is a log file NAME. With the first line of a new day, what is there becomes
// NAME.YYYY-MM-DD, and files from more than some days ago are removed. Days are those of the clock's
// time zone.
//
// Several processes may write one file. Each line is one write at the file's end, and the file is
// opened for it: so a file that another process, or a person, puts aside or removes is not written
// to any longer, and a folder that was full or missing is used again once it can be.
//
// A File is used by one goroutine.
type File struct {
	path string
	keep int
	now  func() time.Time
	day  string      // on which lines of earlier days were last put aside
	last fs.FileInfo // of the file that has the last line
	torn bool        // the last line was not written whole

	pruned bool // since lines were put aside
}

// New is the file at path; files of the last keepDays days are kept beside it. Nothing is made
// before the first line.
func New(path string, keepDays int, now func() time.Time) *File {
	return &File{path: path, keep: keepDays, now: now}
}

// Write appends one line. It can also return an error with the whole line written: then older files
// could not be put aside or removed, which is tried again with the next line.
func (f *File) Write(line []byte) (int, error) {
	now := f.now()
	today := now.Format(time.DateOnly)
	var errAside, errPrune error
	if today != f.day {
		if errAside = f.turn(now); errAside == nil {
			f.day, f.pruned = today, false
		}
		if errors.Is(errAside, durable.ErrLocked) {
			errAside = nil // another process is at it
		}
	}
	if !f.pruned {
		errPrune = f.prune(now)
		f.pruned = errPrune == nil
	}
	n, err := f.append(line)
	return n, errors.Join(err, errAside, errPrune)
}

// append returns how much of the line was written.
func (f *File) append(line []byte) (n int, err error) {
	flags := os.O_WRONLY | os.O_APPEND | os.O_CREATE
	file, err := durable.OpenFile(f.path, flags, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		if err = durable.MkdirAll(durable.OS(), filepath.Dir(f.path), 0o700); err == nil {
			file, err = durable.OpenFile(f.path, flags, 0o600)
		}
	}
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	begin := 0
	if f.torn { // end what is there of the last line
		line, begin = append([]byte{'\n'}, line...), 1
	}
	written, err := file.Write(line)
	f.torn = written < len(line) && (written > 0 || f.torn)
	if info, err := file.Stat(); err == nil {
		f.last = info
	}
	return max(written-begin, 0), err
}

// turn puts the file aside if it has lines of an earlier day.
func (f *File) turn(now time.Time) error {
	if f.contentDay(now) == "" {
		return nil
	}
	unlock, err := durable.OS().(durable.FileLocker).LockFile(filepath.Join(filepath.Dir(f.path), "."+filepath.Base(f.path)+".lock"))
	if err != nil {
		return fmt.Errorf("put %s aside: %w", f.path, err)
	}
	defer unlock()
	if day := f.contentDay(now); day != "" { // no other process has done it
		return f.putAside(day)
	}
	return nil
}

// contentDay is the day before today that the lines in the file are from, or "". Its time tells, unless
// it was written to since midnight: then it has lines of yesterday if those that this process wrote are in it.
func (f *File) contentDay(now time.Time) string {
	info, err := os.Stat(f.path)
	if err != nil || info.Size() == 0 {
		return ""
	}
	if day := info.ModTime().In(now.Location()).Format(time.DateOnly); day != now.Format(time.DateOnly) {
		return day
	}
	if f.last != nil && os.SameFile(f.last, info) {
		return now.AddDate(0, 0, -1).Format(time.DateOnly)
	}
	return ""
}

// maxAside is how many files of one day are kept apart: more than one comes of a clock that is set.
const maxAside = 100

// putAside renames the file, and never replaces one.
func (f *File) putAside(day string) error {
	name := f.path + "." + day
	for i := 2; ; i++ {
		if _, err := os.Lstat(name); errors.Is(err, fs.ErrNotExist) {
			return os.Rename(f.path, name)
		} else if err != nil {
			return err
		}
		if i > maxAside {
			return fmt.Errorf("put %s aside: there are already %d files of %s", f.path, maxAside, day)
		}
		name = fmt.Sprintf("%s.%s.%d", f.path, day, i)
	}
}

// prune removes files that putAside made, of days that are too long ago.
func (f *File) prune(now time.Time) error {
	dir := filepath.Dir(f.path)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	first := now.AddDate(0, 0, -f.keep).Format(time.DateOnly)
	errs := []error{err}
	for _, e := range entries {
		rest, ours := strings.CutPrefix(e.Name(), filepath.Base(f.path)+".")
		day, number, numbered := strings.Cut(rest, ".")
		_, errDay := time.Parse(time.DateOnly, day)
		_, errNumber := strconv.Atoi(number)
		if !ours || errDay != nil || numbered && errNumber != nil || day >= first {
			continue
		}
		if err := os.Remove(filepath.Join(dir, e.Name())); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
