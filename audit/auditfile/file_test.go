package auditfile_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/audit"
	"github.com/sealmq/sealmq/audit/auditfile"
)

var at = time.Date(2030, 1, 1, 0, 0, 0, 123456789, time.UTC)

// write opens a file, writes records and closes it.
func write(t *testing.T, path string, records ...audit.Record) {
	t.Helper()
	f, err := auditfile.Open(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		f.Write(r)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func act(n int) audit.Record {
	return audit.Record{Time: at.Add(time.Duration(n) * time.Second), Identity: sealmq.Identity{ID: "admin", Role: sealmq.RoleAdmin}, Command: "purge", Object: fmt.Sprintf("queue-%d <ü\xff>", n)}
}

func verify(t *testing.T, path string) auditfile.Chain {
	t.Helper()
	c, err := auditfile.Verify(path)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestFileIsAChain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit", "audit.jsonl")
	if c := verify(t, path); c != (auditfile.Chain{}) {
		t.Errorf("no file: %+v", c)
	}
	write(t, path, act(1), act(2))
	write(t, path, act(3), audit.Record{Time: at, Command: "purge", Outcome: errors.New("denied")})
	write(t, path)
	c := verify(t, path)
	if c.Records != 4 || c.Broken != "" || !c.Until.Equal(at) || len(c.Last) != 64 {
		t.Errorf("%+v", c)
	}
	if info, err := os.Stat(path); err != nil || filepath.Separator == '/' && info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	// A crash leaves half a line; the next start goes on behind the whole ones.
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append(bytes.Clone(whole), `{"seq":5,"ti`...), 0o600); err != nil {
		t.Fatal(err)
	}
	write(t, path, act(5))
	if c := verify(t, path); c.Records != 5 || c.Broken != "" {
		t.Errorf("after half a line: %+v", c)
	}
	lines := bytes.SplitAfter(bytes.TrimSuffix(whole, []byte("\n")), []byte("\n"))
	for name, tc := range map[string]struct {
		file []byte
		good int64
	}{
		"changed":    {bytes.Replace(whole, []byte("queue-2"), []byte("queue-7"), 1), 1},
		"taken out":  {bytes.Join([][]byte{lines[0], lines[2], lines[3]}, nil), 1},
		"twice":      {bytes.Join([][]byte{lines[0], lines[0], lines[1]}, nil), 1},
		"exchanged":  {bytes.Join([][]byte{lines[1], lines[0]}, nil), 0},
		"no record":  {append(bytes.Clone(whole), "hello\n"...), 4},
		"a long one": {append(bytes.Clone(whole), bytes.Repeat([]byte("x"), 1<<20)...), 4},
	} {
		if err := os.WriteFile(path, tc.file, 0o600); err != nil {
			t.Fatal(err)
		}
		if c := verify(t, path); c.Records != tc.good || c.Broken == "" {
			t.Errorf("%s: %+v", name, c)
		}
	}
}

// TestDenialsDoNotFillTheFile: as in the log.
func TestDenialsDoNotFillTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	var list []audit.Record
	for range 5000 {
		list = append(list, audit.Record{Time: at, Command: "purge", Outcome: sealmq.ErrDenied})
	}
	write(t, path, append(list, act(1))...)
	if c := verify(t, path); c.Records != 61 {
		t.Errorf("%d records", c.Records)
	}
}
