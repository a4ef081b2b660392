package durable_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/windows"

	"github.com/sealmq/sealmq/internal/durable"
)

// grant gives rights to a file or folder to everybody, besides what others have.
func grant(path, rights string) error {
	sd, err := windows.SecurityDescriptorFromString("D:P(A;;" + rights + ";;;WD)(A;;FA;;;SY)(A;;FA;;;BA)")
	if err != nil {
		return err
	}
	acl, _, err := sd.DACL()
	if err != nil {
		return err
	}
	return windows.SetNamedSecurityInfo(path, windows.SE_FILE_OBJECT, windows.DACL_SECURITY_INFORMATION|windows.PROTECTED_DACL_SECURITY_INFORMATION, nil, nil, acl, nil)
}

// TestPrivateFiles: what is made for the owner only is private at once, wherever it is, and what
// others may read is refused.
func TestPrivateFiles(t *testing.T) {
	dir, err := os.MkdirTemp("", "private")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) }) // Wine does not know how Go removes
	folder := filepath.Join(dir, "a", "b")
	if err := durable.MkdirAll(durable.OS(), folder, 0o700); err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(folder, "key")
	for range 2 { // made, then replaced
		if err := durable.WriteFile(durable.OS(), key, []byte("secret"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if data, err := durable.ReadPrivate(durable.OS(), key, 100); string(data) != "secret" || err != nil {
		t.Errorf("%q, %v", data, err)
	}
	if _, err := durable.OpenFile(key, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600); !errors.Is(err, os.ErrExist) {
		t.Errorf("made again: %v", err)
	}
	unlock, err := durable.OS().Lock(folder)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := durable.OS().Lock(folder); !errors.Is(err, durable.ErrLocked) {
		t.Errorf("locked twice: %v", err)
	}
	if err := unlock(); err != nil {
		t.Error(err)
	}
	for _, rights := range []string{"FR", "FA"} {
		if err := grant(key, rights); err != nil {
			t.Fatal(err)
		}
		data, err := durable.ReadPrivate(durable.OS(), key, 100)
		private, ok := errors.AsType[*durable.PrivateError](err)
		if !ok || !strings.Contains(private.Reason, "is open to other users") || !strings.Contains(private.Hint(), "icacls") {
			t.Errorf("read by everybody with %s: %q, %v", rights, data, err)
		}
	}
	public := filepath.Join(folder, "public")
	if err := durable.WriteFile(durable.OS(), public, []byte("certificate"), 0o644); err != nil {
		t.Error(err)
	}
	if _, err := durable.ReadFile(durable.OS(), public, 100); err != nil {
		t.Error(err)
	}
}
