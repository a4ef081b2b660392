package sealmq_test

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/sealmq/sealmq"
)

func TestCheckName(t *testing.T) {
	for name, tc := range map[string]struct {
		name string
		ok   bool
	}{
		"word":                  {"ciphermq_queue", true},
		"punctuation":           {"a.b/c:d-e*#{}\"'\\", true},
		"other scripts":         {"очередь-队列-🔒", true},
		"as long as can be":     {strings.Repeat("x", sealmq.MaxNameBytes), true},
		"empty":                 {"", false},
		"too long":              {strings.Repeat("x", sealmq.MaxNameBytes+1), false},
		"too long in bytes":     {strings.Repeat("é", 128), false},
		"space":                 {"a b", false},
		"leading space":         {" a", false},
		"line feed":             {"a\nACK b", false},
		"carriage return":       {"a\r", false},
		"tab":                   {"a\tb", false},
		"zero byte":             {"a\x00b", false},
		"delete":                {"a\x7fb", false},
		"C1 control":            {"a\u0085b", false},
		"no-break space":        {"a\u00a0b", false},
		"line separator":        {"a\u2028b", false},
		"ideographic space":     {"a\u3000b", false},
		"broken UTF-8":          {"a\xffb", false},
		"cut UTF-8":             {"a\xe2\x82", false},
		"the real U+FFFD":       {"a\ufffdb", true},
		"bad after other runes": {"éé\xc3(", false},
	} {
		t.Run(name, func(t *testing.T) {
			err := sealmq.CheckName("queue", tc.name)
			if tc.ok && err != nil {
				t.Fatalf("%q refused: %v", tc.name, err)
			}
			if tc.ok {
				return
			}
			if sealmq.CodeOf(err) != sealmq.BadName {
				t.Fatalf("%q: error %v, want code %s", tc.name, err, sealmq.BadName)
			}
			if msg := err.Error(); !strings.HasPrefix(msg, "queue ") || strings.ContainsAny(msg, "\r\n") {
				t.Errorf("message %q does not name the kind on one line", msg)
			}
		})
	}
}

// What nobody sees, or changes how other characters are read, is not in new names and is shown
// by its escape.
func TestHiddenCharacters(t *testing.T) {
	for name, r := range map[string]rune{
		"zero width space": '\u200b', "zero width joiner": '\u200d', "word joiner": '\u2060', "byte order mark": '\ufeff', "soft hyphen": '\u00ad',
		"right-to-left override": '\u202e', "right-to-left mark": '\u200f', "isolate": '\u2066', "Arabic letter mark": '\u061c',
		"Hangul filler": '\u3164', "halfwidth Hangul filler": '\uffa0', "Hangul choseong filler": '\u115f', "Khmer inherent vowel": '\u17b4',
		"combining grapheme joiner": '\u034f', "variation selector": '\ufe0f', "Mongolian variation selector": '\u180b', "variation selector 17": '\U000e0100',
		"tag": '\U000e0041', "unassigned, ignorable": '\U000e0fff', "braille blank": '\u2800', "object replacement": '\ufffc', "null notehead": '\U0001d159',
		"interlinear annotation": '\ufff9', "next line": '\u0085', "C1": '\u009b', "line separator": '\u2028', "no-break space": '\u00a0', "private use": '\ue000',
	} {
		text := "a" + string(r) + "b"
		if err := sealmq.CheckNewName("queue", text); sealmq.CodeOf(err) != sealmq.BadName {
			t.Errorf("%s is in a name: %v", name, err)
		}
		shown := sealmq.Escape(text)
		var back string
		if err := json.Unmarshal([]byte(`"`+shown+`"`), &back); err != nil || back != text || strings.ContainsRune(shown, r) {
			t.Errorf("%s is shown as %q, which reads %q, %v", name, shown, back, err)
		}
		if line := sealmq.OneLine(text, 100); strings.ContainsRune(line, r) || sealmq.CheckLine("text", line, "") != nil {
			t.Errorf("%s is in the line %q", name, line)
		}
	}
	for _, text := range []string{"ciphermq_queue", "очередь-队列-🔒", "größe", "ümlaut-\u0308", "שלום", "\ufffd"} {
		if err := sealmq.CheckNewName("queue", text); err != nil || sealmq.Escape(text) != text {
			t.Errorf("%q: %v, shown as %q", text, err, sealmq.Escape(text))
		}
	}
	if broken := "a\xff\u200bb"; sealmq.Escape(broken) != "a\xff\\u200bb" {
		t.Errorf("%q", sealmq.Escape(broken))
	}
}

func FuzzCheckName(f *testing.F) {
	for _, s := range []string{"", "q", "a b", "é\x00", "\xff", "a\u2029", strings.Repeat("y", 256)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		want := name != "" && len(name) <= sealmq.MaxNameBytes && utf8.ValidString(name) &&
			!strings.ContainsFunc(name, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) || r == '\u2028' || r == '\u2029' })
		if got := sealmq.CheckName("name", name) == nil; got != want {
			t.Errorf("CheckName(%q) accepts: %v, want %v", name, got, want)
		}
	})
}

func BenchmarkCheckName(b *testing.B) {
	for b.Loop() {
		if err := sealmq.CheckName("message id", "0f8fad5b-d9cb-469f-a165-70867728950e"); err != nil {
			b.Fatal(err)
		}
	}
}
