package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sealmq/sealmq/keydir"
	"github.com/sealmq/sealmq/mtls"
)

// A hint follows what failed, and not the letters of its path.
func TestHintNamesTheFlagOfWhatFailed(t *testing.T) {
	denied := func(path string) error { return &os.PathError{Op: "open", Path: path, Err: fs.ErrPermission} }
	for _, tc := range []struct {
		err  error
		want string
	}{
		{denied("/srv/data"), "--data"},
		{denied("/var/spool/ledger/pins/LOCK"), "--data"},
		{fmt.Errorf("read pins of the spool: %w", denied("/srv/data")), "--data"},
		{fmt.Errorf("open spool: %w", inPlace(denied("/srv/x"), "folder with --spool")), "--spool"},
		{inPlace(denied("/pins/x"), "file with --ledger"), "--ledger"},
		{fmt.Errorf("key of spool: %w", &keydir.FileError{Op: "write pins", Err: denied("/srv/x")}), "--pins"},
	} {
		if got := hintFor(tc.err); !strings.HasSuffix(got, tc.want) {
			t.Errorf("%v: %q, want %s", tc.err, got, tc.want)
		}
	}
	if inPlace(nil, "x") != nil {
		t.Error("no error became one")
	}
}

// TestExpiredAuthority: an intermediate that has expired is replaced by a new one, not by a backup.
func TestExpiredAuthority(t *testing.T) {
	expired := x509.CertificateInvalidError{Reason: x509.Expired}
	for path, want := range map[string]string{"d/ca/intermediate.crt": `run "sealmq init"`, "d/ca/root.crt": "from a backup"} {
		err := &mtls.FileError{What: "certificate file", Path: filepath.FromSlash(path), Err: fmt.Errorf("below the root: %w", expired)}
		if got := hintFor(err); !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q in it", path, got, want)
		}
	}
}

// TestInterruptionHidesNoError: a command that fails, and is interrupted while it waits for what it
// has begun, says why it failed.
func TestInterruptionHidesNoError(t *testing.T) {
	why := withHint(errors.New("bob has no key"), "ask bob")
	stopped := fmt.Errorf("publish: %w", context.Canceled)
	for _, tc := range []struct {
		err  error
		want string
	}{
		{stopped, "sealmq: error: interrupted\n"},
		{errors.Join(stopped, context.Canceled), "sealmq: error: interrupted\n"},
		{errors.Join(why, stopped), "sealmq: error: bob has no key\nsealmq: hint: ask bob\n"},
		{errors.Join(stopped, why), "sealmq: error: bob has no key\nsealmq: hint: ask bob\n"},
		{why, "sealmq: error: bob has no key\nsealmq: hint: ask bob\n"},
	} {
		var b bytes.Buffer
		if printError(&b, tc.err); b.String() != tc.want {
			t.Errorf("%v: %q, want %q", tc.err, b.String(), tc.want)
		}
	}
}
