package portal

import (
	"bytes"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the files in testdata")

// hostile is what somebody may type anywhere.
const hostile = `<script>alert("1")</script> 🦭 שלום`

// TestParts compares each part with the HTML that is known to be right.
func TestParts(t *testing.T) {
	w := newWorld(t, Config{Prefix: "/mq"})
	var all bytes.Buffer
	for _, tc := range []struct {
		name, part string
		view       any
	}{
		{"a time of today", "time", testNow.Add(-3 * time.Minute)},
		{"a time to come", "time", testNow.Add(3 * time.Hour)},
		{"an old time", "time", testNow.Add(-30 * 24 * time.Hour)},
		{"a very old time", "time", testNow.Add(-400 * 24 * time.Hour)},
		{"an exact time", "exact-time", testNow},
		{"a state", "state", state{"bad", hostile}},
		{"a badge", "badge", state{"warn", "6 days"}},
		{"something to copy", "copy", hostile},
		{"a command", "command", `sealmq submit --message "a b"`},
		{"an empty list", "empty", empty{"No client has sent yet", hostile, "sealmq submit", &link{"Issue a certificate", "/admin/certificates"}}},
		{"the first page of a list", "pager", pager{Older: "?cursor=b"}},
		{"a page in the middle", "pager", pager{First: "?", Newer: "?cursor=a", Older: "?cursor=b"}},
		{"the only page", "pager", pager{}},
		{"filters", "filters", filters{Action: "/mq/messages", Found: "2,318 found", Clear: "/mq/messages", Fields: []field{
			{Name: "q", Label: "Number or id", Kind: "search", Value: hostile, Grow: true},
			{Name: "state", Label: "State", Kind: "select", Options: options("failed", "", "Every state", "failed", "failed")}}}},
		{"a form", "form", form{Action: "/mq/x", Submit: "Save", Cancel: "/mq/y", Fields: []field{
			{Name: "name", Label: hostile, Value: hostile, Hint: "A hint.", Max: 10, Required: true, Focus: true},
			{Name: "text", Label: "Text", Kind: "textarea", Value: hostile, Code: true},
			{Name: "on", Label: "On", Kind: "check", Checked: true},
			{Name: "token", Kind: "hidden", Value: hostile}}}},
		{"a form with folded fields", "form", form{Action: "/mq/x", Submit: "Save", Files: true, MoreText: "More", More: []field{{Name: "file", Label: "File", Kind: "file"}}}},
		{"a list that has more", "pager", pager{Next: "?cursor=b"}},
		{"a form with errors", "form", form{Action: "/mq/x", Submit: "Save", Fields: []field{{Name: "name", Label: "Name", Hint: "A hint."}}}.with(fieldErrors{"name": hostile, "other": "Not here."})},
		{"a dangerous act", "danger", dangerView{"Delete a queue?", []string{"Its 14 messages go."}, form{Action: "/mq/x", Submit: "Delete", Danger: true, Fields: []field{{Name: "confirm", Label: "Name", Match: hostile}}}}},
		{"a toast", "toast", toast{"bad", hostile}},
		{"a problem", "problem", problemView{Status: 503, Text: hostile, RequestID: "req_1", Retry: true, Home: true}},
		{"a lock", "problem", problemView{Status: 429, Text: hostile, RequestID: "req_1", Home: true, Back: "/mq/profile", Until: testNow, Wait: "15 minutes", Locked: true}},
	} {
		fmt.Fprintf(&all, "<!-- %s -->\n", tc.name)
		if err := w.portal.templates.ExecuteTemplate(&all, tc.part, tc.view); err != nil {
			t.Errorf("%s: %v", tc.name, err)
		}
		all.WriteByte('\n')
	}
	compare(t, "parts.html", all.Bytes())
}

// compare compares HTML with a file in testdata, except for empty lines. -update writes it.
func compare(t *testing.T, name string, got []byte) {
	t.Helper()
	got = regexp.MustCompile(`\n\s*\n`).ReplaceAll(got, []byte("\n"))
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(string(got), "\n")); diff != "" {
		t.Errorf("the pages differ from %s; if that is meant, run go test ./portal -run %s -update and look at the difference\n%s", file, t.Name(), diff)
	}
}

func TestWords(t *testing.T) {
	for _, tc := range []struct{ got, want string }{
		{number(0), "0"}, {number(999), "999"}, {number(int64(12480)), "12,480"}, {number(-1234567), "-1,234,567"}, {number(uint8(7)), "7"},
		{byteSize(0), "0 B"}, {byteSize(1023), "1023 B"}, {byteSize(1536), "1.5 KiB"}, {byteSize(int64(5) << 40), "5.0 TiB"}, {byteSize(1 << 20), "1.0 MiB"},
		{took(0), "< 1 ms"}, {took(340 * time.Millisecond), "340 ms"}, {took(2300 * time.Millisecond), "2.3 s"}, {took(59 * time.Second), "59 s"}, {took(12 * time.Minute), "12 min"},
		{took(5 * time.Hour), "5 h"}, {took(80 * time.Hour), "3 days"},
		{plural(1, "letter"), "1 letter"}, {plural(2, "letter"), "2 letters"}, {plural(0, "entry", "entries"), "0 entries"},
		{waitText(time.Second), "1 second"}, {waitText(89 * time.Second), "89 seconds"}, {waitText(15 * time.Minute), "15 minutes"},
		{sinceText(time.Second), "a moment ago"}, {sinceText(3 * time.Minute), "3 min ago"}, {sinceText(72 * time.Hour), "3 days ago"},
		{deviceOf("Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 Chrome/140.0 Safari/537.36 Edg/140.0"), "Edge on Windows"}, {deviceOf(""), "Unknown program"},
		{joinText(", ", "a", "", "b"), "a, b"}, {sentence("There is no such client"), "There is no such client."}, {sentence("It is."), "It is."}, {sentence(""), ""},
	} {
		if tc.got != tc.want {
			t.Errorf("%q, want %q", tc.got, tc.want)
		}
	}
}

// TestTemplatesHaveOneNameEach: all templates are one set, in which a second one with the same
// name would take the place of the first in silence.
func TestTemplatesHaveOneNameEach(t *testing.T) {
	seen := make(map[string]string)
	err := fs.WalkDir(templateFiles, "templates", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := templateFiles.ReadFile(path)
		for _, m := range regexp.MustCompile(`{{define "([^"]+)"}}`).FindAllStringSubmatch(string(text), -1) {
			if other, twice := seen[m[1]]; twice {
				t.Errorf("%s and %s both define %q", other, path, m[1])
			}
			seen[m[1]] = path
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
