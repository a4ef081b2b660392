package main

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/sealmq/sealmq/internal/testing/program"
)

func TestDemoCommandsCanBePasted(t *testing.T) {
	if testing.Short() || runtime.GOOS == "windows" {
		t.Skip("it builds the program, starts a broker, and needs a shell")
	}
	t.Parallel()
	// A folder with a space and a quote, as people have them.
	dir := filepath.Join(t.TempDir(), "it's a folder")
	demo := exec.Command(program.Path(t), "demo", "--messages", "100", "--dir", dir)
	demo.Stderr = os.Stderr
	out, err := demo.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := demo.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { demo.Process.Kill() }) // when the test fails half-way
	var commands []string
	lines := bufio.NewScanner(out)
	for try := false; lines.Scan() && !strings.HasPrefix(lines.Text(), "Ctrl-C"); {
		command, indented := strings.CutPrefix(lines.Text(), "  ")
		if try && indented {
			commands = append(commands, command)
		}
		try = try || strings.HasPrefix(lines.Text(), "Try")
	}
	if len(commands) < 5 {
		t.Fatalf("it names %d commands", len(commands))
	}
	var all strings.Builder
	for _, c := range commands {
		text, err := exec.Command("sh", "-c", c).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", c, err, text)
		}
		all.Write(text)
	}
	for _, want := range []string{"sent 1 message", "inbox", "received 1 new message", "one letter more", "queued as ", "acme-02"} {
		if !strings.Contains(all.String(), want) {
			t.Errorf("%q is missing in:\n%s", want, all.String())
		}
	}
	if err := demo.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	for lines.Scan() {
	}
	if err := demo.Wait(); err != nil {
		t.Errorf("it ends with %v", err)
	}
	if _, err := os.Stat(dir); err != nil {
		t.Errorf("the folder that was named is gone: %v", err)
	}
}
