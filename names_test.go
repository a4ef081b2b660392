package sealmq_test

import (
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
