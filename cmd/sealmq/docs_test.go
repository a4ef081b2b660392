package main

import (
	"context"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// pages are the README and all pages below docs.
func pages(t *testing.T) (list []string) {
	t.Helper()
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(filepath.Join(root, "docs"), func(p string, d fs.DirEntry, err error) error {
		if err == nil && filepath.Ext(p) == ".md" {
			list = append(list, p)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return append(list, filepath.Join(root, "README.md"))
}

// fence is a fenced block of a page.
type fence struct{ language, text string }

var fenceStart = regexp.MustCompile("^```(\\S*)")

func fences(t *testing.T, page string) (list []fence) {
	t.Helper()
	b, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	inside := false
	for _, line := range strings.SplitAfter(string(b), "\n") {
		switch m := fenceStart.FindStringSubmatch(line); {
		case m != nil && !inside:
			list, inside = append(list, fence{language: m[1]}), true
		case m != nil:
			inside = false
		case inside:
			list[len(list)-1].text += line
		}
	}
	if inside {
		t.Fatalf("%s: a block is not closed", page)
	}
	return list
}

// TestCommandsOfThePages runs the commands of each page of docs, from top to bottom in
// one empty folder, as a reader would paste them. All have to succeed.
func TestCommandsOfThePages(t *testing.T) {
	if testing.Short() || runtime.GOOS != "linux" {
		t.Skip("it needs a shell and runs for several seconds")
	}
	for _, page := range pages(t) {
		var script strings.Builder
		for _, f := range fences(t, page) {
			if f.language == "sh" {
				script.WriteString(f.text)
			}
		}
		if script.Len() == 0 || slices.Contains([]string{"README.md", "tutorial.md", "monitoring.md", "migration-from-message-broker.md"}, filepath.Base(page)) { // which have tests of their own
			continue
		}
		t.Run(strings.TrimSuffix(filepath.Base(page), ".md"), func(t *testing.T) {
			t.Parallel()
			for _, needed := range []string{"openssl", "socat", "redis-server"} {
				if strings.Contains(script.String(), needed+" ") {
					program(t, needed, "")
				}
			}
			out, err := paste(t, "set -exo pipefail\ntrap 'jobs -p | xargs -r kill; wait' EXIT\n"+script.String())
			if err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// patient replaces the pauses of the pages by waiting for the broker, because a busy machine
// may need longer.
var patient = strings.NewReplacer(
	"sleep 1\n", "until sealmq stats >/dev/null 2>&1; do sleep 0.05; done\n",
	// A short measurement is enough here.
	"--duration 3s", "--duration 200ms")

// paste runs commands in a shell, in an empty folder on a disk.
func paste(t *testing.T, commands string) (output []byte, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), scriptTimeout)
	defer cancel()
	// The usual ports may be taken on the machine of a test.
	addr := freeAddr(t)
	commands = strings.NewReplacer("localhost:5672", strings.Replace(addr, "127.0.0.1", "localhost", 1),
		":5671", portOf(freeAddr(t)), ":5670", portOf(freeAddr(t)), "6390", portOf(freeAddr(t))[1:]).Replace(commands)
	shell := exec.CommandContext(ctx, "bash", "-c", patient.Replace(commands))
	shell.WaitDelay = time.Second // a broker that is left would keep the output open
	shell.Dir = diskFolder(t)
	shell.Env = append(os.Environ(),
		"PATH="+filepath.Dir(builtBinary(t))+string(os.PathListSeparator)+os.Getenv("PATH"),
		"XDG_CONFIG_HOME="+t.TempDir(), "SEALMQ_SERVER_ADDR="+addr, "SEALMQ_METRICS_ADDR=off",
		"SEALMQ_PROXY_ADDR="+freeAddr(t), "SEALMQ_MAIN_ADDR="+freeAddr(t), "SEALMQ_WORKER_ADDR=off", "SEALMQ_PORTAL_ADDR="+freeAddr(t))
	return shell.CombinedOutput()
}

func portOf(addr string) string { return addr[strings.LastIndexByte(addr, ':'):] }

// TestCommandsOfThePagesAreRun: every command that a reader would paste is in a block that a
// test runs.
// A format that looks like a command is marked as text.
func TestCommandsOfThePagesAreRun(t *testing.T) {
	command := regexp.MustCompile(`(?m)^\s*(\$ |sealmq |make |openssl |cp -|tar )`)
	for _, page := range pages(t) {
		for _, f := range fences(t, page) {
			if !slices.Contains([]string{"sh", "go", "text"}, f.language) && command.MatchString(f.text) {
				t.Errorf("%s: commands in a block that no test runs; write ```sh\n%s", page, f.text)
			}
		}
	}
}
