package mutation

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

var all = flag.Bool("all", false, "try all variants, not only a few quick ones")

// patience is how long one suite may take. A suite that hangs has not caught the fault.
const patience = 2 * time.Minute

// suite is a test of a package, as -run names it.
type suite struct {
	pkg, test string
	long      bool // not in its short form
}

func (s suite) String() string { return s.pkg + ": " + s.test }

// variant is the product with one fault: in one function, new replaces old. The function is
// found by its name in any file of its package. It must contain old exactly once; an
// expression is best, because it survives most changes around it. caught is the test that
// must notice the fault.
type variant struct {
	name     string
	in, fn   string // the package's folder, and the function: Name or Type.Name
	old, new string
	caught   suite
	quick    bool // tried without -all too
}

// TestBrokenVariantsAreCaught first requires that the suites pass on the unchanged product: a
// test that always fails notices nothing.
func TestBrokenVariantsAreCaught(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds the product once more for each variant")
	}
	b := newBench(t)
	tried := map[suite]bool{}
	for _, v := range variants {
		if !*all && !v.quick {
			continue
		}
		if s := v.caught; !tried[s] {
			tried[s] = true
			t.Run("unbroken/"+s.String(), func(t *testing.T) { b.passes(t, s) })
		}
	}
	for _, v := range variants {
		t.Run(v.name, func(t *testing.T) {
			file, patched := b.patch(t, &v)
			if !*all && !v.quick {
				t.Skip("run with -all")
			}
			b.fails(t, &v, file, patched)
		})
	}
}

// bench builds and runs tests.
type bench struct {
	root string // of the module
	dir  string // for what is built
	// The tests of each package, built from the unchanged product.
	unbroken map[string]string
}

func newBench(t *testing.T) *bench {
	root, err := filepath.Abs(filepath.Join("..", "..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("variants are built with go, which is not in the path")
	}
	return &bench{root, t.TempDir(), map[string]string{}}
}

// patch finds the variant's function, and returns its file and the file's broken text.
func (b *bench) patch(t *testing.T, v *variant) (file, text string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(b.root, filepath.FromSlash(v.in), "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		set := token.NewFileSet()
		src, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := parser.ParseFile(set, name, src, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range parsed.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || funcName(fn) != v.fn {
				continue
			}
			found++
			from, to := set.Position(fn.Pos()).Offset, set.Position(fn.End()).Offset
			body := string(src[from:to])
			if n := strings.Count(body, v.old); n != 1 {
				t.Fatalf("%s: %s has %d times, not once, what the variant replaces: %s", name, v.fn, n, v.old)
			}
			file, text = name, string(src[:from])+strings.Replace(body, v.old, v.new, 1)+string(src[to:])
		}
	}
	if found != 1 {
		t.Fatalf("package %s has %d functions %s, not one; if it was renamed, rename it in the variant", v.in, found, v.fn)
	}
	return file, text
}

// funcName is Name, or Type.Name for a method.
func funcName(fn *ast.FuncDecl) string {
	if fn.Recv == nil {
		return fn.Name.Name
	}
	recv := fn.Recv.List[0].Type
	if star, ok := recv.(*ast.StarExpr); ok {
		recv = star.X
	}
	if generic, ok := recv.(*ast.IndexExpr); ok {
		recv = generic.X
	}
	name, ok := recv.(*ast.Ident)
	if !ok {
		return fn.Name.Name
	}
	return name.Name + "." + fn.Name.Name
}

// passes runs a suite on the unchanged product.
func (b *bench) passes(t *testing.T, s suite) {
	t.Helper()
	bin := b.unbroken[s.pkg]
	if bin == "" {
		bin = filepath.Join(b.dir, strings.ReplaceAll(s.pkg, "/", "-")+".exe") // Windows wants the suffix
		b.build(t, s.pkg, bin)
		b.unbroken[s.pkg] = bin
	}
	out, err := b.run(s, bin)
	if err != nil {
		t.Fatalf("%v: %v\n%s", s, err, tail(out))
	}
	if !strings.Contains(out, "--- PASS: "+s.top()) {
		t.Fatalf("%v ran no test\n%s", s, tail(out))
	}
}

// fails runs a variant's suite on the variant.
func (b *bench) fails(t *testing.T, v *variant, file, patched string) {
	t.Helper()
	dir := t.TempDir()
	broken := filepath.Join(dir, "broken.go")
	if err := os.WriteFile(broken, []byte(patched), 0o600); err != nil {
		t.Fatal(err)
	}
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{
		file: broken,
	}})
	if err != nil {
		t.Fatal(err)
	}
	list := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(list, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(dir, "broken.exe")
	b.build(t, v.caught.pkg, bin, "-overlay", list)
	began := time.Now()
	out, err := b.run(v.caught, bin)
	switch noticed := firstFailure.FindString(out); {
	case err == nil:
		t.Fatalf("%v passes although the product is broken", v.caught)
	case !strings.Contains(out, "--- FAIL: "+v.caught.top()):
		t.Fatalf("%v did not fail as a test does: %v\n%s", v.caught, err, tail(out))
	default:
		t.Logf("caught by %v in %v: %s", v.caught, time.Since(began).Round(time.Millisecond), strings.TrimSpace(noticed))
	}
}

// firstFailure is the first message about a failure.
var firstFailure = regexp.MustCompile(`(?m)^ +\w+\.go:\d+: .*`)

// build builds a package's tests. A variant that does not compile is an error.
func (b *bench) build(t *testing.T, pkg, bin string, args ...string) {
	t.Helper()
	args = append(append([]string{"test", "-c", "-ldflags=-w", "-o", bin}, args...), "./"+pkg)
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = b.root
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
}

// run runs a suite and returns what it printed.
func (b *bench) run(s suite, bin string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience+10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, bin, fmt.Sprint("-test.short=", !s.long), "-test.failfast", "-test.v",
		"-test.run="+s.pattern(), fmt.Sprint("-test.timeout=", patience))
	cmd.Dir = filepath.Join(b.root, filepath.FromSlash(s.pkg))
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// top is the name of the test without its subtests.
func (s suite) top() string { return strings.Split(s.test, "/")[0] }

// pattern is the test's name for -run, which treats each part as an expression.
func (s suite) pattern() string {
	parts := strings.Split(s.test, "/")
	for i, p := range parts {
		parts[i] = "^" + regexp.QuoteMeta(strings.ReplaceAll(p, " ", "_")) + "$"
	}
	return strings.Join(parts, "/")
}

func tail(out string) string {
	const most = 3000
	return out[max(0, len(out)-most):]
}
