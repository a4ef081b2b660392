package durable

import (
	"os"

	"golang.org/x/sys/unix"
)

// syncData makes the content durable, and of the metadata only what is needed to read
// it back: a file that neither grows nor moves costs no journal write.
func syncData(f *osFile) error {
	var err error
	if cerr := f.conn.Control(func(fd uintptr) {
		for {
			// Interrupted means that nothing was reported yet; every other error has
			// been consumed by this call and asking again would hide it.
			if err = unix.Fdatasync(int(fd)); err != unix.EINTR {
				return
			}
		}
	}); cerr != nil {
		return os.ErrClosed
	}
	return err
}
