package durable

import (
	"fmt"
	"os"
)

// FileLocker is an FS that can keep one file for this process, where taking its whole
// folder would be too much.
type FileLocker interface {
	// LockFile creates name if there is none and keeps it until the returned function is
	// called or the process ends. It fails at once with an error that wraps ErrLocked if
	// another holds it. Others can still read the file.
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
