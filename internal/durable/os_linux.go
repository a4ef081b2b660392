package durable

import (
	"os"

	"golang.org/x/sys/unix"
)

// syncData makes the content durable, and only as much metadata as reading it back needs.
// So the sync of a file that does not grow writes nothing to the file system's journal.
func syncData(f osFile) error {
	conn, err := f.SyscallConn() // keeps the descriptor valid if Close is called meanwhile
	if err != nil {
		return err
	}
	if cerr := conn.Control(func(fd uintptr) {
		for {
			// EINTR reports nothing about the data. Any other error is reported once
			// only: another call would hide it.
			if err = unix.Fdatasync(int(fd)); err != unix.EINTR {
				return
			}
		}
	}); cerr != nil {
		return os.ErrClosed
	}
	return err
}
