package durable

import (
	"fmt"
	"os"
	"runtime"
	"strings"
)

// PrivateError says that other users can read or change a file that must be secret.
type PrivateError struct {
	Path string
	Mode os.FileMode
}

// Error names the file and its mode.
func (e *PrivateError) Error() string {
	return fmt.Sprintf("key file %q is open to other users (mode %04o)", e.Path, e.Mode.Perm())
}

// Hint tells the operator what to do.
func (e *PrivateError) Hint() string {
	return fmt.Sprintf("run: chmod 600 %s", shellQuote(e.Path))
}

// CheckPrivate returns a *PrivateError if group or others have any permission on the file,
// and an error if there is no such file. On Windows a file inherits the permissions of
// its folder, so CheckPrivate only checks that the file exists.
func CheckPrivate(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 {
		return &PrivateError{Path: path, Mode: info.Mode()}
	}
	return nil
}

// ReadPrivate is ReadFile for a secret. On the operating system's file system it refuses
// a file that CheckPrivate refuses.
func ReadPrivate(fs FS, path string, max int64) ([]byte, error) {
	if c, ok := fs.(interface{ CheckPrivate(string) error }); ok {
		if err := c.CheckPrivate(path); err != nil {
			return nil, err
		}
	}
	return ReadFile(fs, path, max)
}

// shellQuote makes a path safe to paste into a shell.
func shellQuote(path string) string {
	for i := 0; i < len(path); i++ {
		switch c := path[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case c == '/', c == '.', c == '-' && i > 0, c == '_', c == '+':
		default:
			return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
		}
	}
	return path
}
