package main

import (
	"context"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq/internal/testing/program"
)

// pages are the README and all pages below docs, by their paths in the repository.
func pages(t *testing.T) (list []string) {
	t.Helper()
	err := fs.WalkDir(os.DirFS(repository), "docs", func(p string, d fs.DirEntry, err error) error {
		if err == nil && path.Ext(p) == ".md" {
			list = append(list, p)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return append(list, "README.md")
}

// fence is a block of a page: fenced, or indented, whose language is then "indented".
type fence struct{ language, text string }

var fenceStart = regexp.MustCompile("^```(\\S*)")

func fences(t *testing.T, page string) (list []fence) {
	t.Helper()
	inside, indented, blank := false, false, true
	for _, line := range strings.SplitAfter(readFile(t, filepath.Join(repository, filepath.FromSlash(page))), "\n") {
		m := fenceStart.FindStringSubmatch(line)
		code, four := strings.CutPrefix(line, "    ")
		switch indented = !inside && four && (indented || blank); {
		case m != nil && !inside:
			list, inside = append(list, fence{language: m[1]}), true
		case m != nil:
			inside = false
		case inside:
			list[len(list)-1].text += line
		case indented:
			if blank {
				list = append(list, fence{language: "indented"})
			}
			list[len(list)-1].text += code
		}
		blank = strings.TrimSpace(line) == ""
	}
	if inside {
		t.Fatalf("%s: a block is not closed", page)
	}
	return list
}

// commands are those of a page, as a reader would paste them, from top to bottom.
func commands(t *testing.T, page string) string {
	t.Helper()
	var script strings.Builder
	for _, f := range fences(t, page) {
		if f.language == "sh" {
			script.WriteString(f.text)
		}
	}
	return script.String()
}

// pagesWithTests have tests of their own, because they need more than an empty folder.
var pagesWithTests = map[string]string{
	"README.md":                             "TestReadme",
	"docs/tutorial.md":                      "TestTutorial",
	"docs/migration-from-message-broker.md": "TestMigrationPage",
	"docs/operations/monitoring.md":         "TestMonitoringWalk",
	"docs/operations/mysql.md":              "TestMySQLPage",
	"docs/operations/services.md":           "TestServicesPage",
}

// TestCommandsOfThePages runs the commands of each page of docs, from top to bottom in
// one empty folder, as a reader would paste them. All have to succeed.
func TestCommandsOfThePages(t *testing.T) {
	if testing.Short() || runtime.GOOS != "linux" {
		t.Skip("it needs a shell and runs for several seconds")
	}
	for _, page := range pages(t) {
		script := commands(t, page)
		if script == "" || pagesWithTests[page] != "" {
			continue
		}
		t.Run(strings.TrimSuffix(filepath.Base(page), ".md"), func(t *testing.T) {
			t.Parallel()
			for _, needed := range []string{"curl", "node", "openssl", "python3", "socat", "redis-server"} {
				if strings.Contains(script, needed+" ") {
					tool(t, needed, "")
				}
			}
			out, err := paste(t, "set -exo pipefail\n"+endJobs+script)
			if err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// patient replaces the pauses of the pages by waiting for the node, because a busy machine may
// need longer. A proxy is waited for if there is one: it asks for the main server's key when it
// has started.
var patient = strings.NewReplacer(
	"sleep 1\n", "until sealmq stats >/dev/null 2>&1; do sleep 0.05; done\n"+
		`while curl -sk "https://$SEALMQ_PROXY_ADDR/health" | grep '"status":"unhealthy"' >/dev/null; do sleep 0.05; done`+"\n",
	// A short measurement is enough here.
	"--duration 3s", "--duration 200ms")

// receiveIdle is a command that ends when nothing comes for a while.
var receiveIdle = regexp.MustCompile(`(?m)^sealmq receive (\S+) .*--idle 2s$`)

// untilEmpty repeats such commands while their queue has messages: on a busy machine nothing may
// come for a while although there is more.
func untilEmpty(commands string) string {
	return receiveIdle.ReplaceAllString(commands, `$0; until sealmq queue show $1 --json | grep '"ready":0,"delayed":0,"unacked":0,' >/dev/null; do $0; done`)
}

// endJobs makes a shell end its jobs with it. One may end by itself just then.
const endJobs = "trap 'jobs -p | xargs -r kill || true; wait' EXIT\n"

// paste runs commands in a shell, in an empty folder on a disk.
func paste(t *testing.T, commands string) (output []byte, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), scriptTimeout)
	defer cancel()
	source, err := filepath.Abs(repository)
	if err != nil {
		t.Fatal(err)
	}
	env := append(os.Environ(), "PATH="+filepath.Dir(program.Path(t))+string(os.PathListSeparator)+os.Getenv("PATH"), "SOURCE="+source,
		"XDG_CONFIG_HOME="+t.TempDir(), "SEALMQ_METRICS_ADDR=off", "SEALMQ_WORKER_ADDR=off")
	// The usual ports may be taken on the machine of a test.
	ports := []string{":5671", portOf(freeAddr(t)), ":5670", portOf(freeAddr(t)), "6390", portOf(freeAddr(t))[1:]}
	for port, role := range map[string]string{"5672": "SERVER", "8000": "MAIN", "8001": "PROXY", "8080": "PORTAL"} {
		addr := freeAddr(t)
		env = append(env, "SEALMQ_"+role+"_ADDR="+addr)
		ports = append(ports, "localhost:"+port, "localhost"+portOf(addr))
	}
	shell := exec.CommandContext(ctx, "bash", "-c", patient.Replace(untilEmpty(strings.NewReplacer(ports...).Replace(commands))))
	shell.WaitDelay = time.Second // a broker that is left would keep the output open
	shell.Dir = diskFolder(t)
	shell.Env = env
	return shell.CombinedOutput()
}

func portOf(addr string) string { return addr[strings.LastIndexByte(addr, ':'):] }

// excused are commands on the pages that no test runs as they stand, and why. A block is named
// by how its first line begins.
var excused = []struct{ page, begins, why string }{
	{"README.md", "make demo", "continuous integration runs all tests, and one of them sealmq demo"},
	{"README.md", "make build", "the test has built the program, in the way of this target"},
	{"docs/tutorial.md", "make build", "the test has built the program, in the way of this target"},
	{"docs/key-directory.md", "sealmq key directory", "it is the form of a checkpoint"},
	{"docs/performance.md", "sealmq bench", "they measure for minutes; the script bench.txt has shorter runs"},
	{"docs/operations/services.md", "powershell ", "Windows has the shell; TestWindows runs the commands that the script calls"},
	{"docs/operations/services.md", "schtasks ", "Windows has the Task Scheduler"},
	{"docs/operations/services.md", "$program = New-ScheduledTaskAction ", "Windows has the Task Scheduler"},
}

// TestCommandsOfThePagesAreRun: every command that a reader would paste is in a block that a
// test runs, or excused says why not. All commands of ours exist, with their flags.
func TestCommandsOfThePagesAreRun(t *testing.T) {
	command := regexp.MustCompile(`(?m)^\s*(\$ |([A-Z_]+=\S+ )*(sealmq|make|openssl|curl|cp|mv|rm|tar|kill|echo|printf|cat|chmod|mkdir|sudo|apt|python3|node|redis-cli|redis-server|mariadb|mysql|systemctl|prometheus|promtool|powershell|schtasks|docker|kubectl|go (run|test|get|install)) )`)
	used := make([]bool, len(excused))
	isExcused := func(page, text string) bool {
		for i, e := range excused {
			if e.page == page && strings.HasPrefix(strings.TrimSpace(text), e.begins) {
				used[i] = true
				return true
			}
		}
		return false
	}
	ours := regexp.MustCompile(`(?m)^\s*(?:[A-Z_]+=\S+ )*sealmq ([^\n|&;<>#]+)`)
	root := newRootCmd()
	for _, page := range pages(t) {
		for _, f := range fences(t, page) {
			if !isExcused(page, f.text) && f.language != "sh" && command.MatchString(f.text) {
				t.Errorf("%s: commands in a block that no test runs; write ```sh, or give a reason in excused\n%s", page, f.text)
			}
			for _, m := range ours.FindAllStringSubmatch(f.text, -1) {
				if err := understood(root, strings.Fields(m[1])); err != nil {
					t.Errorf("%s: sealmq %s: %v", page, m[1], err)
				}
			}
		}
	}
	for i, e := range excused {
		if !used[i] {
			t.Errorf("excused has a block that is on no page: %v", e)
		}
	}
}

// TestYAMLOfThePages: every piece of a configuration on a page can be one.
func TestYAMLOfThePages(t *testing.T) {
	for _, page := range pages(t) {
		for _, f := range fences(t, page) {
			if f.language != "yaml" || f.text == configExample {
				continue
			}
			file := filepath.Join(t.TempDir(), "sealmq.yaml")
			write(t, file, f.text)
			root := newRootCmd()
			root.SetOut(io.Discard)
			root.SetArgs([]string{"config", "check", "--config", file})
			if err := root.Execute(); err != nil {
				t.Errorf("%s: %v\n%s", page, err, f.text)
			}
		}
	}
}
