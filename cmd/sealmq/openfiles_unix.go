//go:build unix

package main

import "syscall"

// maxOpenFiles is how many files this process may have open.
func maxOpenFiles() (uint64, bool) {
	var l syscall.Rlimit
	err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l)
	return uint64(l.Cur), err == nil
}
