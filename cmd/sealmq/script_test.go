package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/sealmq/sealmq/cmd/sealmq/internal/bench"
	"github.com/sealmq/sealmq/internal/brokerproc"
	"github.com/sealmq/sealmq/internal/testing/program"
	"github.com/sealmq/sealmq/internal/testing/server"
)

func TestMain(m *testing.M) {
	// Variables of the user would change what the scripts see.
	for _, kv := range os.Environ() {
		if name, _, _ := strings.Cut(kv, "="); strings.HasPrefix(name, "SEALMQ_") {
			os.Unsetenv(name)
		}
	}
	code := m.Run()
	program.Remove()
	os.Exit(code)
}

// TestScripts drives the built program as a person would. Beside the usual commands the
// scripts have those of scriptCommands.
func TestScripts(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds the program and starts brokers")
	}
	exe := program.Path(t)
	dir := filepath.Join("testdata", "script")
	refuseStop(t, dir)
	testscript.Run(t, testscript.Params{
		Dir:                 dir,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Deadline:            time.Now().Add(scriptTimeout),
		UpdateScripts:       os.Getenv("UPDATE_SCRIPTS") != "",
		Setup: func(e *testscript.Env) error {
			e.Setenv("PATH", filepath.Dir(exe)+string(os.PathListSeparator)+e.Getenv("PATH"))
			e.Setenv("TMPDIR", e.WorkDir)
			e.Values[brokersKey{}] = make(map[string]*brokerproc.Process)
			return nil
		},
		Cmds: scriptCommands,
		Condition: func(cond string) (bool, error) {
			switch cond {
			case "root":
				return os.Geteuid() == 0, nil
			case "memory":
				_, inMemory, err := bench.FileSystem(os.TempDir())
				return inMemory, err
			case "shm":
				name, _, err := bench.FileSystem("/dev/shm")
				return err == nil && name == "tmpfs", nil
			}
			return false, errors.New("unknown condition")
		},
	})
}

var stopLine = regexp.MustCompile(`(?m)^\s*stop\b.*`)

// refuseStop finds scripts that end early, whatever the system. The usual command "stop" ends a
// script as passed, and is easily taken for "interrupt".
func refuseStop(t *testing.T, dir string) {
	t.Helper()
	scripts, err := filepath.Glob(filepath.Join(dir, "*.txt"))
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no scripts in %s: %v", dir, err)
	}
	for _, name := range scripts {
		if line := stopLine.FindString(readFile(t, name)); line != "" {
			t.Errorf("%s: %q ends the script as passed; \"interrupt\" ends a node", name, line)
		}
	}
}

// scriptTimeout ends a script whose program should have ended by itself.
const scriptTimeout = 8 * time.Minute

type brokersKey struct{}

// scriptCommands are what scripts can do beyond running the program.
var scriptCommands = map[string]func(ts *testscript.TestScript, neg bool, args []string){
	// serve NAME DATA [role…] [flag…] starts a node, by default a broker, on free ports, waits
	// until it accepts clients, and sets $NAME_ADDR, $NAME_METRICS, $NAME_PROXY and $NAME_MAIN.
	// With NAME=ADDR in place of NAME the broker listens there. If the node has all that its proxy
	// needs, the proxy takes messages.
	"serve": func(ts *testscript.TestScript, neg bool, args []string) {
		if neg || len(args) < 2 {
			ts.Fatalf("usage: serve NAME[=ADDR] DATA [role...] [flag...]")
		}
		name, addr, given := strings.Cut(args[0], "=")
		if !given { // the system may hand out a port of its own again while the broker is down
			port, err := server.Port()
			ts.Check(err)
			addr = fmt.Sprint("127.0.0.1:", port)
		}
		exe, err := program.Build()
		ts.Check(err)
		log, err := os.OpenFile(ts.MkAbs(name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		ts.Check(err)
		flags := slices.IndexFunc(args, func(a string) bool { return strings.HasPrefix(a, "-") })
		if flags < 0 {
			flags = len(args)
		}
		p, err := brokerproc.Start(context.Background(), brokerproc.Config{
			Exe: exe, Data: ts.MkAbs(args[1]), Roles: args[2:flags], Addr: addr, Args: args[flags:], Log: log,
		})
		ts.Check(err)
		ts.Defer(func() {
			p.Kill()
			log.Close()
		})
		ts.Value(brokersKey{}).(map[string]*brokerproc.Process)[name] = p
		ts.Setenv(name+"_ADDR", p.Addr)
		ts.Setenv(name+"_METRICS", p.MetricsAddr)
		ts.Setenv(name+"_PROXY", p.ProxyAddr)
		ts.Setenv(name+"_MAIN", p.MainAddr)
		if p.Addr != "" && p.MainAddr != "" && p.ProxyAddr != "" {
			untilProxyIsUp(ts, p.ProxyAddr)
		}
	},
	// logged NAME REGEXP waits until the log of a node has a match. A line may come after what it
	// tells of.
	"logged": func(ts *testscript.TestScript, neg bool, args []string) {
		if neg || len(args) != 2 {
			ts.Fatalf("usage: logged NAME REGEXP")
		}
		line, err := regexp.Compile("(?m)" + args[1])
		ts.Check(err)
		for until := time.Now().Add(time.Minute); !line.MatchString(ts.ReadFile(args[0] + ".log")); <-time.After(lookEvery) {
			if time.Now().After(until) {
				ts.Fatalf("no match for %q in the log of %s:\n%s", args[1], args[0], ts.ReadFile(args[0]+".log"))
			}
		}
	},
	// interrupt NAME ends a broker as Ctrl-C does and expects success.
	"interrupt": func(ts *testscript.TestScript, neg bool, args []string) {
		ts.Check(scriptBroker(ts, args).Stop(context.Background()))
	},
	// crash NAME ends a broker by force.
	"crash": func(ts *testscript.TestScript, neg bool, args []string) {
		scriptBroker(ts, args).Kill()
	},
	// occupy VARIABLE listens on a free port until the script ends.
	"occupy": func(ts *testscript.TestScript, neg bool, args []string) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		ts.Check(err)
		ts.Defer(func() { l.Close() })
		ts.Setenv(args[0], l.Addr().String())
	},
	// acknowledged QUEUE N waits until N messages of a queue have been acknowledged.
	"acknowledged": acknowledged,
	// nobody COMMAND… runs the program as a user that owns nothing, and expects it to
	// fail with the error in the file named first: nobody FILE argument…
	"nobody": asNobody,
}

// untilProxyIsUp waits until a proxy has the main server's keys, which it asks for when it has
// started.
func untilProxyIsUp(ts *testscript.TestScript, addr string) {
	c := http.Client{Timeout: time.Minute, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	defer c.CloseIdleConnections()
	for until := time.Now().Add(time.Minute); ; <-time.After(lookEvery) {
		resp, err := c.Get("https://" + addr + "/health")
		ts.Check(err)
		resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			return
		}
		if time.Now().After(until) {
			ts.Fatalf("the proxy takes no messages: %s", resp.Status)
		}
	}
}

func acknowledged(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: acknowledged QUEUE N")
	}
	for until := time.Now().Add(scriptTimeout); time.Now().Before(until); {
		if err := ts.Exec("sealmq", "queue", "show", args[0], "--json"); err == nil && strings.Contains(ts.ReadFile("stdout"), `"acked":`+args[1]+`,`) {
			return
		}
	}
	ts.Fatalf("%s messages of %s were not acknowledged", args[1], args[0])
}

func scriptBroker(ts *testscript.TestScript, args []string) *brokerproc.Process {
	if len(args) != 1 {
		ts.Fatalf("one broker must be named")
	}
	p := ts.Value(brokersKey{}).(map[string]*brokerproc.Process)[args[0]]
	if p == nil {
		ts.Fatalf("no broker is named %s", args[0])
	}
	return p
}
