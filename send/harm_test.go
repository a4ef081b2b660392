package send_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/sealmq/sealmq/internal/testing/faultfs"
	"github.com/sealmq/sealmq/send"
)

// Harm to any byte of a spool loses no stored message in silence: the spool is refused and
// unchanged, or all messages are there, or it says that something may be missing. A
// flipped bit never passes for a torn end, after a kill neither.
func TestHarmedSpool(t *testing.T) {
	const messages = 9
	healthy := faultfs.New()
	s := openSpool(t, spoolOn(healthy, send.SpoolConfig{MaxBytes: 2400}))
	for n := range messages {
		list := []send.SpoolEntry{entry(n)}
		if err := s.Append(t.Context(), list); err != nil {
			t.Fatal(err)
		}
		if n == 3 {
			s.Settle(list[0].Seq)
		}
	}
	killed := healthy.Snapshot()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	harms := map[string]func(fs *faultfs.FS, name string, at int64){
		"flipped": func(fs *faultfs.FS, name string, at int64) { fs.FlipBit(name, 8*at+at%8) },
		"zeros": func(fs *faultfs.FS, name string, at int64) {
			b := fs.Get(name)
			clear(b[at:min(at+64, int64(len(b)))])
			fs.Put(name, b)
		},
		"cut off": func(fs *faultfs.FS, name string, at int64) { fs.Cut(name, at) },
	}
	for left, before := range map[string]*faultfs.FS{"closed": healthy, "killed": killed} {
		for what, harm := range harms {
			for _, name := range before.Files() {
				for at := range int64(len(before.Get(name))) {
					fs := before.Snapshot()
					harm(fs, name, at)
					if err := judgeHarm(fs, messages, what == "flipped"); err != nil {
						t.Errorf("%s, %s at byte %d of %s: %v", left, what, at, name, err)
					}
				}
			}
		}
	}
}

func judgeHarm(fs *faultfs.FS, messages int, strict bool) error {
	harmed := fs.Snapshot()
	s, err := send.OpenSpool("spool", spoolOn(fs, send.SpoolConfig{}))
	if _, ok := errors.AsType[*send.DamagedFileError](err); ok {
		if !slices.Equal(fs.Files(), harmed.Files()) {
			return fmt.Errorf("refused, and the files are %q", fs.Files())
		}
		for _, name := range fs.Files() {
			if !bytes.Equal(fs.Get(name), harmed.Get(name)) {
				return fmt.Errorf("refused, and %s was changed", name)
			}
		}
		return nil
	}
	if err != nil {
		return err
	}
	defer s.Close()
	var want []string
	for n := range messages {
		if n != 3 {
			want = append(want, entry(n).ID)
		}
	}
	got := slices.DeleteFunc(ids(s.Entries()), func(id string) bool { return id == "id-3" }) // may be sent again
	found := s.Found()
	switch cut := found.Cut; {
	case slices.Equal(got, want):
		return nil
	case strict:
		return fmt.Errorf("%q are left of %q", got, want)
	case found.Closed:
		return fmt.Errorf("it says nothing, and %q are left of %q", got, want)
	case cut.Bytes > 0 && !bytes.HasSuffix(harmed.Get(cut.Name), fs.Get(cut.Kept)):
		return fmt.Errorf("%q are left of %q, and %s does not have what was cut off", got, want, cut.Kept)
	}
	return nil
}
