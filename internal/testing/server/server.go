// Package server runs the servers of others for a test: programs that listen on loopback, and
// that are gone with the test's process.
package server

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/user"
	"runtime"
	"sync"
	"testing"
	"time"
)

// RequireEnv is the environment variable that makes a missing program a failure: continuous
// integration sets it to 1.
const RequireEnv = "REQUIRE_SERVERS"

// Required reports whether a missing program is a failure.
func Required() bool { return os.Getenv(RequireEnv) == "1" }

// ErrNotInstalled says that a program that a test needs is not on this machine. Errors that
// wrap it name the program.
var ErrNotInstalled = errors.New("not installed")

// Require returns what start makes. It skips the test if a program is not installed, unless
// that is a failure.
func Require[S any](t testing.TB, start func() (S, error)) S {
	t.Helper()
	s, err := start()
	if errors.Is(err, ErrNotInstalled) && !Required() {
		t.Skipf("%v; with %s=1 this is a failure", err, RequireEnv)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Program returns the path of a program, or skips the test (Require).
func Program(t testing.TB, name string) string {
	t.Helper()
	return Require(t, func() (string, error) {
		path, err := exec.LookPath(name)
		if err != nil {
			err = fmt.Errorf("%s: %w", name, ErrNotInstalled)
		}
		return path, err
	})
}

// Ports come in blocks. A process has a block while it listens on its first port, so that
// processes side by side never hand out the same one.
const (
	firstPort = 20_000
	blocks    = 120
	blockSize = 100
)

var ports struct {
	sync.Mutex
	held []net.Listener // for as long as the process lives
	next int            // a multiple of blockSize if another block is needed
}

// Port is a port of loopback that nobody listens on, and that no test was given. It is none of
// those that systems hand out, so that it stays free while its server is dead.
func Port() (int, error) {
	ports.Lock()
	defer ports.Unlock()
	for {
		if ports.next%blockSize == 0 {
			if err := takeBlock(); err != nil {
				return 0, err
			}
		}
		port := ports.next
		ports.next++
		if l, err := listen(port); err == nil {
			return port, l.Close()
		}
	}
}

// takeBlock takes a block that no process has.
func takeBlock() error {
	for _, n := range rand.Perm(blocks) {
		first := firstPort + n*blockSize
		if l, err := listen(first); err == nil {
			ports.held, ports.next = append(ports.held, l), first+1
			return nil
		}
	}
	return errors.New("no port is free")
}

func listen(port int) (net.Listener, error) { return net.Listen("tcp", fmt.Sprint("127.0.0.1:", port)) }

// Process is a server that runs.
type Process struct {
	cmd   *exec.Cmd
	ended chan struct{}
}

// Start starts a program, as owner if there is one, and waits until ping succeeds. The program
// writes its log to the file log, whose end is in the error if it never answers; it runs on
// then if the Process is not nil.
func Start(cmd *exec.Cmd, owner *user.User, log string, patience time.Duration, ping func(context.Context) error) (*Process, error) {
	p := &Process{cmd: cmd, ended: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		// For the kernel the parent is the thread that started the server, so this
		// thread must live as long as the server.
		runtime.LockOSThread()
		err := start(cmd, owner)
		started <- err
		if err == nil {
			cmd.Wait() //nolint:errcheck // how it ended is not interesting
		}
		close(p.ended)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for ping(ctx) != nil {
		select {
		case <-tick.C:
		case <-p.ended:
			return p, fmt.Errorf("%s ended: %s", cmd.Args[0], tail(log))
		case <-ctx.Done():
			return p, fmt.Errorf("%s does not answer: %s", cmd.Args[0], tail(log))
		}
	}
	return p, nil
}

func tail(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-2000):])
}

// Kill ends the server at once, as a crash would. It has no effect on one that has ended, nor
// on nil.
func (p *Process) Kill() {
	if p != nil {
		p.cmd.Process.Kill() //nolint:errcheck // it may be gone
		<-p.ended
	}
}
