package main

import (
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"

	"github.com/sealmq/sealmq/keydir"
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
