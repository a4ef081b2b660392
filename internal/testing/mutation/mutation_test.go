package mutation

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

var all = flag.Bool("all", false, "try all variants, not only a few quick ones")

// patience bounds one suite, broken or not. A suite that hangs has caught nothing.
const patience = 2 * time.Minute

// suite is a test of a package, as -run names it.
type suite struct {
	pkg, test string
	long      bool // not in its short form
}

func (s suite) String() string { return s.pkg + ": " + s.test }

// variant is the product with one fault: in file, new stands instead of old, which must be
// there exactly once. The test that exists to notice it is caught.
type variant struct {
	name     string
	file     string // from the root of the module
	old, new string
	caught   suite
	quick    bool // tried without -all too
}

var variants = slices.Concat(store, ends)

// TestBrokenVariantsAreCaught first requires that the suites pass on the product as it
// is: a test that always fails notices nothing.
func TestBrokenVariantsAreCaught(t *testing.T) {
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
			patched := b.patch(t, &v)
			if !*all && !v.quick {
				t.Skip("run with -all")
			}
			b.fails(t, &v, patched)
		})
	}
}

// bench builds and runs tests.
type bench struct {
	root string // of the module
	dir  string // for what is built
	// The tests of each package, built from the product as it is.
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

// patch returns the broken text of the variant's file.
func (b *bench) patch(t *testing.T, v *variant) string {
	t.Helper()
	src, err := os.ReadFile(filepath.Join(b.root, filepath.FromSlash(v.file)))
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(src), v.old); n != 1 {
		t.Fatalf("%s has %d times, not once, the text that the variant replaces:\n%s", v.file, n, v.old)
	}
	return strings.Replace(string(src), v.old, v.new, 1)
}

// passes runs a suite on the product as it is.
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
func (b *bench) fails(t *testing.T, v *variant, patched string) {
	t.Helper()
	dir := t.TempDir()
	broken := filepath.Join(dir, "broken.go")
	if err := os.WriteFile(broken, []byte(patched), 0o600); err != nil {
		t.Fatal(err)
	}
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{
		filepath.Join(b.root, filepath.FromSlash(v.file)): broken,
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

// firstFailure is what a test has said first about a failure.
var firstFailure = regexp.MustCompile(`(?m)^ +\w+\.go:\d+: .*`)

// build makes a package's tests. A variant that does not compile is no variant.
func (b *bench) build(t *testing.T, pkg, bin string, args ...string) {
	t.Helper()
	args = append(append([]string{"test", "-c", "-o", bin}, args...), "./"+pkg)
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

// pattern is for -run, which takes each part for an expression.
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
