package main

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"text/template"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sealmq/sealmq/internal/brokerproc"
)

// TestUnits compares the files in deploy/systemd with what "sealmq service install" writes, and
// has systemd judge them. -update writes the files.
func TestUnits(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("there is no systemd")
	}
	unit := template.Must(template.New("").Funcs(template.FuncMap{ // as the library has them
		"cmd":       func(s string) string { return `"` + s + `"` },
		"cmdEscape": func(s string) string { return s },
	}).Parse(serviceUnit))
	for _, wanted := range [][]string{nil, {"broker"}, {"proxy"}, {"worker"}, {"main"}, {"portal"}} {
		c := serviceConfig(wanted, "/etc/sealmq/sealmq.yaml", "/var/lib/sealmq", serviceUser)
		var b bytes.Buffer
		if err := unit.Execute(&b, map[string]any{"Description": c.Description, "Path": "/usr/local/bin/sealmq", "Arguments": c.Arguments,
			"UserName": c.UserName, "WorkingDirectory": c.WorkingDirectory}); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join("..", "..", "deploy", "systemd", c.Name+".service")
		if *update {
			if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		has, err := os.ReadFile(file)
		if diff := cmp.Diff(b.String(), string(has)); diff != "" {
			t.Errorf("%s is stale, %v; write it with -update (-code +file):\n%s", file, err, diff)
		}
		if _, err := exec.LookPath("systemd-analyze"); err != nil || testing.Short() {
			continue
		}
		// The program need not be installed to be judged.
		trial := filepath.Join(t.TempDir(), c.Name+".service")
		text := strings.ReplaceAll(string(has), "/usr/local/bin/sealmq", "/bin/true")
		if err := os.WriteFile(trial, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		for _, args := range [][]string{{"verify", trial}, {"security", "--offline=true", "--no-pager", "--threshold=20", trial}} {
			out, err := exec.Command("systemd-analyze", args...).CombinedOutput()
			lines := strings.Split(strings.TrimSpace(string(out)), "\n")
			if err != nil {
				t.Errorf("systemd-analyze %s: %v\n%s", args[0], err, out)
			} else {
				t.Log(c.Name, args[0], lines[len(lines)-1])
			}
		}
	}
}

// TestNodeTellsSystemd: systemd learns when a node is ready, that it is alive, and that it stops.
func TestNodeTellsSystemd(t *testing.T) {
	if testing.Short() || runtime.GOOS != "linux" {
		t.Skip("it builds the program and starts a broker")
	}
	dir, err := os.MkdirTemp("", "sd") // the path of a socket must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "s"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	until := func(want string) {
		t.Helper()
		b := make([]byte, 1000)
		for {
			if err := socket.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
				t.Fatal(err)
			}
			n, err := socket.Read(b)
			if err != nil {
				t.Fatalf("%s never came: %v", want, err)
			}
			if string(b[:n]) == want {
				return
			}
		}
	}
	p, err := brokerproc.Start(t.Context(), brokerproc.Config{Exe: builtBinary(t), Data: filepath.Join(dir, "d"),
		Env: []string{"NOTIFY_SOCKET=" + filepath.Join(dir, "s"), "WATCHDOG_USEC=300000"}})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Kill()
	until("READY=1")
	until("WATCHDOG=1")
	until("WATCHDOG=1")
	if err := p.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	until("STOPPING=1")
}
