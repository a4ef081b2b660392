package brokerproc

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
)

// CommandConfig is how a command is started. Exe and Args are required.
type CommandConfig struct {
	// Exe is the sealmq executable, Args are the command and its arguments.
	Exe  string
	Args []string
	// Env is added to the environment of this process, without its SEALMQ_ variables.
	Env []string
	// Out receives the command's standard output, Log its standard error; nil discards
	// it.
	Out, Log io.Writer
}

// Command is a running process, or one that ran until Done was closed.
type Command struct {
	cmd  *exec.Cmd
	tail *tail
	done chan struct{}
	err  error // how it ended; set before done is closed
}

// Run starts a command and returns at once.
func Run(cfg CommandConfig) (*Command, error) {
	c := newCommand(cfg.Exe, cfg.Args, cfg.Env, cfg.Log)
	c.cmd.Stdout = cfg.Out
	if err := startTied(c.cmd); err != nil {
		return nil, fmt.Errorf("start sealmq %s: %w", cfg.Args[0], err)
	}
	go func() {
		c.err = c.cmd.Wait()
		close(c.done)
	}()
	return c, nil
}

func newCommand(exe string, args, env []string, log io.Writer) *Command {
	c := &Command{cmd: exec.Command(exe, args...), tail: &tail{next: log}, done: make(chan struct{})}
	c.cmd.Env = append(cleanEnv(os.Environ()), env...)
	c.cmd.Stderr = c.tail
	return c
}

// ProcessID is the operating system's id of the process.
func (c *Command) ProcessID() int { return c.cmd.Process.Pid }

// Done is closed when the process has ended.
func (c *Command) Done() <-chan struct{} { return c.done }

// Err says how the process ended, once Done is closed: nil for status 0, else the error
// that it printed.
func (c *Command) Err() error {
	if c.err == nil {
		return nil
	}
	if text := c.tail.String(); text != "" {
		return fmt.Errorf("%w: %s", c.err, text)
	}
	return c.err
}

// Kill ends the process at once, as a crash would, and waits until it is gone.
func (c *Command) Kill() {
	c.cmd.Process.Kill() // fails only when it has ended already
	<-c.done
}

// Stop interrupts the process and waits for its end. If ctx ends first, or if a process
// cannot be interrupted, as on Windows, it is killed.
func (c *Command) Stop(ctx context.Context) error {
	if err := c.cmd.Process.Signal(os.Interrupt); err != nil {
		c.Kill()
		return nil
	}
	select {
	case <-c.done:
		if err := c.Err(); err != nil {
			return fmt.Errorf("stop sealmq %s: %w", c.cmd.Args[1], err)
		}
		return nil
	case <-ctx.Done():
		c.Kill()
		return fmt.Errorf("stop sealmq %s: %w", c.cmd.Args[1], ctx.Err())
	}
}

// cleanEnv removes SEALMQ_ variables: they are meant for the user's own commands.
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

// tail forwards a log and keeps its end.
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

// String is the line with the error, or the last line.
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
