// Package pipelineproc runs the roles of a pipeline as processes of their own, for tests that
// kill them. All have one data folder, and keep their addresses when they start again.
package pipelineproc

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/internal/brokerproc"
	"github.com/sealmq/sealmq/internal/testing/server"
	"github.com/sealmq/sealmq/mtls"
)

// The roles.
const (
	Broker = "broker"
	Main   = "main"
	Proxy  = "proxy"
	Worker = "worker"
	Portal = "portal"
)

// All stands for one process that has all roles, the portal's included.
const All = "all"

// Roles are all roles that messages need, in the order in which they are best started.
var Roles = []string{Broker, Main, Proxy, Worker}

// Config says what to run. Exe and Data are required.
type Config struct {
	Exe, Data string
	// Args are further arguments, Env further settings of all processes.
	Args, Env []string
	// Log receives the log of a role; nil discards all.
	Log func(role string) io.Writer
	// Timeout is how long a start may take; 0 is a minute.
	Timeout time.Duration
}

// Pipeline is the processes. It is safe for concurrent use.
type Pipeline struct {
	cfg   Config
	addrs map[string]string

	mu    sync.Mutex
	procs map[string]*brokerproc.Process // those that run
	more  []string                       // of Set
}

// New chooses the addresses. Nothing runs before Start.
func New(cfg Config) (*Pipeline, error) {
	p := &Pipeline{cfg: cfg, addrs: make(map[string]string), procs: make(map[string]*brokerproc.Process)}
	for _, role := range append(slices.Clip(Roles), Portal) {
		port, err := server.Port()
		if err != nil {
			return nil, err
		}
		p.addrs[role] = fmt.Sprint("127.0.0.1:", port)
	}
	return p, nil
}

// Addr is the address of a role: the broker's for clients, the others' for HTTP.
func (p *Pipeline) Addr(role string) string { return p.addrs[role] }

// URL is the address of proxy or main server, for a client that believes the name localhost.
func (p *Pipeline) URL(role string) string {
	_, port, _ := net.SplitHostPort(p.addrs[role]) // New made it
	return "https://localhost:" + port
}

// Env are the settings of all processes.
func (p *Pipeline) Env() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string{
		"SEALMQ_SERVER_ADDR=" + p.addrs[Broker], "SEALMQ_MAIN_ADDR=" + p.addrs[Main], "SEALMQ_PROXY_ADDR=" + p.addrs[Proxy], "SEALMQ_WORKER_ADDR=" + p.addrs[Worker], "SEALMQ_PORTAL_ADDR=" + p.addrs[Portal],
		"SEALMQ_PIPELINE_BROKER=" + p.addrs[Broker], "SEALMQ_PIPELINE_MAIN=" + p.URL(Main), "SEALMQ_LOG_FORMAT=json",
	}, append(slices.Clip(p.cfg.Env), p.more...)...)
}

// Set changes settings, such as SEALMQ_LOG_LEVEL=debug, of what is started from now on.
func (p *Pipeline) Set(env ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.more = append(p.more, env...)
}

// Start starts a role and returns when it is ready.
func (p *Pipeline) Start(ctx context.Context, role string) error {
	roles := []string{role}
	if role == All {
		roles = append(slices.Clip(Roles), Portal)
	}
	cfg := brokerproc.Config{Exe: p.cfg.Exe, Data: p.cfg.Data, Roles: roles, Addr: p.addrs[Broker], Args: p.cfg.Args, Env: p.Env(), Timeout: p.cfg.Timeout}
	if p.cfg.Log != nil {
		cfg.Log = p.cfg.Log(role)
	}
	proc, err := brokerproc.Start(ctx, cfg)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.procs[role] = proc
	return nil
}

// StartAll starts all roles that do not run.
func (p *Pipeline) StartAll(ctx context.Context) error {
	for _, role := range Roles {
		if p.Process(role) == nil {
			if err := p.Start(ctx, role); err != nil {
				return err
			}
		}
	}
	return nil
}

// Process is the process of a role, or nil.
func (p *Pipeline) Process(role string) *brokerproc.Process {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.procs[role]
}

// take removes the process of a role.
func (p *Pipeline) take(role string) *brokerproc.Process {
	p.mu.Lock()
	defer p.mu.Unlock()
	proc := p.procs[role]
	delete(p.procs, role)
	return proc
}

// Kill ends a role at once, if it runs.
func (p *Pipeline) Kill(role string) {
	if proc := p.take(role); proc != nil {
		proc.Kill()
	}
}

// KillAll ends all roles at once.
func (p *Pipeline) KillAll() {
	for _, role := range append([]string{All, Portal}, Roles...) {
		p.Kill(role)
	}
}

// Stop ends a role with an interrupt, if it runs.
func (p *Pipeline) Stop(ctx context.Context, role string) error {
	if proc := p.take(role); proc != nil {
		return proc.Stop(ctx)
	}
	return nil
}

// StopAll stops all roles, the broker last.
func (p *Pipeline) StopAll(ctx context.Context) (err error) {
	for _, role := range slices.Backward(Roles) {
		err = errors.Join(err, p.Stop(ctx, role))
	}
	return err
}

// TLS is the configuration to dial with the certificate of a name, which is issued if there
// is none. The data folder must have been made.
func (p *Pipeline) TLS(name string) (*tls.Config, error) {
	files := ca.In(p.cfg.Data)
	if _, err := os.Stat(files.Cert(name)); errors.Is(err, os.ErrNotExist) {
		authority, err := ca.Open(p.cfg.Data, ca.Options{})
		if err != nil {
			return nil, err
		}
		if _, err := authority.IssueFiles(ca.Request{Name: name}, "", false); err != nil {
			return nil, err
		}
	}
	return mtls.ClientConfig(mtls.FilesIn(files.Certs(), name), mtls.ClientOptions{})
}

// Client makes calls with the certificate of a name, as TLS. The caller closes its idle
// connections.
func (p *Pipeline) Client(name string, timeout time.Duration) (*http.Client, error) {
	conf, err := p.TLS(name)
	if err != nil {
		return nil, err
	}
	return &http.Client{Transport: &http.Transport{TLSClientConfig: conf, MaxIdleConnsPerHost: 64}, Timeout: timeout}, nil
}
