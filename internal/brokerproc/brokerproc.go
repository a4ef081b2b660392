// Package brokerproc runs sealmq as a child process. Start runs a node ("sealmq serve"), by
// default a broker, and waits until it accepts clients; Run runs any other command. Both can
// be stopped and killed.
//
// On Linux the kernel ends the process when its parent dies. Elsewhere the caller must
// call Kill, for example with defer. The package does not look at the output: it goes
// where the caller says.
package brokerproc

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// Config is how the process is started. Exe and Data are required.
type Config struct {
	// Exe is the sealmq executable.
	Exe string
	// Data is the node's data folder. If it is missing, the node makes it.
	Data string
	// Roles are what the node does; none is a broker. The listeners of the other roles get
	// free ports of 127.0.0.1 unless Env says otherwise.
	Roles []string
	// Addr and MetricsAddr are the broker's host:port; empty is a free port of 127.0.0.1.
	Addr, MetricsAddr string
	// Args are further arguments for "sealmq serve".
	Args []string
	// Env is added to the environment of this process, without its SEALMQ_ variables.
	Env []string
	// Log receives the node's log; nil discards it.
	Log io.Writer
	// Timeout is how long the start may take; 0 is one minute.
	Timeout time.Duration
}

// Ready is what the node prints to its standard output once it accepts clients.
type Ready struct {
	Addr        string `json:"addr"`
	MetricsAddr string `json:"metrics_addr"`
	// These are the addresses of the pipeline's roles, if the node has them.
	MainAddr   string `json:"main_addr,omitempty"`
	ProxyAddr  string `json:"proxy_addr,omitempty"`
	WorkerAddr string `json:"worker_addr,omitempty"`
	PortalAddr string `json:"portal_addr,omitempty"`
	Data       string `json:"data"`
	PID        int    `json:"pid"`
}

// Process is a node. It accepts clients until it ends and Done is closed.
type Process struct {
	Ready
	// Took is the time from the start of the process until it accepted clients.
	Took time.Duration
	*Command
}

// defaultTimeout is how long the start of a node may take.
const defaultTimeout = time.Minute

// Start runs the node and returns when it accepts clients. If it ends before, the error
// says why, in the words of its log.
func Start(ctx context.Context, cfg Config) (*Process, error) {
	const freePort = "127.0.0.1:0"
	args := append([]string{"serve", "--ready-json", "--data", cfg.Data,
		"--addr", cmp.Or(cfg.Addr, freePort), "--metrics-addr", cmp.Or(cfg.MetricsAddr, freePort)}, cfg.Args...)
	if len(cfg.Roles) == 0 {
		cfg.Roles = []string{"broker"}
	}
	args = append(args, cfg.Roles...)
	env := []string{"SEALMQ_PROXY_ADDR=" + freePort, "SEALMQ_MAIN_ADDR=" + freePort, "SEALMQ_WORKER_ADDR=" + freePort, "SEALMQ_PORTAL_ADDR=" + freePort}
	out := &firstLine{got: make(chan []byte, 1)}
	began := time.Now()
	c, err := Run(CommandConfig{Exe: cfg.Exe, Args: args, Env: append(env, cfg.Env...), Out: out, Log: cfg.Log})
	if err != nil {
		return nil, err
	}
	p := &Process{Command: c}
	timeout := cmp.Or(cfg.Timeout, defaultTimeout)
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("not ready after %v", timeout))
	defer cancel()
	select {
	case line := <-out.got:
		err = json.Unmarshal(line, &p.Ready)
		if err == nil && p.Addr+p.MainAddr+p.ProxyAddr+p.WorkerAddr+p.PortalAddr == "" {
			err = errors.New("the ready line names no address")
		}
	case <-c.done:
		if err = c.err; err == nil {
			err = errors.New("it ended before it was ready")
		}
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if err == nil {
		p.Took = time.Since(began)
		return p, nil
	}
	p.Kill()
	// What it printed last explains more than the error on this side.
	if text := p.tail.String(); text != "" && !errors.Is(err, context.Canceled) {
		err = fmt.Errorf("it said: %s", text)
	}
	return nil, fmt.Errorf("start %s: %w", strings.Join(cfg.Roles, ", "), err)
}

// firstLine passes on the first line that is written to it.
type firstLine struct {
	line []byte
	done bool
	got  chan []byte // has room for the line
}

func (w *firstLine) Write(b []byte) (int, error) {
	if !w.done {
		w.line = append(w.line, b...)
		if line, _, found := bytes.Cut(w.line, []byte("\n")); found {
			w.done = true
			w.got <- line
		}
	}
	return len(b), nil
}
