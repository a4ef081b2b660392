// Package brokerproc runs a broker as a process of its own: it starts "sealmq serve",
// waits until clients are accepted, and stops or kills it.
//
// The process dies with its parent: on Linux the kernel sees to it, elsewhere Kill
// must be called, as a caller does by "defer". The package knows nothing of what the
// broker does; its output goes where the caller says.
package brokerproc

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// Config is how the process is started. Exe and Data are required.
type Config struct {
	// Exe is the sealmq executable.
	Exe string
	// Data is the broker's data folder; a missing one is made by the broker.
	Data string
	// Addr and MetricsAddr are host:port; empty takes a free port of 127.0.0.1.
	Addr, MetricsAddr string
	// Args are further arguments for "sealmq serve".
	Args []string
	// Env is added to the environment of this process, without its SEALMQ_ variables.
	Env []string
	// Log receives the broker's log; nil drops it.
	Log io.Writer
	// Timeout bounds the start; 0 is one minute.
	Timeout time.Duration
}

// Ready is what the broker says on its standard output once it accepts clients.
type Ready struct {
	Addr        string `json:"addr"`
	MetricsAddr string `json:"metrics_addr"`
	Data        string `json:"data"`
	PID         int    `json:"pid"`
}

// Process is a broker that accepts clients, or did until Done was closed.
type Process struct {
	Ready
	// Took is the time from the start of the process until it accepted clients.
	Took time.Duration

	cmd  *exec.Cmd
	tail *tail
	done chan struct{}
	err  error // how it ended; set before done is closed
}

// defaultTimeout bounds the start of a broker.
const defaultTimeout = time.Minute

// Start runs the broker and returns when it accepts clients. If it ends before, the
// error carries the last lines of its log.
func Start(ctx context.Context, cfg Config) (*Process, error) {
	addr := func(a string) string {
		if a == "" {
			return "127.0.0.1:0"
		}
		return a
	}
	args := append([]string{"serve", "--ready-json", "--data", cfg.Data,
		"--addr", addr(cfg.Addr), "--metrics-addr", addr(cfg.MetricsAddr)}, cfg.Args...)
	p := &Process{cmd: exec.Command(cfg.Exe, args...), tail: &tail{next: cfg.Log}, done: make(chan struct{})}
	p.cmd.Env = append(cleanEnv(os.Environ()), cfg.Env...)
	p.cmd.Stderr = p.tail
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start broker: %w", err)
	}
	began := time.Now()
	if err := startTied(p.cmd); err != nil {
		return nil, fmt.Errorf("start broker: %w", err)
	}
	ready := make(chan error, 1)
	go p.wait(out, ready)

	timeout := cfg.Timeout
	if timeout == 0 {
		timeout = defaultTimeout
	}
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case err = <-ready:
	case <-timer.C:
		err = fmt.Errorf("not ready after %v", timeout)
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		p.Kill()
		return nil, p.startError(err)
	}
	p.Took = time.Since(began)
	return p, nil
}

// wait reads the ready line, then the rest, and collects the process at its end.
func (p *Process) wait(out io.Reader, ready chan<- error) {
	r := bufio.NewReader(out)
	line, err := r.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &p.Ready)
	}
	if err == nil && p.Addr == "" {
		err = errors.New("the ready line names no address")
	}
	ready <- err
	io.Copy(io.Discard, r) // Wait may close the pipe only after it was read to its end
	p.err = p.cmd.Wait()
	close(p.done)
}

// startError says why the broker did not start: what it printed last is better than
// what this side saw.
func (p *Process) startError(err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	if text := p.tail.String(); text != "" {
		return fmt.Errorf("start broker: it said: %s", text)
	}
	if errors.Is(err, io.EOF) && p.err != nil {
		err = p.err
	}
	return fmt.Errorf("start broker: %w", err)
}

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Kill ends the process at once, as a crash would, and waits until it is gone.
func (p *Process) Kill() {
	p.cmd.Process.Kill() // fails only when it has ended already
	<-p.done
}

// Stop asks the process to end and waits for it. When ctx ends first it is killed.
// Where a process cannot be asked, as on Windows, it is killed.
func (p *Process) Stop(ctx context.Context) error {
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		p.Kill()
		return nil
	}
	select {
	case <-p.done:
		if p.err != nil {
			return fmt.Errorf("stop broker: %w: %s", p.err, p.tail)
		}
		return nil
	case <-ctx.Done():
		p.Kill()
		return fmt.Errorf("stop broker: %w", ctx.Err())
	}
}

// cleanEnv leaves out SEALMQ_ variables, which belong to the broker of the user and
// not to this one.
func cleanEnv(env []string) []string {
	var out []string
	for _, kv := range env {
		if !strings.HasPrefix(kv, "SEALMQ_") {
			out = append(out, kv)
		}
	}
	return out
}

// tailBytes is how much of the log is kept for errors.
const tailBytes = 2048

// tail passes a log on and keeps its end.
type tail struct {
	mu   sync.Mutex
	next io.Writer
	last []byte
}

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last = append(t.last, b...)
	if cut := len(t.last) - tailBytes; cut > 0 {
		t.last = append(t.last[:0], t.last[cut:]...)
	}
	if t.next == nil {
		return len(b), nil
	}
	return t.next.Write(b)
}

// String is the line with the error, or the last line that there is.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := strings.Split(strings.TrimSpace(string(t.last)), "\n")
	for _, l := range lines {
		if rest, ok := strings.CutPrefix(l, "sealmq: error: "); ok {
			return rest
		}
	}
	return lines[len(lines)-1]
}
