package main

import (
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"text/template"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sealmq/sealmq/internal/brokerproc"
	"github.com/sealmq/sealmq/internal/testing/program"
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
		c := serviceConfig(wanted, "/etc/sealmq/sealmq.yaml", "/var/lib/sealmq/data", "/var/lib/sealmq", serviceUser)
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

// TestServicesPage installs the service as docs/operations/services.md says, in a root of its own
// where systemd does not run, and starts what it would start, as the user of the service.
func TestServicesPage(t *testing.T) {
	if testing.Short() || runtime.GOOS != "linux" || os.Geteuid() != 0 {
		t.Skip("it needs root on Linux, and builds the program")
	}
	for _, name := range []string{"unshare", "useradd", "setpriv", "systemctl"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skip(err)
		}
	}
	const notify = "@sealmq-services-page"
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: notify, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "unshare", "--mount", "--pid", "--fork", "--kill-child", "bash", "-exc", `
mkdir bin lib && cp "$PROGRAM" bin/sealmq && cp -a /etc etc
mount --bind bin /usr/local/bin && mount --bind lib /var/lib && mount --bind etc /etc && mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/system
`+commands(t, "docs/operations/services.md")+`
systemctl is-enabled sealmq
diff "$UNIT" /etc/systemd/system/sealmq.service
if sealmq service install proxy --data "/srv/100%" 2>refused; then exit 1; fi
grep "cannot name" refused
start=$(sed -n 's/^ExecStart=//p' /etc/systemd/system/sealmq.service | tr -d '"')
exec setpriv --reuid sealmq --regid sealmq --clear-groups --no-new-privs --pdeathsig KILL $start`)
	unit, err := filepath.Abs("../../deploy/systemd/sealmq.service")
	if err != nil {
		t.Fatal(err)
	}
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(), "UNIT="+unit, "PROGRAM="+program.Path(t), "PATH=/usr/local/bin:"+os.Getenv("PATH"), "SYSTEMD_OFFLINE=1", "NOTIFY_SOCKET="+notify, "SEALMQ_SERVER_ADDR=127.0.0.1:0", "SEALMQ_METRICS_ADDR=off",
		"SEALMQ_PROXY_ADDR=127.0.0.1:0", "SEALMQ_MAIN_ADDR=127.0.0.1:0", "SEALMQ_WORKER_ADDR=off", "SEALMQ_PORTAL_ADDR=127.0.0.1:0")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	ended := make(chan error, 1)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		ended <- cmd.Wait()
		socket.Close()
	}()
	b := make([]byte, 1000)
	if n, err := socket.Read(b); err != nil || string(b[:n]) != "READY=1" {
		t.Errorf("the service does not run: %q, %v, %v\n%s", b[:n], err, <-ended, &out)
		return
	}
	cancel()
	<-ended
}

// TestServiceFolders: a service may write beside a data folder that is in its user's home folder, and
// a unit names only paths that systemd reads as they are.
func TestServiceFolders(t *testing.T) {
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	for data, want := range map[string]string{
		filepath.Join(me.HomeDir, "data"):       me.HomeDir,
		me.HomeDir:                              me.HomeDir,
		filepath.Join(me.HomeDir, "mq", "data"): filepath.Join(me.HomeDir, "mq", "data"),
		"/srv/mq":                               "/srv/mq",
	} {
		if got := serviceHome(data, me.Username); got != want {
			t.Errorf("%s: %s, want %s", data, got, want)
		}
	}
	if got := serviceHome("/var/lib/sealmq/data", "no such user"); got != "/var/lib/sealmq/data" {
		t.Error(got)
	}
	for path, ok := range map[string]bool{"": true, "/var/lib/sealmq/data": true, "/srv/größe-1.2": true, "/srv/my data": false, "/srv/100%": false, `/srv/a"b`: false, `/srv/a\b`: false, "/srv/$a": false} {
		if err := checkUnitPath(path); (err == nil) != ok {
			t.Errorf("%q: %v", path, err)
		}
	}
}

// TestWindowsScripts: what the page and the scripts run in the folder is put there.
func TestWindowsScripts(t *testing.T) {
	scripts, err := filepath.Glob("../../deploy/windows/*.ps1")
	if err != nil || len(scripts) == 0 {
		t.Fatal(scripts, err)
	}
	setup := readFile(t, "../../deploy/windows/setup_windows.ps1")
	for _, script := range scripts {
		if name := filepath.Base(script); name != "setup_windows.ps1" && !strings.Contains(setup, "'"+name+"'") {
			t.Errorf("setup_windows.ps1 does not copy %s", name)
		}
	}
}

// TestServiceHints: what a service manager refuses has a way out.
func TestServiceHints(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("there is no systemd")
	}
	if err := hasServiceManager("linux-systemd"); err != nil {
		t.Error(err)
	}
	const want = "sealmq: error: services of Linux need systemd, and it does not run here\nsealmq: hint: run \"sealmq serve\" with what starts programs here, for example as the command of a container\n"
	if diff := cmp.Diff(want, printed(hasServiceManager("unix-systemv"))); diff != "" {
		t.Errorf("without systemd (-want +got):\n%s", diff)
	}
	for _, tt := range []struct {
		use             string
		root, installed bool
		want            string
	}{
		{"start", false, true, "services are administered by root"},
		{"status", false, false, `there is no service sealmq-proxy; "sealmq service install proxy" installs it`},
		{"stop", true, false, `there is no service sealmq-proxy; "sealmq service install proxy" installs it`},
		{"start", true, true, `"systemctl status sealmq-proxy" and "journalctl -u sealmq-proxy" say why`},
		{"install", true, true, "it is installed already"},
		{"install", true, false, "docs/operations/services.md"},
	} {
		if got := serviceHint("sealmq-proxy", tt.use, []string{"proxy"}, tt.root, tt.installed); !strings.HasPrefix(got, tt.want) {
			t.Errorf("%s, root %v, installed %v: %q, want %q", tt.use, tt.root, tt.installed, got, tt.want)
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
	p, err := brokerproc.Start(t.Context(), brokerproc.Config{Exe: program.Path(t), Data: filepath.Join(dir, "d"),
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
