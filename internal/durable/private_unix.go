//go:build unix

package durable

import "os"

func checkPrivate(path string, info os.FileInfo) error {
	if info.Mode().Perm()&0o077 != 0 {
		return &PrivateError{Path: path, Mode: info.Mode()}
	}
	return nil
}
