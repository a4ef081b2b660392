package durable

import (
	"cmp"
	"fmt"
	"os"
	"strings"
)

// FileLocker is an FS that can lock a single file instead of its whole folder.
type FileLocker interface {
	// LockFile creates name if there is none and locks it for this process until the
	// returned function is called or the process ends. If another process holds the
	// lock, it fails at once with an error that wraps ErrLocked. Other processes can
	// still read the file. A file whose name ends in .lock is nothing but a lock: on the
	// operating system's file system it must belong to this user, and may be no link.
	LockFile(name string) (unlock func() error, err error)
}

// LockFile makes OS a FileLocker.
func (osFS) LockFile(name string) (func() error, error) {
	// On Windows other processes cannot read a locked range: it lies beyond any content.
	f, err := openLocked(name, name, 1<<62, strings.HasSuffix(name, ".lock"))
	if err != nil {
		return nil, err
	}
	return f.Close, nil
}

// openLocked opens a file, which it creates if there is none, and locks it. what is for
// errors; at is the byte that is locked where a system locks ranges. only says that the file is
// nothing but a lock. Then a link is not followed: somebody else may have made it, and the caller
// may truncate the file.
func openLocked(name, what string, at uint64, only bool) (*os.File, error) {
	flag, stat, check := os.O_RDWR|os.O_CREATE, os.Stat, checkFile
	if only {
		flag, stat, check = flag|openNoLink, os.Lstat, checkLock
	}
	f, err := openFile(name, flag, 0o600)
	if err != nil {
		// What it is tells more than what the system says of a link or a folder.
		if info, serr := stat(name); serr == nil {
			err = cmp.Or(checkKind(name, info), err)
		}
		if only {
			err = ofLock(err)
		}
		return nil, err
	}
	if err := check(f); err != nil {
		f.Close()
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
