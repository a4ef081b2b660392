package brokerproc

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
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
	c := &Command{cmd: exec.Command(cfg.Exe, cfg.Args...), tail: &tail{next: cfg.Log}, done: make(chan struct{})}
	// SEALMQ_ variables are meant for the user's own commands.
	clean := slices.DeleteFunc(os.Environ(), func(kv string) bool { return strings.HasPrefix(kv, "SEALMQ_") })
	c.cmd.Env = append(clean, cfg.Env...)
	c.cmd.Stdout, c.cmd.Stderr = cfg.Out, c.tail
	if err := startTied(c.cmd); err != nil {
		return nil, fmt.Errorf("start sealmq %s: %w", cfg.Args[0], err)
	}
	go func() {
		c.err = c.cmd.Wait()
		close(c.done)
	}()
	return c, nil
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
