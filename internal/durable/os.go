package durable

import (
	"fmt"
	"io"
	"math"
	"math/bits"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// lockName is the file that carries the lock of a folder. It is never removed: if it were,
// two processes could each lock a file of this name.
const lockName = "LOCK"

// OS returns the operating system's file system.
//
// File.Sync is fdatasync on Linux, F_FULLFSYNC on macOS and FlushFileBuffers on Windows.
// SyncDir does nothing on Windows, which has no such call and journals its directory
// entries. Lock uses flock or LockFileEx, which a process releases however it ends.
func OS() FS { return osFS{} }

type osFS struct{}

// OpenNow opens a file for reading. It does not wait for a pipe that nobody writes to: that
// one is empty.
func OpenNow(name string) (*os.File, error) { return os.OpenFile(name, os.O_RDONLY|openNow, 0) }

// OpenFile is os.OpenFile. If perm lets only the owner use a new file, that holds on Windows too,
// where the system and the administrators can use it besides.
func OpenFile(name string, flag int, perm os.FileMode) (*os.File, error) {
	return openFile(name, flag, perm)
}

func (osFS) OpenFile(name string, flag int, perm os.FileMode) (File, error) {
	if flag&(os.O_WRONLY|os.O_RDWR) == 0 {
		flag |= openNow
	}
	f, err := openFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osFS) Rename(oldName, newName string) error { return os.Rename(oldName, newName) }

func (osFS) Remove(name string) error { return os.Remove(name) }

func (osFS) MkdirAll(name string, perm os.FileMode) error {
	if err := CheckLink(name); err != nil {
		return err // the system would say that it exists
	}
	return mkdirAll(name, perm)
}

// LinkError says that a name is a link to something that does not exist.
type LinkError struct{ Path, Target string }

// Error names both.
func (e *LinkError) Error() string {
	return fmt.Sprintf("%s is a link to %s, which does not exist", e.Path, e.Target)
}

// Hint says what to do.
func (e *LinkError) Hint() string { return "make what it points to, or remove the link" }

// CheckLink returns a *LinkError if path is a link whose target does not exist.
func CheckLink(path string) error {
	target, err := os.Readlink(path)
	if err != nil {
		return nil
	}
	if _, err := os.Stat(path); IsNotExist(err) {
		return &LinkError{path, target}
	}
	return nil
}

// Target is where WriteFile writes: behind a link, so that it does not replace the link. It
// refuses to replace what is no file, such as a device.
func (osFS) Target(path string) (string, error) {
	if err := CheckLink(path); err != nil {
		return "", err
	}
	info, err := os.Stat(path)
	switch {
	case IsNotExist(err):
		return path, nil
	case err != nil:
		return "", err
	case !info.Mode().IsRegular():
		return "", fmt.Errorf("%s is not a file, so it is not replaced by one", path)
	}
	return filepath.EvalSymlinks(path)
}

func (osFS) ReadDir(name string) ([]string, error) {
	entries, err := os.ReadDir(name)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, nil
}

func (osFS) SyncDir(name string) error { return syncDir(name) }

func (osFS) FreeBytes(dir string) (int64, error) {
	free, _, err := Space(dir)
	return free, err
}

func (osFS) Lock(dir string) (func() error, error) {
	// The locked byte is beyond the process id, which other processes have to read.
	f, err := openLocked(filepath.Join(dir, lockName), dir, 1<<30, true)
	if err != nil {
		return nil, err
	}
	// The process id is only for the error message of another process.
	if err := f.Truncate(0); err == nil {
		_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	return f.Close, nil
}

func lockHolder(f *os.File) string {
	b := make([]byte, 20)
	n, err := f.ReadAt(b, 0)
	if err != nil && err != io.EOF {
		return ""
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b[:n])))
	if err != nil {
		return ""
	}
	return fmt.Sprintf(" (process %d)", pid)
}

// osFile adds Size and the data-only sync to os.File.
type osFile struct{ *os.File }

func (f osFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (f osFile) Sync() error {
	if err := syncData(f); err != nil {
		return &os.PathError{Op: "sync", Path: f.Name(), Err: err}
	}
	return nil
}

// clampProduct is blocks times size, or the largest int64 where that overflows.
func clampProduct(blocks, size uint64) int64 {
	hi, lo := bits.Mul64(blocks, size)
	if hi != 0 || lo > math.MaxInt64 {
		return math.MaxInt64
	}
	return int64(lo)
}
