//go:build unix

package durable

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

var errWouldBlock error = unix.EWOULDBLOCK

// Flags of open(2): a pipe is not waited for, and a symbolic link is not followed.
const (
	openNow    = unix.O_NONBLOCK
	openNoLink = unix.O_NOFOLLOW | unix.O_NONBLOCK
)

// checkOwner refuses a file that another user may read or change.
func checkOwner(f *os.File, info os.FileInfo) error {
	path := f.Name()
	if info.Mode().Perm()&0o077 != 0 {
		return &PrivateError{"key file", path, fmt.Sprintf("is open to other users (mode %04o)", info.Mode().Perm()), "run: chmod 600 " + ShellWord(path)}
	}
	us := os.Geteuid()
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && int(stat.Uid) != us && stat.Uid != 0 {
		return &PrivateError{"key file", path, fmt.Sprintf("belongs to another user (uid %d; this process has uid %d)", stat.Uid, us),
			fmt.Sprintf("run: chown %d %s, or start as the user that it belongs to", us, ShellWord(path))}
	}
	return nil
}

// checkOnlyName refuses a file that has a second name: it may be another file of ours.
func checkOnlyName(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && stat.Nlink > 1 {
		return &PrivateError{"lock", f.Name(), "has a second name (a hard link)", "delete this name"}
	}
	return nil
}

func openFile(name string, flag int, perm os.FileMode) (*os.File, error) {
	return os.OpenFile(name, flag, perm)
}

func mkdirAll(name string, perm os.FileMode) error { return os.MkdirAll(name, perm) }

func lockFile(f *os.File, _ uint64) error {
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err != unix.EINTR {
			return err
		}
	}
}

func syncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	err = d.Sync()
	// A file system that cannot sync a folder answers with one of these. There is no
	// other way to make its entries durable.
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTSUP) {
		err = nil
	}
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	return err
}

// Space is how much of the disk of a folder is free for this process, and how much it would have if
// the disk were empty.
func Space(dir string) (free, total int64, err error) {
	var st unix.Statfs_t
	for {
		err := unix.Statfs(dir, &st)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return 0, 0, &os.PathError{Op: "statfs", Path: dir, Err: err}
		}
		return clampProduct(uint64(st.Bavail), uint64(st.Bsize)), clampProduct(uint64(st.Blocks-st.Bfree+st.Bavail), uint64(st.Bsize)), nil
	}
}
