//go:build unix

package durable_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/sealmq/sealmq/internal/durable"
)

// oddity makes what a secret or a lock must not be. There is a file other that it may use.
type oddity struct {
	name, reason string
	make         func(t *testing.T, name, other string) error
}

var strange = []oddity{
	{"pipe", "is a pipe", func(_ *testing.T, name, _ string) error { return syscall.Mkfifo(name, 0o600) }},
	{"folder", "is a folder", func(_ *testing.T, name, _ string) error { return os.Mkdir(name, 0o700) }},
	{"device", "is a device", func(_ *testing.T, name, _ string) error { return os.Symlink("/dev/null", name) }},
	{"pipe behind a link", "is a pipe", func(_ *testing.T, name, other string) error {
		return errors.Join(os.Remove(other), syscall.Mkfifo(other, 0o600), os.Symlink(other, name))
	}},
	{"of another user", "belongs to another user", func(t *testing.T, name, _ string) error {
		if os.Geteuid() != 0 {
			t.Skip("only root can give a file away")
		}
		return errors.Join(os.WriteFile(name, []byte("secret"), 0o600), os.Chown(name, 1234, 1234))
	}},
	{"open to others", "is open to other users", func(_ *testing.T, name, _ string) error { return os.WriteFile(name, []byte("secret"), 0o604) }},
	{"open to others behind a link", "is open to other users", func(_ *testing.T, name, other string) error {
		return errors.Join(os.Chmod(other, 0o644), os.Symlink(other, name))
	}},
}

func TestStrangeSecrets(t *testing.T) {
	for _, tc := range strange {
		t.Run(tc.name, func(t *testing.T) {
			name, other := filepath.Join(t.TempDir(), "key"), filepath.Join(t.TempDir(), "other")
			if err := errors.Join(os.WriteFile(other, []byte("secret"), 0o600), tc.make(t, name, other)); err != nil {
				t.Fatal(err)
			}
			data, err := durable.ReadPrivate(durable.OS(), name, 100)
			if private, ok := errors.AsType[*durable.PrivateError](err); !ok || !strings.Contains(err.Error(), tc.reason) || private.Hint() == "" {
				t.Errorf("read %q, %v", data, err)
			}
		})
	}
	link := filepath.Join(t.TempDir(), "link")
	other := filepath.Join(t.TempDir(), "other")
	if err := errors.Join(os.WriteFile(other, []byte("secret"), 0o600), os.Symlink(other, link)); err != nil {
		t.Fatal(err)
	}
	if data, err := durable.ReadPrivate(durable.OS(), link, 100); string(data) != "secret" {
		t.Errorf("through a link: %q, %v", data, err)
	}
}

// TestStrangeLocks: what is not our own lock is refused, and nothing behind it is changed.
func TestStrangeLocks(t *testing.T) {
	const content = "precious"
	list := slices.Clone(strange)
	for i := range list {
		if strings.HasSuffix(list[i].name, "behind a link") || list[i].name == "device" {
			list[i].reason = "is a symbolic link"
		}
	}
	list = append(list,
		oddity{"dangling link", "is a symbolic link", func(_ *testing.T, name, other string) error { return os.Symlink(other+"-none", name) }},
		oddity{"link", "is a symbolic link", func(_ *testing.T, name, other string) error { return os.Symlink(other, name) }},
		oddity{"hard link", "hard link", func(_ *testing.T, name, other string) error { return os.Link(other, name) }})
	for _, tc := range list {
		for _, lock := range []string{"LOCK", "x.lock"} {
			t.Run(tc.name+" "+lock, func(t *testing.T) {
				root := t.TempDir()
				dir, other := filepath.Join(root, "data"), filepath.Join(root, "other")
				if err := errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(other, []byte(content), 0o600), tc.make(t, filepath.Join(dir, lock), other)); err != nil {
					t.Fatal(err)
				}
				_, err := durable.OS().Lock(dir)
				if lock != "LOCK" {
					_, err = durable.OS().(durable.FileLocker).LockFile(filepath.Join(dir, lock))
				}
				if _, ok := errors.AsType[*durable.PrivateError](err); !ok || !strings.HasPrefix(err.Error(), "lock ") || !strings.Contains(err.Error(), tc.reason) {
					t.Errorf("%v", err)
				}
				if info, err := os.Stat(other); err != nil || info.Mode().IsRegular() && info.Size() != int64(len(content)) {
					t.Errorf("what the link leads to was changed: %v, %v", info, err)
				}
				if entries, _ := os.ReadDir(root); len(entries) != 2 {
					t.Errorf("a file was made: %v", entries)
				}
			})
		}
	}
}

// TestLinkedFolder: a data folder may be a symbolic link, and so may the way to it.
func TestLinkedFolder(t *testing.T) {
	root := t.TempDir()
	if err := errors.Join(os.Mkdir(filepath.Join(root, "real"), 0o700), os.Symlink("real", filepath.Join(root, "link"))); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(root, "link", "data")
	if err := durable.MkdirAll(durable.OS(), dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{dir, filepath.Join(root, "link")} {
		unlock, err := durable.OS().Lock(dir)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := durable.OS().Lock(strings.Replace(dir, "link", "real", 1)); !errors.Is(err, durable.ErrLocked) {
			t.Errorf("%s is locked, and by its other name: %v", dir, err)
		}
		unlock()
	}
}
