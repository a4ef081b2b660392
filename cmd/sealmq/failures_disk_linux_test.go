package main

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/sealmq/sealmq/api/mainapi"
	"github.com/sealmq/sealmq/internal/testing/pipelineproc"
	"github.com/sealmq/sealmq/pipeline"
)

// ownMounts is set in the process that has mounts of its own.
const ownMounts = "TEST_OWN_MOUNTS"

// TestDiskFull fills the disk of the queue and that of the database, which are small file
// systems in memory. The test runs again in a process whose mounts nobody else sees, and which
// end with it.
func TestDiskFull(t *testing.T) {
	t.Parallel() // it mostly waits
	if testing.Short() {
		t.Skip("it starts many processes")
	}
	if os.Getenv(ownMounts) != "" {
		diskFull(t)
		return
	}
	again := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestDiskFull$", "-test.timeout=5m")
	again.Env = append(os.Environ(), ownMounts+"=1")
	again.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if id := os.Geteuid(); id != 0 {
		again.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		again.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: id, Size: 1}}
		again.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	out, err := again.CombinedOutput()
	if errors.Is(err, os.ErrPermission) || errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOSPC) {
		t.Skipf("this system allows no mounts of one's own: %v", err)
	}
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func diskFull(t *testing.T) {
	f := prepareFailing(t, "SEALMQ_STORAGE_SEGMENT_BYTES=2MiB", "SEALMQ_SERVER_MAX_LINE_BYTES=1MiB", "SEALMQ_STORAGE_MIN_FREE_BYTES=0", "SEALMQ_PROXY_RATE=-1")
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	queue, database := f.mount(storeFolder(f.data), "10m"), f.mount(filepath.Join(f.data, "pipeline"), "64m")
	logs := f.mount(filepath.Join(f.data, "logs"), "1m")
	f.begin()

	var keys []string
	next := func() string { return fmt.Sprint("full-", len(keys)) } // the same until it is accepted
	more := func() (accepted bool) {
		f.Helper()
		switch status := f.submitText(next(), strings.Repeat("𝄞", 1000)); status { // as many bytes as a text may have
		case http.StatusAccepted:
			keys = append(keys, next())
			return true
		case http.StatusServiceUnavailable: // also if the queue is slow
		default:
			f.Errorf("%s is answered %d", next(), status)
		}
		return false
	}
	stored := func() {
		t.Helper()
		f.until("all that was accepted is delivered", func() bool {
			c := f.queue()
			return c.Ready+c.Processing+c.Retry == 0
		})
		rows := f.rows("acme-01")
		// The queue may have what the proxy could not say of.
		if slices.ContainsFunc(rows, func(m mainapi.Message) bool { return m.ClientKey == next() }) {
			keys = append(keys, next())
		}
		if len(rows) != len(keys) {
			t.Errorf("%d were accepted, and there are %d rows", len(keys), len(rows))
		}
		for _, m := range rows {
			if m.Status != pipeline.Delivered {
				t.Errorf("%s is %s", m.ClientKey, m.Status)
			}
		}
	}

	// The disk of the queue. What is there can be delivered and settled.
	f.Kill(pipelineproc.Worker)
	room := queue.fill(t)
	for refused := 0; refused < 3; refused++ { // a slow queue accepts the next try
		for more() { // there is room in the segments that are there
			refused = 0
			if len(keys) == 50_000 {
				t.Fatal("the queue is never full")
			}
		}
	}
	f.start(pipelineproc.Worker)
	stored()
	room()
	f.until("there is room again", more)
	stored()

	// The disk of the database.
	room = database.fill(t)
	f.until("the database is full", func() bool {
		f.until("a message is accepted while the database is full", more)
		return f.health(pipelineproc.Main) == "unhealthy"
	})
	room()
	stored()
	f.until("the main server is healthy again", func() bool { return f.health(pipelineproc.Main) == "healthy" })

	// The disk of the logs.
	room = logs.fill(t)
	f.run("log", "level", "debug") // so that there is something to write
	for _, role := range []string{pipelineproc.Main, pipelineproc.Proxy} {
		f.until("the "+role+" says that it cannot write its log", func() bool { return f.health(role) == "degraded" })
		if f.logged(role, "a log file cannot be kept") == 0 {
			t.Errorf("the console of the %s does not say so", role)
		}
	}
	f.until("a message is accepted while the disk of the logs is full", more)
	stored()
	room()
	for _, role := range []string{pipelineproc.Main, pipelineproc.Proxy} {
		f.until("the "+role+" is healthy again", func() bool { return f.health(role) == "healthy" })
	}
}

// disk is a small file system in memory.
type disk string

func (f *failing) mount(dir, size string) disk {
	f.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		f.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "mode=700,size="+size); err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	return disk(dir)
}

// fill takes all room, and returns a function that gives it back.
func (d disk) fill(t *testing.T) (free func()) {
	t.Helper()
	name := filepath.Join(string(d), "filled")
	file, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for block := make([]byte, 4096); err == nil; {
		_, err = file.Write(block)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	return func() {
		if err := os.Remove(name); err != nil {
			t.Error(err)
		}
	}
}
