package durable

import (
	"fmt"
	"os"
)

// FileLocker is an FS that can lock a single file instead of its whole folder.
type FileLocker interface {
	// LockFile creates name if there is none and locks it for this process until the
	// returned function is called or the process ends. If another process holds the
	// lock, it fails at once with an error that wraps ErrLocked. Other processes can
	// still read the file.
	LockFile(name string) (unlock func() error, err error)
}

// LockFile makes OS a FileLocker.
func (osFS) LockFile(name string) (func() error, error) {
	// On Windows other processes cannot read a locked range: it lies beyond any content.
	f, err := openLocked(name, name, 1<<62)
	if err != nil {
		return nil, err
	}
	return f.Close, nil
}

// openLocked opens a file, which it creates if there is none, and locks it. what is for
// errors; at is the byte that is locked where a system locks ranges.
func openLocked(name, what string, at uint64) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := lockFile(f, at); err != nil {
		holder := lockHolder(f)
		f.Close()
		if err == errWouldBlock {
			err = ErrLocked
		}
		return nil, fmt.Errorf("lock %s%s: %w", what, holder, err)
	}
	return f, nil
}
