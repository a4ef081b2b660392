package jsonl_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq/cmd/sealmq/internal/jsonl"
	"github.com/sealmq/sealmq/internal/testing/faultfs"
)

// Open keeps the committed lines and the whole ones behind them, moves what is torn to another
// file, and does not change a file with content that this package has not written.
func TestOpenKeepsEveryLine(t *testing.T) {
	const one, two = `{"message_id":"1","message":"a","timestamp":1}` + "\n", `{"message_id":"2","message":"b","timestamp":1}` + "\n"
	for _, c := range []struct {
		name, content string
		length        int64
		want, kept    string
		damaged       bool
	}{
		{"all is committed", one + two, int64(len(one + two)), one + two, "", false},
		{"a line is not", one + two, int64(len(one)), one + two, "", false},
		{"a torn line is not", one + two[:20], int64(len(one)), one, two[:20], false},
		{"a line and a torn one are not", one + two + two[:20], int64(len(one)), one + two, two[:20], false},
		{"zeros behind it", one + "\x00\x00\x00", int64(len(one)), one, "\x00\x00\x00", false},
		{"nothing is committed", one, 0, one, "", false},
		{"it was moved away", "", 500, "", "", false},
		{"it is shorter", one, 500, one, "", true},
		{"it was edited", one + two, int64(len(one)) - 3, one + two, "", true},
		{"somebody wrote behind it", one + "hello\n", int64(len(one)), one + "hello\n", "", true},
		{"another file", "hello\n", 0, "hello\n", "", true},
	} {
		fs := faultfs.New()
		if c.content != "" {
			fs.Put("out", []byte(c.content))
		}
		f, err := jsonl.Open(fs, "out", c.length, 1, nil)
		var damaged *jsonl.DamagedError
		if errors.As(err, &damaged) != c.damaged || (err != nil) != c.damaged {
			t.Errorf("%s: %v", c.name, err)
		}
		if got := string(fs.Get("out")); got != c.want {
			t.Errorf("%s: %q", c.name, got)
		}
		if err != nil {
			continue
		}
		if cut := f.Cut(); cut.Bytes != int64(len(c.kept)) || cut.Kept != "" && string(fs.Get(cut.Kept)) != c.kept {
			t.Errorf("%s: %+v, %q is kept", c.name, cut, fs.Get("out.cut1"))
		}
		if err := f.Append(&jsonl.Record{MessageID: "3", Message: []byte("c"), Received: time.Unix(1, 0)}); err != nil {
			t.Error(err)
		}
		if err := f.Commit(); err != nil || f.Size() != int64(len(c.want)+len(one)) {
			t.Errorf("%s: %v, %d bytes", c.name, err, f.Size())
		}
		f.Close()
	}
}

// After a full disk the file has as many lines as it says, and no torn one.
func TestFullDiskLeavesWholeLines(t *testing.T) {
	fs := faultfs.New()
	f, err := jsonl.Open(fs, "out", 0, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fs.SetCapacity(20_000)
	for n := 0; err == nil && n < 1000; n++ {
		for range 10 {
			err = errors.Join(err, f.Append(record(fmt.Sprint(n), strings.Repeat("x", 100))))
		}
		if err == nil {
			err = f.Commit()
		}
	}
	if err == nil || f.Len() == 0 || f.Len() != strings.Count(string(fs.Get("out")), "\n") || f.Size() != int64(len(fs.Get("out"))) {
		t.Errorf("%v; %d messages in %d bytes, and the file has %d lines in %d bytes", err, f.Len(), f.Size(),
			strings.Count(string(fs.Get("out")), "\n"), len(fs.Get("out")))
	}
}
