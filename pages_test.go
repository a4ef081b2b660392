package sealmq_test

import (
	"fmt"
	"go/ast"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// This file holds the pages of the documentation against the tree.

var requireLine = regexp.MustCompile(`(?m)^(?:require)?\s+(\S+\.\S+) v\S+`)

func TestEveryDependencyHasItsReason(t *testing.T) {
	mod, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join("docs", "dependencies.md"))
	if err != nil {
		t.Fatal(err)
	}
	var required []string
	for _, m := range requireLine.FindAllStringSubmatch(string(mod), -1) {
		required = append(required, m[1])
	}
	used := make(map[string]string)
	for _, f := range tree(t) {
		for _, p := range f.imports() {
			first, _, _ := strings.Cut(p, "/")
			if !strings.Contains(first, ".") || strings.HasPrefix(p, module) {
				continue
			}
			if m := moduleOf(p, required); m != "" {
				used[m] = f.path
			} else {
				t.Errorf("%s imports %s, which no module in go.mod provides", f.path, p)
			}
		}
	}
	for m, user := range used {
		if !strings.Contains(string(page), fmt.Sprintf("| `%s` |", m)) {
			t.Errorf("docs/dependencies.md has no line for %s, which %s imports", m, user)
		}
	}
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\|").FindAllStringSubmatch(string(page), -1) {
		if used[m[1]] == "" {
			t.Errorf("docs/dependencies.md has a line for %s, which nobody imports", m[1])
		}
	}
}

// moduleOf is the module that provides an import path.
func moduleOf(p string, modules []string) (best string) {
	for _, m := range modules {
		if (p == m || strings.HasPrefix(p, m+"/")) && len(m) > len(best) {
			best = m
		}
	}
	return best
}

// TestArchitectureNamesWhatExists keeps ARCHITECTURE.md from naming tests, files and
// packages that are gone.
func TestArchitectureNamesWhatExists(t *testing.T) {
	page, err := os.ReadFile("ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	tests, packages := make(map[string]bool), make(map[string]bool)
	for _, f := range tree(t) {
		packages[f.pkg] = true
		for _, d := range f.ast.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && f.test {
				tests[fn.Name.Name] = true
			}
		}
	}
	for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(string(page), -1) {
		switch what := m[1]; {
		case strings.HasPrefix(what, "Test"):
			if !tests[what] {
				t.Errorf("there is no test %s", what)
			}
		case strings.HasSuffix(what, ".go"):
			if _, err := os.Stat(filepath.FromSlash(what)); err != nil && what != "engine.go" {
				t.Errorf("there is no file %s", what)
			}
		}
	}
	_, table, _ := strings.Cut(string(page), "## The packages")
	table, _, _ = strings.Cut(table, "\n## ")
	for pkg := range packages {
		if pkg != "" && !strings.Contains(table, "`"+pkg+"`") {
			t.Errorf("the table of packages does not name %s", pkg)
		}
	}
}

func TestLinksLeadSomewhere(t *testing.T) {
	pages, err := filepath.Glob("*.md")
	if err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir("docs", func(p string, _ fs.DirEntry, err error) error {
		if filepath.Ext(p) == ".md" {
			pages = append(pages, p)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	link := regexp.MustCompile(`\]\(([^)#]+)(?:#[^)]*)?\)`)
	code := regexp.MustCompile("`[^`\n]*`")
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(code.ReplaceAllString(string(text), ""), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(page), filepath.FromSlash(m[1]))); err != nil {
				t.Errorf("%s links to %s, which does not exist", page, m[1])
			}
		}
	}
}

// maxPicture bounds a picture of the documentation.
const maxPicture = 60 << 10

// TestPicturesAreSmall: the pictures of pages are the only ones in docs, each is small and stands
// on a page.
func TestPicturesAreSmall(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("docs", "portal.md"))
	if err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir("docs", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(p) == ".md" {
			return err
		}
		info, err := d.Info()
		if err == nil && (filepath.Ext(p) != ".webp" || info.Size() > maxPicture || !strings.Contains(string(page), "](pictures/"+d.Name()+")")) {
			t.Errorf("%s is no picture of docs/portal.md of at most %d bytes", p, maxPicture)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestNamedTestsExist: a table that says which test proves a row must name tests that
// there are. After a slash stands a case, with underscores for the spaces of its name.
func TestNamedTestsExist(t *testing.T) {
	sources := make(map[string]string) // test functions to their files' text
	for _, f := range tree(t) {
		if !f.test {
			continue
		}
		src, err := os.ReadFile(f.path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllStringSubmatch(string(src), -1) {
			sources[m[1]] += string(src)
		}
	}
	pages, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range append(pages, "ARCHITECTURE.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile("`(Test\\w+)(?:/(\\w+))?`").FindAllStringSubmatch(string(text), -1) {
			src, ok := sources[m[1]]
			name := strings.ReplaceAll(m[2], "_", " ")
			if !ok || m[2] != "" && !strings.Contains(strings.ReplaceAll(src, ",", ""), `"`+name+`"`) {
				t.Errorf("%s names %s, which does not exist", page, strings.Trim(m[0], "`"))
			}
		}
	}
}
