// Package program builds sealmq for the tests that run it.
package program

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
)

var folder string // "" until something is built

// Build builds the program once in a process, and returns where it lies. Every user of the machine
// may run it.
var Build = sync.OnceValues(func() (exe string, err error) {
	if folder, err = os.MkdirTemp("", "sealmq-test-"); err != nil {
		return "", err
	}
	exe = filepath.Join(folder, "sealmq")
	if runtime.GOOS == "windows" {
		exe += ".exe"
	}
	// Without what a debugger needs it is linked in half the time.
	cmd := exec.Command("go", "build", "-ldflags=-w", "-o", exe, "github.com/sealmq/sealmq/cmd/sealmq")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // the race detector has turned it on
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build sealmq: %w\n%s", err, out)
	}
	return exe, os.Chmod(folder, 0o755)
})

// Path is where the program lies. It builds it if nothing has.
func Path(t testing.TB) string {
	t.Helper()
	exe, err := Build()
	if err != nil {
		t.Fatal(err)
	}
	return exe
}

// Remove removes what was built. TestMain calls it after the tests.
func Remove() {
	if folder != "" {
		os.RemoveAll(folder)
	}
}
