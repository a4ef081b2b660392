// Package brokerproc runs sealmq as a child process. Start runs a broker ("sealmq serve")
// and waits until it accepts clients; Run runs any other command. Both can be stopped and
// killed.
//
// On Linux the kernel ends the process when its parent dies. Elsewhere the caller must
// call Kill, for example with defer. The package does not look at the output: it goes
// where the caller says.
package brokerproc

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// Config is how the process is started. Exe and Data are required.
type Config struct {
	// Exe is the sealmq executable.
	Exe string
	// Data is the broker's data folder. If it is missing, the broker makes it.
	Data string
	// Addr and MetricsAddr are host:port; empty is a free port of 127.0.0.1.
	Addr, MetricsAddr string
	// Args are further arguments for "sealmq serve".
	Args []string
	// Env is added to the environment of this process, without its SEALMQ_ variables.
	Env []string
	// Log receives the broker's log; nil discards it.
	Log io.Writer
	// Timeout is how long the start may take; 0 is one minute.
	Timeout time.Duration
}

// Ready is what the broker prints to its standard output once it accepts clients.
type Ready struct {
	Addr        string `json:"addr"`
	MetricsAddr string `json:"metrics_addr"`
	Data        string `json:"data"`
	PID         int    `json:"pid"`
}

// Process is a broker. It accepts clients until it ends and Done is closed.
type Process struct {
	Ready
	// Took is the time from the start of the process until it accepted clients.
	Took time.Duration
	*Command
}

// defaultTimeout is how long the start of a broker may take.
const defaultTimeout = time.Minute

// Start runs the broker and returns when it accepts clients. If it ends before, the error
// says why, in the words of its log.
func Start(ctx context.Context, cfg Config) (*Process, error) {
	addr := func(a string) string {
		if a == "" {
			return "127.0.0.1:0"
		}
		return a
	}
	args := append([]string{"serve", "--ready-json", "--data", cfg.Data,
		"--addr", addr(cfg.Addr), "--metrics-addr", addr(cfg.MetricsAddr)}, cfg.Args...)
	p := &Process{Command: newCommand(cfg.Exe, args, cfg.Env, cfg.Log)}
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

// wait reads the ready line, then the rest, and waits for the end of the process.
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
	io.Copy(io.Discard, r) // Wait closes the pipe, so read it to its end before
	p.err = p.cmd.Wait()
	close(p.done)
}

// startError says why the broker did not start. What it printed last explains more than
// the error on this side.
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
