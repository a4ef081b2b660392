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
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"

	"github.com/sealmq/sealmq/internal/testing/server"
)

// startTimeout is how long a server may take until it answers.
const startTimeout = time.Minute

// Server is a private server, or a Sentinel.
type Server struct {
	dir      string
	port     int
	password string
	args     []string

	mu      sync.Mutex
	process *server.Process
}

// Require returns a server of start, which tests may share, or skips the test (server.Require).
func Require(t testing.TB, start func() (*Server, error)) *Server {
	t.Helper()
	return server.Require(t, start)
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
	text := fmt.Sprintf("sentinel monitor %[1]s 127.0.0.1 %[2]d 1\nsentinel auth-pass %[1]s %[3]s\nsentinel down-after-milliseconds %[1]s 2000\nsentinel failover-timeout %[1]s 5000\n",
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
		return nil, fmt.Errorf("redis-server: %w", server.ErrNotInstalled)
	}
	port, err := server.Port()
	if err != nil {
		return nil, err
	}
	s := &Server{port: port}
	s.dir, err = os.MkdirTemp("", "redis")
	return s, err
}

// Restart starts the server, which must not run, with what it stored before. As a service does, it
// tries again: killed while it rewrites its log, Redis 7.0 may cut off the torn end of one that is
// not the last, give up because of that, cut off the transaction whose end that was, give up again,
// and start the next time.
func (s *Server) Restart() error {
	for try := 1; ; try++ {
		err := s.restart()
		if err == nil || try == 3 || !strings.Contains(err.Error(), "the truncated file is not the last file") {
			return err
		}
	}
}

// Log is the server's append-only file that it writes to now. It is for Redis 7.
func (s *Server) Log() (string, error) {
	list, err := filepath.Glob(filepath.Join(s.dir, "appendonlydir", "*.incr.aof"))
	if err != nil || len(list) != 1 {
		return "", fmt.Errorf("the append-only files are %q: %v", list, err)
	}
	return list[0], nil
}

func (s *Server) restart() error {
	log := filepath.Join(s.dir, "log")
	args := append(s.args[:len(s.args):len(s.args)], "--dir", s.dir, "--bind", "127.0.0.1", "--port", strconv.Itoa(s.port), "--logfile", log, "--daemonize", "no")
	c := s.Client()
	defer c.Close()
	process, err := server.Start(exec.Command("redis-server", args...), nil, log, startTimeout, func(ctx context.Context) error { return c.Ping(ctx).Err() })
	s.mu.Lock()
	s.process = process
	s.mu.Unlock()
	return err
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
func (s *Server) Kill() { s.current().Kill() }

// Freeze stops the server where it is, until Thaw. It is for Linux.
func (s *Server) Freeze() error { return s.current().Freeze() }

// Thaw lets a frozen server go on.
func (s *Server) Thaw() error { return s.current().Thaw() }

func (s *Server) current() *server.Process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.process
}

// Close kills the server and removes its files.
func (s *Server) Close() error {
	s.Kill()
	// A child that rewrites the server's log may outlive it for a moment, and add a file.
	var err error
	for range 100 {
		if err = os.RemoveAll(s.dir); err == nil {
			return nil
		}
		<-time.After(10 * time.Millisecond)
	}
	return err
}
