package sealmq_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"github.com/sealmq/sealmq"
)

// constants are the constants of type Code in codes.go.
func constants(t *testing.T) (list []sealmq.Code) {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), "codes.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(f, func(n ast.Node) bool {
		v, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if name, ok := v.Type.(*ast.Ident); ok && name.Name == "Code" {
			for _, x := range v.Values {
				code, err := strconv.Unquote(x.(*ast.BasicLit).Value)
				if err != nil {
					t.Fatal(err)
				}
				list = append(list, sealmq.Code(code))
			}
		}
		return true
	})
	return list
}

func TestEveryCodeIsExplained(t *testing.T) {
	var got []sealmq.Code
	for _, info := range sealmq.Codes() {
		got = append(got, info.Code)
		if !strings.HasSuffix(info.Meaning, ".") || strings.HasSuffix(info.Remedy, ".") {
			t.Errorf("%s: the meaning is a sentence, and the remedy a hint without a full stop", info.Code)
		}
		if info.Sentence == "" || strings.HasSuffix(info.Sentence, ".") {
			t.Errorf("%s: a peer is told %q", info.Code, info.Sentence)
		}
		if info.Code.Info() != info {
			t.Errorf("%s: another explanation", info.Code)
		}
	}
	if diff := cmp.Diff(constants(t), got); diff != "" {
		t.Errorf("codes (-constants +explained):\n%s", diff)
	}
	if info := sealmq.Code("unheard_of").Info(); info.Retry || info.Remedy != "" || info.Sentence != "" {
		t.Errorf("an unknown code is explained: %+v", info)
	}
}

// code matches a command in quotes, and a flag with its value at the end.
var code = regexp.MustCompile(`"([^"]*)"|(--[a-z-]+(?: [a-z]+$)?)`)

// sentence makes a hint a sentence of a page.
func sentence(hint string) string {
	if hint == "" {
		return "The sentence of the error says what to change."
	}
	if r := []rune(hint); r[0] != '"' {
		r[0] = unicode.ToUpper(r[0])
		hint = string(r)
	}
	return code.ReplaceAllString(hint, "`$1$2`") + "."
}

// TestErrorsPageHasTheCatalogue compares the table of codes in docs/errors.md with the
// catalogue. -update writes it.
func TestErrorsPageHasTheCatalogue(t *testing.T) {
	path := filepath.Join("docs", "errors.md")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	page := string(b)
	const head = "| code | meaning | retry | what to do |\n| --- | --- | --- | --- |\n"
	before, rest, ok := strings.Cut(page, head)
	_, after, found := strings.Cut(rest, "\n\n")
	if !ok || !found {
		t.Fatalf("%s has no table that begins with\n%s", path, head)
	}
	var table strings.Builder
	for _, info := range sealmq.Codes() {
		retry := map[bool]string{true: "yes", false: "no"}[info.Retry]
		fmt.Fprintf(&table, "| `%s` | %s | %s | %s |\n", info.Code, info.Meaning, retry, sentence(info.Remedy))
	}
	want := before + head + table.String() + "\n" + after
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(page, "\n")); diff != "" {
		t.Errorf("%s; write it with -update (-catalogue +page):\n%s", path, diff)
	}
}
