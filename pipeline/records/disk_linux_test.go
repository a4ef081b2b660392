package records_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/pipeline"
	"github.com/sealmq/sealmq/pipeline/records"
)

// childFolder is set in the process whose disk fails.
const childFolder = "SEALMQ_TEST_RECORDS"

// A sync that fails, of the log at a commit or of the file at a checkpoint, is never tried
// again: nothing is written any more, the program is told to end, and the next start has every
// message that was answered. The disk fails by strace in a process of its own.
func TestFailedSync(t *testing.T) {
	if dir := os.Getenv(childFolder); dir != "" {
		onFailingDisk(t, dir)
		return
	}
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("there is no strace")
	}
	for name, suffix := range map[string]string{"of the log": "-wal", "of the file": ""} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "records.db")
			child := exec.CommandContext(ctx(t), os.Args[0], "-test.run=^TestFailedSync$", "-test.count=1")
			child.Env = append(os.Environ(), childFolder+"="+dir)
			in, err := child.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			out, err := child.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := child.Start(); err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewScanner(out)
			if !lines.Scan() || lines.Text() != "ready" {
				t.Fatalf("the child said %q", lines.Text())
			}
			fault := exec.CommandContext(ctx(t), strace, "-f", "-p", strconv.Itoa(child.Process.Pid), "-P", path+suffix, "-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:error=EIO")
			said, err := fault.StderrPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := fault.Start(); err != nil {
				t.Fatal(err)
			}
			attached := bufio.NewScanner(said)
			for attached.Scan() && !strings.Contains(attached.Text(), "attached") {
				if strings.Contains(attached.Text(), "not permitted") {
					in.Close()
					t.Skip("strace may not attach here")
				}
			}
			go func() {
				for attached.Scan() { // so that it does not block
					continue
				}
			}()
			fmt.Fprintln(in)
			confirmed := -1
			for lines.Scan() {
				if rest, ok := strings.CutPrefix(lines.Text(), "confirmed "); ok {
					if confirmed, err = strconv.Atoi(rest); err != nil {
						t.Fatal(err)
					}
					if err := fault.Process.Signal(os.Interrupt); err != nil {
						t.Error(err)
					}
					_ = fault.Wait() // it says that it was interrupted
					fmt.Fprintln(in)
				} else if strings.Contains(lines.Text(), "FAIL") || strings.Contains(lines.Text(), ".go:") {
					t.Error(lines.Text())
				}
			}
			if err := child.Wait(); err != nil || confirmed < 0 {
				t.Fatalf("the child ended with %v, %d confirmed", err, confirmed)
			}
			if info, err := os.Stat(path + "-wal"); err != nil || info.Size() == 0 {
				t.Errorf("the log is gone: %v", err)
			}
			e := &env{t: t, url: "sqlite:" + path, keys: ring(t, 1, 1), hash: hasher(t)}
			s := e.open(func(c *records.Config) { c.Clock = nil })
			if n, _, err := s.Count(ctx(t), records.Filter{}); err != nil || n < int64(confirmed) {
				t.Errorf("%d messages of %d that were confirmed, %v", n, confirmed, err)
			}
		})
	}
}

// onFailingDisk stores until the disk fails, which it must notice.
func onFailingDisk(t *testing.T, dir string) {
	e := &env{t: t, url: "sqlite:" + filepath.Join(dir, "records.db"), keys: ring(t, 1, 1), hash: hasher(t)}
	s := e.open(func(c *records.Config) { c.Clock = nil })
	r, err := s.Register(ctx(t), messages(0, 1))
	want(t, r, err, pipeline.StatusRegistered)
	parent := bufio.NewReader(os.Stdin)
	fmt.Println("ready")
	parent.ReadString('\n')
	confirmed := 1
	for i := 1; i < 20; i++ { // more than the log holds before a checkpoint
		list := messages(i*10, 10)
		for j := range list {
			list[j].Body = strings.Repeat("x", records.MaxBody)
		}
		if _, err = s.Register(ctx(t), list); err != nil {
			break
		}
		confirmed += len(list)
	}
	select {
	case <-s.Failed():
	default:
		t.Errorf("after %d messages nothing has failed, the last error is %v", confirmed, err)
	}
	if _, err := s.Register(ctx(t), messages(1000, 1)); sealmq.CodeOf(err) != sealmq.Unavailable {
		t.Errorf("after the failure: %v", err)
	}
	if s.Failure() != nil {
		t.Log(s.Failure())
	}
	fmt.Println("confirmed", confirmed)
	parent.ReadString('\n') // until the disk is in order again
	s.Close()
}
