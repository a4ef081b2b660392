package durable

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
)

// PrivateError says why a file cannot be trusted to be secret, or to be our lock.
type PrivateError struct {
	// What the file is: "key file" unless somebody knows better.
	What   string
	Path   string
	Reason string
	fix    string
}

// Error names the file and the reason.
func (e *PrivateError) Error() string { return fmt.Sprintf("%s %q %s", e.What, e.Path, e.Reason) }

// Hint tells the operator what to do.
func (e *PrivateError) Hint() string { return e.fix }

// checkPrivate returns a *PrivateError unless the file is a regular one, belongs to the user of
// this process or to root, and gives no permission to group and others. On Windows the user, the
// system and the administrators may have permissions.
func checkPrivate(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if err := checkKind(f.Name(), info); err != nil {
		return err
	}
	return checkOwner(f, info)
}

// checkKind refuses what is no regular file.
func checkKind(path string, info os.FileInfo) error {
	kind := "something else"
	switch mode := info.Mode(); {
	case mode.IsRegular():
		return nil
	case mode.IsDir():
		kind = "a folder"
	case mode&os.ModeNamedPipe != 0:
		kind = "a pipe"
	case mode&os.ModeSymlink != 0:
		kind = "a symbolic link"
	case mode&os.ModeDevice != 0:
		kind = "a device"
	}
	return &PrivateError{"file", path, "is " + kind + ", not a regular file", "name a regular file, or move this away"}
}

// checkFile is checkKind for an open file.
func checkFile(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if e, ok := errors.AsType[*PrivateError](checkKind(f.Name(), info)); ok {
		return fmt.Errorf("%s: it %s", e.Path, e.Reason)
	}
	return nil
}

// checkLock refuses a file that is not this user's own lock. The caller has opened it without
// following a symbolic link.
func checkLock(f *os.File) error {
	err := checkPrivate(f)
	if err == nil {
		err = checkOnlyName(f)
	}
	return ofLock(err)
}

// ofLock makes an error about a file one about a lock.
func ofLock(err error) error {
	if e, ok := errors.AsType[*PrivateError](err); ok {
		e.What, e.fix = "lock", "find out who put it there, and delete it while no process uses the folder; a lock holds nothing that could be lost"
	}
	return err
}

// ReadPrivate is ReadFile for a secret. On the operating system's file system it refuses with a
// *PrivateError what is no regular file, is another user's, or can be read or written by others.
// It follows symbolic links.
func ReadPrivate(fs FS, path string, max int64) ([]byte, error) {
	return readFile(fs, path, max, checkPrivate)
}

// plainWord matches a word that no shell changes.
var plainWord = regexp.MustCompile(`^[A-Za-z0-9._/:@%+=,-]+$`)

// ShellWord quotes a text so that a shell takes it as one word.
func ShellWord(text string) string {
	if plainWord.MatchString(text) {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}
