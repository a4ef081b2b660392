package text_test

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sealmq/sealmq/protocol/text"
)

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		line string
		verb text.Verb
		args string
	}{
		{"declare_queue q", text.DeclareQueue, "q"},
		{"declare_queue q\r", text.DeclareQueue, "q"},
		{"  declare_queue   q \t", text.DeclareQueue, "q"},
		{"declare_queue", text.DeclareQueue, ""},
		{"declare_queue ", text.DeclareQueue, ""},
		{"DECLARE_QUEUE q", text.Unknown, "q"},
		{"declare_queue\tq", text.Unknown, ""},
		{"", text.Unknown, ""},
		{"\r", text.Unknown, ""},
		{`publish x k {"a":  "b  c"}`, text.Publish, `x k {"a":  "b  c"}`},
		{"ack a b", text.Ack, "a b"},
		{"\u00a0ping\u0085", text.Ping, ""},
		{"\xff\xfe ping", text.Unknown, "ping"},
	} {
		got := text.Parse([]byte(tt.line))
		if got.Verb != tt.verb || string(got.Args) != tt.args {
			t.Errorf("Parse(%q) = %v %q, want %v %q", tt.line, got.Verb, got.Args, tt.verb, tt.args)
		}
	}
}

func TestEveryVerbIsItsWord(t *testing.T) {
	for _, v := range text.Verbs() {
		if got := text.Parse([]byte(v.String() + " x")).Verb; got != v {
			t.Errorf("the word %q parses as %v", v, got)
		}
	}
}

// TestPageOfTheProtocolHasEveryVerb compares the table of verbs with docs/protocol.md.
func TestPageOfTheProtocolHasEveryVerb(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "protocol.md"))
	if err != nil {
		t.Fatal(err)
	}
	var want, got []string
	for _, r := range text.Table() {
		row := "`" + strings.TrimSpace(r.Word+" "+r.Args) + "`"
		if r.AdminOnly {
			row += " (administrators)"
		}
		want = append(want, row)
	}
	for _, section := range []string{"## CipherMQ's commands", "## Added commands"} {
		_, list, _ := strings.Cut(string(page), section)
		list, _, _ = strings.Cut(list, "\n## ")
		for _, m := range regexp.MustCompile("(?m)^\\| (`(?:[^|]|\\\\\\|)+?) \\| ").FindAllStringSubmatch(list, -1) {
			got = append(got, strings.ReplaceAll(m[1], `\|`, "|"))
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("table and page differ (-table +page):\n%s", diff)
	}
}

// TestCommandsWithoutTheirArguments: each lacks some of those that it needs.
func TestCommandsWithoutTheirArguments(t *testing.T) {
	n := newNode(t)
	admin := n.admin(t)
	for _, r := range text.Table() {
		for args := range r.Least {
			admin.do(r.Word+strings.Repeat(" a", args), strings.TrimSpace(r.Missing))
		}
	}
}

// TestCommandsOfAdministrators: a plain client may use all commands but these.
func TestCommandsOfAdministrators(t *testing.T) {
	n := newNode(t)
	for _, r := range text.Table() {
		got := n.client(t, "1").ask(r.Word + strings.Repeat(" 1", r.Least))
		if strings.HasPrefix(got, "Error: not allowed to ") != r.AdminOnly {
			t.Errorf("%s without an administrator is answered %q", r.Word, got)
		}
	}
}

func TestParseDoesNotAllocate(t *testing.T) {
	line := []byte("publish exchange key " + sample(256) + "\r")
	if n := testing.AllocsPerRun(100, func() { text.Parse(line) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzParse compares Parse with the obvious way to write it with strings, and checks
// that arguments are a part of the line and never made up.
func FuzzParse(f *testing.F) {
	for _, v := range text.Verbs() {
		f.Add([]byte(v.String() + " first second third"))
	}
	for _, s := range []string{"", " ", "\r", "ack", "publish  x  k  {}", "bind q x k\r", "\xff", "ping\x00"} {
		f.Add([]byte(s))
	}
	words := map[string]text.Verb{}
	for _, v := range text.Verbs() {
		words[v.String()] = v
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		before := bytes.Clone(line)
		got := text.Parse(line)
		word, args, _ := strings.Cut(strings.TrimSpace(string(before)), " ")
		want := text.Command{Verb: words[word], Args: []byte(strings.TrimLeft(args, " "))}
		if len(want.Args) == 0 {
			want.Args = got.Args[:0]
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("Parse(%q): %s", before, diff)
		}
		if !bytes.Equal(before, line) {
			t.Errorf("Parse changed its input")
		}
	})
}

func BenchmarkParse(b *testing.B) {
	line := []byte("publish exchange key " + sample(256))
	b.SetBytes(int64(len(line)))
	for b.Loop() {
		text.Parse(line)
	}
}

// sample is a message in a minimal envelope with n bytes of ciphertext.
func sample(n int) string {
	return `{"message_id":"p0-00000000-receiver_1","receiver_client_id":"receiver_1","enc_session_key":"","nonce":"","tag":"","ciphertext":"` +
		strings.Repeat("A", n) + `"}`
}
