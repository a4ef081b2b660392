package durable

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// tempSuffix marks a file that WriteFile did not finish. A caller that lists a folder may
// ignore and remove such files.
const tempSuffix = ".tmp"

// WriteFile replaces the content of path in one step: after a crash at any point, and
// after an error, path has either its old content (or is absent, if it was) or all of
// data. When WriteFile returns nil the new content is durable.
//
// It uses the file path + ".tmp" and removes what is there. Two calls for one path must
// not run at the same time; hold the folder's lock. If path is a link, the file behind it is
// replaced; what is no file is not replaced.
//
// Expected system calls:
//
//	unlink(path.tmp)            left by an earlier crash, with any mode
//	open(path.tmp, O_EXCL)      new, so it has perm from its first byte on
//	pwrite, fdatasync, close
//	rename(path.tmp, path)      the commit point
//	open(dir), fsync, close     the rename survives a crash
func WriteFile(fs FS, path string, data []byte, perm os.FileMode) error {
	if t, ok := fs.(interface{ Target(string) (string, error) }); ok {
		var err error
		if path, err = t.Target(path); err != nil {
			return err
		}
	}
	temp := path + tempSuffix
	if err := removeTemp(fs, temp); err != nil {
		return err
	}
	err := writeTemp(fs, temp, data, perm)
	if err == nil {
		err = fs.Rename(temp, path)
	}
	if err != nil {
		return errors.Join(err, removeTemp(fs, temp))
	}
	return fs.SyncDir(filepath.Dir(path))
}

func writeTemp(fs FS, temp string, data []byte, perm os.FileMode) error {
	f, err := fs.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(data, 0)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// removeTemp ignores a missing file: the rename may have succeeded although it was
// reported as failed.
func removeTemp(fs FS, temp string) error {
	err := fs.Remove(temp)
	if IsNotExist(err) {
		return nil
	}
	return err
}

// KeepAside makes a new file beside path with data that is about to be cut off, and returns
// its name when it is durable.
func KeepAside(fs FS, path string, data []byte) (kept string, err error) {
	for i := 1; ; i++ {
		kept = fmt.Sprintf("%s.cut%d", path, i)
		f, err := fs.OpenFile(kept, os.O_RDONLY, 0)
		if IsNotExist(err) {
			return kept, WriteFile(fs, kept, data, 0o600)
		}
		if err != nil {
			return "", err
		}
		f.Close()
	}
}

// Append writes data behind the first size bytes of a file, which are what the caller knows
// to be durable, and returns when it is durable itself. What an interrupted call has left
// there is cut off. If size is 0, the file need not exist.
func Append(fs FS, path string, size int64, data []byte) error {
	if size == 0 {
		return WriteFile(fs, path, data, 0o600)
	}
	f, err := fs.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	switch has, errSize := f.Size(); {
	case errSize != nil:
		err = errSize
	case has < size:
		err = fmt.Errorf("%s has lost its last %d bytes", path, size-has)
	default:
		err = f.Truncate(size)
	}
	if err == nil {
		_, err = f.WriteAt(data, size)
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// ReadFile reads a whole file of at most max bytes; a longer one is an error, so that
// a wrong path cannot fill the memory. So is one that is no regular file, such as a pipe, which
// might never end.
func ReadFile(fs FS, path string, max int64) ([]byte, error) {
	return readFile(fs, path, max, checkFile)
}

// readFile reads a file that passes a check. A file system in memory has nothing to check.
func readFile(fs FS, path string, max int64, check func(*os.File) error) ([]byte, error) {
	f, err := fs.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if real, ok := f.(osFile); ok {
		if err := check(real.File); err != nil {
			return nil, err
		}
	}
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	if size > max {
		return nil, fmt.Errorf("%s has %d bytes, more than the limit of %d", path, size, max)
	}
	data := make([]byte, size)
	n, err := f.ReadAt(data, 0)
	if int64(n) == size {
		return data, nil
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return nil, fmt.Errorf("read %s: %w", path, err)
}

// MkdirAll makes dir and its missing parents, durably: when it returns nil, the folder
// survives a crash. That holds also for a folder that an earlier process created without
// living to sync its parent.
func MkdirAll(fs FS, dir string, perm os.FileMode) error {
	dir = filepath.Clean(dir)
	parent := filepath.Dir(dir)
	if parent == dir {
		return nil
	}
	if _, err := fs.ReadDir(dir); err != nil {
		if errors.Is(err, os.ErrPermission) {
			// It exists, but we may only pass through it.
			return nil
		}
		if !IsNotExist(err) {
			return err
		}
		if err := MkdirAll(fs, parent, perm); err != nil {
			return err
		}
		if err := fs.MkdirAll(dir, perm); err != nil {
			return err
		}
	}
	err := fs.SyncDir(parent)
	// A parent that we may pass through but not open belongs to another user, who
	// created the folder for us and made it durable.
	if errors.Is(err, os.ErrPermission) {
		return nil
	}
	return err
}
