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
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := lockContent(f); err != nil {
		f.Close()
		if err == errWouldBlock {
			err = ErrLocked
		}
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	return f.Close, nil
}
