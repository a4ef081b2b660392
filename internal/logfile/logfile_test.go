package logfile_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sealmq/sealmq/internal/logfile"
)

// world is a log folder and its clock.
type world struct {
	*testing.T
	dir string
	now time.Time
}

func newWorld(t *testing.T) *world {
	if os.Getenv(writerEnv) != "" {
		write()
	}
	return &world{t, t.TempDir(), time.Date(2026, 3, 1, 23, 50, 0, 0, time.Local)}
}

func (w *world) open(keep int) *logfile.File {
	return logfile.New(filepath.Join(w.dir, "logs", "broker.log"), keep, func() time.Time { return w.now })
}

// line writes a line at the clock's time, which the file gets too.
func (w *world) line(f *logfile.File, text string) {
	w.Helper()
	if n, err := f.Write([]byte(text + "\n")); err != nil || n != len(text)+1 {
		w.Fatalf("write %q: %d, %v", text, n, err)
	}
	w.touch("broker.log")
}

func (w *world) touch(name string) {
	w.Helper()
	if err := os.Chtimes(filepath.Join(w.dir, "logs", name), w.now, w.now); err != nil {
		w.Fatal(err)
	}
}

// want compares the files of the folder, each as "NAME: its lines".
func (w *world) want(want ...string) {
	w.Helper()
	entries, err := os.ReadDir(filepath.Join(w.dir, "logs"))
	if err != nil {
		w.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(w.dir, "logs", e.Name()))
		if err != nil {
			w.Fatal(err)
		}
		if !strings.HasSuffix(e.Name(), ".lock") {
			got = append(got, e.Name()+": "+strings.Join(strings.Fields(string(b)), " "))
		}
		if info, err := e.Info(); err == nil && info.Mode().Perm() != 0o600 && runtime.GOOS != "windows" {
			w.Errorf("%s has mode %v", e.Name(), info.Mode())
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		w.Errorf("files (-want +got):\n%s", diff)
	}
}

// TestDays: a file is put aside with the first line of another day, also one that an earlier process
// left, and old ones are removed. Nothing else in the folder is touched.
func TestDays(t *testing.T) {
	w := newWorld(t)
	f := w.open(2)
	w.line(f, "a")
	w.now = w.now.Add(9 * time.Minute)
	w.line(f, "b")
	w.now = w.now.Add(2 * time.Minute)
	w.line(f, "c")
	w.want("broker.log: c", "broker.log.2026-03-01: a b")
	w.now = w.now.AddDate(0, 0, 1)
	w.line(w.open(2), "d") // a restart
	w.now = w.now.AddDate(0, 0, 1)
	for _, name := range []string{"broker.log.old", "proxy.log.2026-01-01", "broker.log.2026-01-01.gz"} {
		if err := os.WriteFile(filepath.Join(w.dir, "logs", name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	w.line(f, "e")
	w.want("broker.log: e", "broker.log.2026-01-01.gz: ", "broker.log.2026-03-02: c", "broker.log.2026-03-03: d", "broker.log.old: ", "proxy.log.2026-01-01: ")
	w.now = w.now.AddDate(0, 0, -1) // the clock is set back, and forward again
	w.line(f, "f")
	w.now = w.now.AddDate(0, 0, 1)
	w.line(f, "g")
	w.want("broker.log: g", "broker.log.2026-01-01.gz: ", "broker.log.2026-03-02: c", "broker.log.2026-03-03: d", "broker.log.2026-03-03.2: f", "broker.log.2026-03-04: e",
		"broker.log.old: ", "proxy.log.2026-01-01: ")
}

// TestTwoWritersAtMidnight: the first of them puts the file aside, and the other goes on in the new
// one. A line that is written while the day turns does not hold it back.
func TestTwoWritersAtMidnight(t *testing.T) {
	w := newWorld(t)
	f, g := w.open(7), w.open(7)
	w.line(f, "f1")
	w.line(g, "g1")
	w.now = w.now.Add(time.Hour)
	w.line(f, "f2")
	w.line(g, "g2")
	w.want("broker.log: f2 g2", "broker.log.2026-03-01: f1 g1")
	yesterday := w.now
	w.now = w.now.AddDate(0, 0, 1)
	w.touch("broker.log") // by a write that began before midnight
	w.line(g, "g3")
	w.line(f, "f3")
	w.want("broker.log: g3 f3", "broker.log.2026-03-01: f1 g1", "broker.log."+yesterday.Format(time.DateOnly)+": f2 g2")
}

// TestFolderThatCannotBeWritten: the error says why, and the file goes on as soon as it can.
func TestFolderThatCannotBeWritten(t *testing.T) {
	w := newWorld(t)
	f := w.open(7)
	blocked := filepath.Join(w.dir, "logs")
	if err := os.WriteFile(blocked, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte("lost\n")); err == nil {
		t.Fatal("a line was written below a file")
	}
	if err := os.Remove(blocked); err != nil {
		t.Fatal(err)
	}
	w.line(f, "a")
	if err := os.RemoveAll(blocked); err != nil {
		t.Fatal(err)
	}
	w.line(f, "b")
	w.want("broker.log: b")
	// What was there cannot be put aside: its line is written all the same.
	lock := filepath.Join(w.dir, "logs", ".broker.log.lock")
	if err := os.Mkdir(lock, 0o700); err != nil {
		t.Fatal(err)
	}
	w.now = w.now.AddDate(0, 0, 1)
	if n, err := f.Write([]byte("c\n")); n != 2 || err == nil {
		t.Fatalf("write beside a lock that is a folder: %d, %v", n, err)
	}
	w.touch("broker.log")
	if err := os.Remove(lock); err != nil {
		t.Fatal(err)
	}
	w.line(f, "d")
	w.want("broker.log: d", "broker.log.2026-03-01: b c")
}

// writerEnv makes the test binary a writer.
const writerEnv = "SEALMQ_TEST_LOGFILE"

const writerLines = 2000

// write writes lines of a process into a file whose days are 20 ms long.
func write() {
	began := time.Now()
	f := logfile.New(os.Getenv(writerEnv), 1000, func() time.Time {
		return began.AddDate(0, 0, int(time.Now().UnixMilli()/20%500))
	})
	for i := range writerLines {
		if n, err := fmt.Fprintf(f, "%d-%d\n", os.Getpid(), i); err != nil {
			fmt.Println(n, err)
			os.Exit(1)
		}
	}
	os.Exit(0)
}

// TestProcesses: several processes write one file over many days, and no line is lost or torn.
func TestProcesses(t *testing.T) {
	w := newWorld(t)
	path := filepath.Join(w.dir, "broker.log")
	var cmds []*exec.Cmd
	for range 3 {
		cmd := exec.Command(os.Args[0], "-test.run", "^TestProcesses$")
		cmd.Env = append(os.Environ(), writerEnv+"="+path)
		cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		cmds = append(cmds, cmd)
	}
	var want []string
	for _, cmd := range cmds {
		if err := cmd.Wait(); err != nil {
			t.Fatal(err)
		}
		for i := range writerLines {
			want = append(want, fmt.Sprintf("%d-%d", cmd.Process.Pid, i))
		}
	}
	files, err := filepath.Glob(path + "*")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, name := range files {
		file, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		for s := bufio.NewScanner(file); s.Scan(); {
			got = append(got, s.Text())
		}
		file.Close()
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
	if len(files) < 3 {
		t.Errorf("only %d files were written", len(files))
	}
}
