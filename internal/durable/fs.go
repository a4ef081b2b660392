// Package durable is the access to files that must survive a crash: a small file
// interface with the guarantees that the storage code relies on, its implementation
// on the operating system, atomic file replacement, and locks.
//
// It knows no formats. Every path is used as given.
package durable

import (
	"errors"
	"io/fs"
	"os"
)

// ErrLocked says that another process holds the lock of a folder or file.
var ErrLocked = errors.New("folder is in use by another process")

// FS is the part of a file system that stores need. OS implements it, and so does
// internal/testing/faultfs, whose operations fail, tear, reorder and get lost on demand.
//
// Durability: File.Sync makes the file's content durable, not its name. SyncDir makes
// creations, renames and removals in one folder durable. Without them a crash may
// undo anything, in any order.
type FS interface {
	// OpenFile opens name with os.O_… flags; new files get perm. See OpenFile for Windows.
	OpenFile(name string, flag int, perm os.FileMode) (File, error)
	// Rename replaces newName atomically.
	Rename(oldName, newName string) error
	Remove(name string) error
	MkdirAll(name string, perm os.FileMode) error
	// ReadDir returns the names in a folder, sorted.
	ReadDir(name string) ([]string, error)
	SyncDir(name string) error
	// FreeBytes is the space that an unprivileged process can still use in the file
	// system of the folder, or math.MaxInt64 if it is not known.
	FreeBytes(dir string) (int64, error)
	// Lock locks the folder for this process until the returned function is called or
	// the process ends. If another process holds the lock, it fails at once with an
	// error that wraps ErrLocked.
	Lock(dir string) (unlock func() error, err error)
}

// File is an open file. ReadAt and WriteAt may be used by several goroutines at once.
type File interface {
	ReadAt(p []byte, off int64) (int, error)
	WriteAt(p []byte, off int64) (int, error)
	// Sync returns once everything written before is on stable storage. After an
	// error it is unknown what is stored, and Sync must not be called again on this
	// file.
	Sync() error
	Truncate(size int64) error
	Size() (int64, error)
	Close() error
}

// IsNotExist reports whether err says that a file does not exist.
func IsNotExist(err error) bool { return errors.Is(err, fs.ErrNotExist) }
