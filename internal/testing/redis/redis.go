// Package redis runs a private Redis server for a test: in a temporary folder, on loopback,
// with a password, with every write synced, and gone with the test's process.
package redis

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
)

// RequireEnv is the environment variable that makes a missing server a failure: continuous
// integration sets it to 1.
const RequireEnv = "REQUIRE_SERVERS"

// ErrNotInstalled says that there is no Redis on this machine.
var ErrNotInstalled = errors.New("redis-server is not installed")

// startTimeout is how long a server may take until it answers.
const startTimeout = time.Minute

// Server is a private server, or a Sentinel.
type Server struct {
	dir      string
	port     int
	password string
	args     []string

	mu    sync.Mutex
	cmd   *exec.Cmd
	ended chan struct{}
}

// Require returns a server from start, which tests share. It skips the test if Redis is not
// installed, unless RequireEnv is set.
func Require(t testing.TB, start func() (*Server, error)) *Server {
	t.Helper()
	s, err := start()
	if errors.Is(err, ErrNotInstalled) && os.Getenv(RequireEnv) != "1" {
		t.Skipf("%v; with %s=1 this is a failure", err, RequireEnv)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Run is Require for a server of one test's own.
func Run(t testing.TB, args ...string) *Server {
	t.Helper()
	s := Require(t, func() (*Server, error) { return Start(args...) })
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// Start makes a server and waits until it answers. args are further settings, as on the command
// line of redis-server. The caller must Close it.
func Start(args ...string) (*Server, error) { return startWith(rand.Text(), args) }

// StartReplica makes a replica of a server, with the same password.
func StartReplica(master *Server) (*Server, error) {
	return startWith(master.password, []string{"--replicaof", "127.0.0.1 " + strconv.Itoa(master.port)})
}

func startWith(password string, args []string) (*Server, error) {
	s, err := prepare()
	if err != nil {
		return nil, err
	}
	s.password = password
	s.args = append([]string{"--requirepass", s.password, "--masterauth", s.password, "--appendonly", "yes", "--appendfsync", "always",
		"--maxmemory-policy", "noeviction", "--save", "", "--repl-diskless-sync-delay", "0"}, args...)
	if err := s.Restart(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// StartSentinel makes a Sentinel, alone in its quorum, which watches a master under this name.
// It takes a master for dead after half a second.
func StartSentinel(name string, master *Server) (*Server, error) {
	s, err := prepare()
	if err != nil {
		return nil, err
	}
	conf := filepath.Join(s.dir, "sentinel.conf")
	text := fmt.Sprintf("sentinel monitor %[1]s 127.0.0.1 %[2]d 1\nsentinel auth-pass %[1]s %[3]s\nsentinel down-after-milliseconds %[1]s 500\nsentinel failover-timeout %[1]s 5000\n",
		name, master.port, master.password)
	if err = os.WriteFile(conf, []byte(text), 0o600); err == nil {
		s.args = []string{conf, "--sentinel"}
		err = s.Restart()
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func prepare() (*Server, error) {
	logging.Disable() // the client says on standard error what its callers say already
	if _, err := exec.LookPath("redis-server"); err != nil {
		return nil, ErrNotInstalled
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &Server{port: l.Addr().(*net.TCPAddr).Port}
	if err := l.Close(); err != nil {
		return nil, err
	}
	s.dir, err = os.MkdirTemp("", "redis")
	return s, err
}

// Restart starts the server, which must not run, with what it stored before.
func (s *Server) Restart() error {
	args := append(s.args[:len(s.args):len(s.args)], "--dir", s.dir, "--bind", "127.0.0.1", "--port", strconv.Itoa(s.port), "--logfile", filepath.Join(s.dir, "log"), "--daemonize", "no")
	cmd := exec.Command("redis-server", args...)
	started, ended := make(chan error, 1), make(chan struct{})
	go func() {
		// For the kernel the parent is the thread that started the server, so this
		// thread must live as long as the server.
		runtime.LockOSThread()
		err := start(cmd)
		started <- err
		if err == nil {
			cmd.Wait() //nolint:errcheck // how it ended is not interesting
		}
		close(ended)
	}()
	if err := <-started; err != nil {
		return err
	}
	s.mu.Lock()
	s.cmd, s.ended = cmd, ended
	s.mu.Unlock()
	c := s.Client()
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for c.Ping(ctx).Err() != nil {
		select {
		case <-tick.C:
		case <-ended:
			return fmt.Errorf("redis-server ended: %s", s.log())
		case <-ctx.Done():
			return fmt.Errorf("redis-server does not answer: %s", s.log())
		}
	}
	return nil
}

func (s *Server) log() string {
	b, err := os.ReadFile(filepath.Join(s.dir, "log"))
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-2000):])
}

// Addr is where it listens.
func (s *Server) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

// Password is what it asks for.
func (s *Server) Password() string { return s.password }

// Client is a client for raw commands, which the caller must close.
func (s *Server) Client() *redis.Client {
	return redis.NewClient(&redis.Options{Addr: s.Addr(), Password: s.password, Protocol: 2, DisableIdentity: true, MaxRetries: -1, DialerRetries: 1})
}

// Kill ends the server at once, as a crash would.
func (s *Server) Kill() {
	s.mu.Lock()
	cmd, ended := s.cmd, s.ended
	s.mu.Unlock()
	if cmd != nil && cmd.Process != nil {
		cmd.Process.Kill() //nolint:errcheck // it may be gone
		<-ended
	}
}

// Close kills the server and removes its files.
func (s *Server) Close() error {
	s.Kill()
	return os.RemoveAll(s.dir)
}
