package sealmq_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// This file inspects the source tree itself: who may import whom and why, and the
// habits that no compiler checks.

const module = "github.com/sealmq/sealmq"

// rules say what a package must not reach, neither by itself nor through another
// package of this module. A name with a slash at its end stands for all below it.
var rules = []struct{ pkg, not, why string }{
	{"", module + "/", "the vocabulary is for everyone, so it depends on nobody"},
	{"internal/clock", module + "/", "a seam has no users of its own"},
	{"internal/durable", module + "/", "files know nothing of messages"},

	{"internal/framelog", module, "frames know nothing of messages"},

	{"broker", "net", "routing and permissions must run without sockets"},
	{"broker", "net/http", "routing and permissions must run without sockets"},
	{"broker", "crypto/tls", "identity comes in as a value"},
	{"broker", "database/sql", "definitions live in the engine"},
	{"broker", module + "/engine/local", "engines are chosen in cmd/sealmq"},
	{"broker", module + "/journal", "what a store looks like is the engine's affair"},
	{"broker", module + "/protocol/", "protocols speak to the broker, not the other way"},

	{"engine", module + "/broker", "an engine keeps queues; who may use them is decided above it"},
	{"engine", "net", "a contract needs no network"},

	{"engine/local", module + "/broker", "an engine keeps queues; who may use them is decided above it"},
	{"engine/local", "net", "an engine in this process needs no network"},
	{"engine/local", module + "/protocol/", "an engine does not know how messages arrive"},
	{"engine/local", module + "/listener", "an engine does not know how messages arrive"},

	{"journal", module, "the journal knows records, not messages"},
	{"journal", module + "/broker", "the journal knows records, not queues"},
	{"journal", "net", "a log in this process needs no network"},

	{"protocol", module + "/broker", "what all protocols share is not about one broker"},
	{"protocol", "net", "a session takes bytes in and gives bytes out"},

	{"protocol/text", "net", "parsing and printing must be testable byte by byte"},
	{"protocol/text", "os", "parsing and printing must be testable byte by byte"},
	{"protocol/text", "crypto/tls", "a session starts after the handshake"},
	{"protocol/text", module + "/engine/local", "engines are chosen in cmd/sealmq"},

	{"listener", module + "/broker", "protocols know what is behind them"},
	{"listener", module + "/engine", "protocols know what is behind them"},
	{"listener", module + "/protocol/text", "protocols are chosen in cmd/sealmq"},
	{"listener", module + "/client", "the two ends of a connection share only the protocol"},

	{"keydir/keylog", "os", "parsing and printing must be testable byte by byte"},
	{"keydir/keylog", "net", "what a broker keeps of keys must run without sockets"},
	{"keydir/keylog", module + "/engine", "who looks a key up must not carry a broker"},
	{"keydir", "net", "a look-up asks over a connection that it is given"},
	{"keydir", module + "/broker", "who looks a key up must not carry a broker"},
	{"keydir", module + "/engine", "who looks a key up must not carry a broker"},
	{"keydir", module + "/client", "a directory asks any connection"},

	{"client", module + "/broker", "programs that use the client must not carry a broker"},
	{"client", module + "/engine/", "programs that use the client must not carry a broker"},
	{"client", module + "/journal", "programs that use the client must not carry a broker"},
	{"client", module + "/listener", "programs that use the client must not carry a broker"},
	{"client", "github.com/prometheus/", "programs that use the client bring their own metrics"},

	{"client", module + "/seal", "a connection carries messages, sealed or not"},
	{"send", module + "/broker", "programs that send must not carry a broker"},
	{"send", module + "/receive", "sender and receiver share only the envelope"},
	{"receive", module + "/broker", "programs that receive must not carry a broker"},
	{"receive", module + "/send", "sender and receiver share only the envelope"},

	{"seal", "net", "sealing is a calculation"},
	{"seal", module + "/broker", "the broker must be no part of end-to-end protection"},
	{"seal", module + "/client", "a sealed message can travel by other means"},

	{"mtls", module + "/broker", "identity is decided before anything is routed"},
	{"mtls", module + "/ca", "a node without our authority must run with imported certificates"},
	{"ca", "net/http", "an authority signs; how requests reach it is another package's affair"},
	{"ca", module + "/broker", "an authority needs no broker"},
}

// named are packages that others use for the name of a type in a signature and for
// nothing that they do; whoever reaches them through that has not reached much.
var named = map[string][]string{
	"seal": {"crypto/tls"}, // the argument of mtls's Identify
}

// seams are the packages that see disk and time only through interfaces, so that a
// simulation can drive them.
var seams = []string{"journal", "engine/local", "broker", "client", "send", "receive", "keydir", "keydir/keylog", "internal/framelog"}

// sealed lists what these packages must not use of a package, or all but what they may.
var sealed = map[string]func(name string) (why string){
	"time": func(name string) string {
		switch name {
		case "Now", "Since", "Until", "After", "AfterFunc", "NewTimer", "NewTicker", "Tick", "Sleep":
			return "time comes from internal/clock"
		}
		return ""
	},
	"os": func(name string) string {
		if strings.HasPrefix(name, "O_") || strings.HasPrefix(name, "Err") || name == "FileMode" {
			return ""
		}
		return "files are reached through internal/durable"
	},
}

// Bounds of the tree.
const (
	maxFileLines     = 700
	maxFunctionLines = 70
)

// goFile is one parsed source file.
type goFile struct {
	path string // with slashes, from the root of the module
	pkg  string // its folder, "" for the root
	test bool
	ast  *ast.File
	set  *token.FileSet
	size int // lines
}

func (f *goFile) imports() (list []string) {
	for _, spec := range f.ast.Imports {
		p, err := strconv.Unquote(spec.Path.Value)
		if err == nil {
			list = append(list, p)
		}
	}
	return list
}

// tree parses every Go file of the module, for all platforms.
func tree(t *testing.T) []*goFile {
	t.Helper()
	var files []*goFile
	err := filepath.WalkDir(".", func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "testdata" || len(d.Name()) > 1 && d.Name()[0] == '.'):
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(p, ".go"):
			return nil
		}
		src, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		f := &goFile{path: filepath.ToSlash(p), set: token.NewFileSet(), size: strings.Count(string(src), "\n")}
		f.pkg = strings.TrimPrefix(path.Dir(f.path), ".")
		f.test = strings.HasSuffix(p, "_test.go")
		f.ast, err = parser.ParseFile(f.set, p, src, parser.ParseComments)
		files = append(files, f)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// matches reports whether import path p is what a rule names.
func matches(p, rule string) bool {
	if below, ok := strings.CutSuffix(rule, "/"); ok {
		return p == below && below != module || strings.HasPrefix(p, rule)
	}
	return p == rule
}

func TestDependencies(t *testing.T) {
	direct := make(map[string][]string)
	for _, f := range tree(t) {
		if !f.test {
			direct[f.pkg] = append(direct[f.pkg], f.imports()...)
		}
	}
	for _, r := range rules {
		if _, ok := direct[r.pkg]; !ok {
			t.Errorf("there is a rule for package %q, which does not exist", r.pkg)
		}
		// Every own package that r.pkg reaches, with the way to it.
		way := map[string]string{r.pkg: name(r.pkg)}
		queue := []string{r.pkg}
		for len(queue) > 0 {
			pkg := queue[0]
			queue = queue[1:]
			for _, p := range direct[pkg] {
				if pkg != r.pkg && slices.Contains(named[pkg], p) {
					continue
				}
				if matches(p, r.not) {
					t.Errorf("%s imports %s: %s", way[pkg], p, r.why)
				}
				own, ok := strings.CutPrefix(p, module)
				own = strings.TrimPrefix(own, "/")
				if ok && way[own] == "" {
					way[own] = way[pkg] + " → " + own
					queue = append(queue, own)
				}
			}
		}
	}
	for pkg, imports := range direct {
		for _, p := range imports {
			if strings.HasPrefix(p, module+"/cmd/") && !strings.HasPrefix(pkg, "cmd/") {
				t.Errorf("%s imports %s: nobody imports a program", name(pkg), p)
			}
		}
	}
}

func name(pkg string) string {
	if pkg == "" {
		return "package sealmq"
	}
	return pkg
}

func TestVocabularyUsesTheStandardLibraryOnly(t *testing.T) {
	for _, f := range tree(t) {
		if f.pkg != "" || f.test {
			continue
		}
		for _, p := range f.imports() {
			if first, _, _ := strings.Cut(p, "/"); strings.Contains(first, ".") {
				t.Errorf("%s imports %s", f.path, p)
			}
		}
	}
}

func TestDiskAndTimeComeThroughInterfaces(t *testing.T) {
	for _, f := range tree(t) {
		if f.test || !slices.Contains(seams, f.pkg) {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			pkg, ok := sel.X.(*ast.Ident)
			if !ok || pkg.Obj != nil { // a variable of that name
				return true
			}
			if check := sealed[pkg.Name]; check != nil && slices.Contains(f.imports(), pkg.Name) {
				if why := check(sel.Sel.Name); why != "" {
					t.Errorf("%s uses %s.%s: %s", f.set.Position(n.Pos()), pkg.Name, sel.Sel.Name, why)
				}
			}
			return true
		})
	}
}

func TestPackagesSayWhatTheyAreFor(t *testing.T) {
	documented := make(map[string]bool)
	for _, f := range tree(t) {
		if f.test {
			continue
		}
		doc := strings.TrimSpace(f.ast.Doc.Text())
		documented[f.pkg] = documented[f.pkg] || strings.HasPrefix(doc, "Package ") || strings.HasPrefix(doc, "Command ")
	}
	for pkg, ok := range documented {
		if !ok {
			t.Errorf("%s has no package comment", name(pkg))
		}
	}
}

func TestTestsDoNotSleep(t *testing.T) {
	for _, f := range tree(t) {
		if !f.test || slices.Contains(f.imports(), "testing/synctest") {
			continue // there time.Sleep moves a clock and waits for nothing
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			if sel, ok := n.(*ast.SelectorExpr); ok && sel.Sel.Name == "Sleep" {
				if pkg, ok := sel.X.(*ast.Ident); ok && pkg.Name == "time" {
					t.Errorf("%s: a test waits for a condition, not for time", f.set.Position(n.Pos()))
				}
			}
			return true
		})
	}
}

func TestFuzzTargetsHaveSeeds(t *testing.T) {
	targets := 0
	for _, f := range tree(t) {
		for _, d := range f.ast.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || !f.test || fn.Recv != nil || !strings.HasPrefix(fn.Name.Name, "Fuzz") {
				continue
			}
			targets++
			seeds, _ := filepath.Glob(filepath.Join(filepath.FromSlash(f.pkg), "testdata", "fuzz", fn.Name.Name, "*"))
			if len(seeds) == 0 && !adds(fn) {
				t.Errorf("%s: %s has no seed, neither by f.Add nor in testdata/fuzz/%s", f.path, fn.Name.Name, fn.Name.Name)
			}
		}
	}
	if targets == 0 {
		t.Error("no fuzz target was found; is this test looking in the right place?")
	}
}

// adds reports whether a fuzz target adds seeds by itself.
func adds(fn *ast.FuncDecl) (found bool) {
	ast.Inspect(fn, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok && sel.Sel.Name == "Add" {
			found = true
		}
		return true
	})
	return found
}

func TestFilesAndFunctionsFitTheirReader(t *testing.T) {
	for _, f := range tree(t) {
		if f.size > maxFileLines {
			t.Errorf("%s has %d lines, more than %d: it probably has two subjects", f.path, f.size, maxFileLines)
		}
		for _, d := range f.ast.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || f.test {
				continue
			}
			lines := f.set.Position(fn.End()).Line - f.set.Position(fn.Pos()).Line + 1
			if lines > maxFunctionLines {
				t.Logf("%s: %s has %d lines", f.path, fn.Name.Name, lines)
			}
		}
	}
}

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

var markers = regexp.MustCompile(`\b(TODO|FIXME|XXX)\b`)

func TestNothingIsLeftForLater(t *testing.T) {
	for _, f := range tree(t) {
		if f.path == "tidy_test.go" {
			continue
		}
		for _, group := range f.ast.Comments {
			if m := markers.FindString(group.Text()); m != "" {
				t.Errorf("%s: %s", f.set.Position(group.Pos()), m)
			}
		}
	}
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
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(page), filepath.FromSlash(m[1]))); err != nil {
				t.Errorf("%s links to %s, which does not exist", page, m[1])
			}
		}
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
