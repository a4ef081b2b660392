package crash

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"time"

	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/internal/brokerproc"
	"github.com/sealmq/sealmq/mtls"
)

// patience is how long a start, a reply, or the end of connections to a dead broker may
// take.
const patience = 2 * time.Minute

// env makes the broker's files small, so that it often fills segments, writes checkpoints
// and reuses segments.
var env = []string{
	"SEALMQ_STORAGE_SEGMENT_BYTES=1MiB",
	"SEALMQ_SERVER_MAX_LINE_BYTES=512KiB",
	"SEALMQ_STORAGE_MIN_FREE_BYTES=1MiB",
	"SEALMQ_STORAGE_CACHE_BYTES=1MiB",
	"SEALMQ_LOG_FORMAT=json",
}

// Host is a broker that starts and dies many times with the same data folder. Clients reach
// the running process with Dial.
type Host struct {
	Exe, Data string
	Log       io.Writer // nil discards the broker's log
	// Torn counts the starts that found a part of an unsynced batch.
	Torn int
	// OnTorn, if not nil, is called in such a start, before clients can connect.
	OnTorn func()

	mu      sync.Mutex
	proc    *brokerproc.Process
	up      bool
	open    int           // connections of clients
	changed chan struct{} // closed when up or open change
	tls     *tls.Config   // of clients; set by the first Start
	root    []byte        // the authority's certificate
}

// Start starts the broker, checks that it is healthy and that its authority is the same, and
// then allows clients to connect.
func (h *Host) Start(ctx context.Context) error {
	log := &startLog{next: h.Log, ready: make(chan struct{})}
	p, err := brokerproc.Start(ctx, brokerproc.Config{Exe: h.Exe, Data: h.Data, Env: env, Log: log, Timeout: patience})
	if err != nil {
		return err
	}
	h.mu.Lock()
	h.proc = p
	h.mu.Unlock()
	if err := h.checkRecovery(ctx, log); err != nil {
		return err
	}
	if err := h.checkAuthority(); err != nil {
		return err
	}
	if err := healthy(ctx, p.MetricsAddr); err != nil {
		return err
	}
	h.set(func() { h.up = true })
	return nil
}

// checkRecovery checks what the broker logged about its journal at a start. A kill or a
// power cut must not damage promised records.
func (h *Host) checkRecovery(ctx context.Context, log *startLog) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	select {
	case <-log.ready:
	case <-ctx.Done():
		return fmt.Errorf("wait for the log of a start: %w", ctx.Err())
	}
	if log.damaged != "" {
		return fmt.Errorf("damage after a start: %s", log.damaged)
	}
	if log.torn {
		h.Torn++
		if h.OnTorn != nil {
			h.OnTorn()
		}
	}
	return nil
}

// startLog reads a broker's log of JSON lines until the broker accepts clients.
type startLog struct {
	next io.Writer
	line []byte

	ready   chan struct{} // closed when the fields below are final
	done    bool
	torn    bool
	damaged string
}

func (l *startLog) Write(b []byte) (int, error) {
	for rest := b; !l.done && len(rest) > 0; {
		i := bytes.IndexByte(rest, '\n')
		if i < 0 {
			l.line = append(l.line, rest...)
			break
		}
		l.read(append(l.line, rest[:i]...))
		l.line, rest = l.line[:0], rest[i+1:]
	}
	if l.next == nil {
		return len(b), nil
	}
	return l.next.Write(b)
}

func (l *startLog) read(line []byte) {
	var record struct {
		Msg      string
		Promised bool
	}
	if json.Unmarshal(line, &record) != nil {
		return
	}
	switch {
	case record.Msg == "accepting clients":
		l.done = true
		close(l.ready)
	case record.Msg == "journal was repaired" && record.Promised:
		l.damaged = string(line)
	case record.Msg == "journal was repaired":
		l.torn = true
	}
}

// checkAuthority reads the authority and the clients' certificate at the first start, and
// compares the authority at later ones.
func (h *Host) checkAuthority() error {
	authority, err := ca.Open(h.Data, ca.Options{})
	if err != nil {
		return fmt.Errorf("authority after a start: %w", err)
	}
	root := authority.Root().Raw
	if h.tls != nil {
		if string(root) != string(h.root) {
			return errors.New("the authority changed")
		}
		return nil
	}
	// Read them only once: an open file would prevent an unmount.
	p := ca.In(h.Data)
	leaf, err := tls.LoadX509KeyPair(p.Cert(ca.AdminName), p.Key(ca.AdminName))
	if err != nil {
		return fmt.Errorf("administrator's certificate after a start: %w", err)
	}
	h.tls = &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{leaf}, RootCAs: mtls.Pool(authority.Root()), ServerName: "127.0.0.1"}
	h.root = root
	return nil
}

// healthy checks the broker's health.
func healthy(ctx context.Context, addr string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/health/ready", nil)
	if err != nil {
		return err
	}
	client := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("ask for health: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("ask for health: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("health is %s: %s", resp.Status, body)
	}
	return nil
}

// Flash starts the broker and kills it after d, ready or not. It is an error if the broker
// ends by itself.
func (h *Host) Flash(ctx context.Context, d time.Duration) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	timer := time.AfterFunc(d, cancel)
	defer timer.Stop()
	p, err := brokerproc.Start(ctx, brokerproc.Config{Exe: h.Exe, Data: h.Data, Env: env, Log: h.Log, Timeout: patience})
	if errors.Is(err, context.Canceled) {
		return nil
	}
	if err != nil {
		return err
	}
	<-ctx.Done()
	p.Kill()
	return nil
}

// Kill ends the broker with SIGKILL and returns when all connections to it are closed. So
// whatever clients note later is about the next process.
func (h *Host) Kill() error {
	p := h.down()
	if p == nil {
		return nil
	}
	p.Kill()
	return h.idle()
}

// Stop ends the broker with an interrupt.
func (h *Host) Stop(ctx context.Context) error {
	p := h.down()
	if p == nil {
		return nil
	}
	return errors.Join(p.Stop(ctx), h.idle())
}

// Inspect stops the broker and checks its whole journal.
func (h *Host) Inspect(ctx context.Context) error {
	if err := h.Stop(ctx); err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, h.Exe, "journal", "check", "--data", h.Data).CombinedOutput()
	if err != nil {
		return fmt.Errorf("check the journal: %w: %s", err, out)
	}
	return nil
}

// down makes new clients wait, and returns the process, if there is one.
func (h *Host) down() *brokerproc.Process {
	var p *brokerproc.Process
	h.set(func() { h.up, p, h.proc = false, h.proc, nil })
	return p
}

// PID is the id of the running process.
func (h *Host) PID() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.proc.PID
}

// set changes the state that waiters look at.
func (h *Host) set(change func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	change()
	if h.changed != nil {
		close(h.changed)
		h.changed = nil
	}
}

// wait returns when is, called with the lock held, returns true.
func (h *Host) wait(ctx context.Context, is func() bool) error {
	for {
		h.mu.Lock()
		if is() {
			h.mu.Unlock()
			return nil
		}
		if h.changed == nil {
			h.changed = make(chan struct{})
		}
		changed := h.changed
		h.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (h *Host) idle() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := h.wait(ctx, func() bool { return h.open == 0 }); err != nil {
		return errors.New("clients still hold connections to a broker that is gone")
	}
	return nil
}

// Dial connects to the broker as soon as it runs. Its signature is that of
// client.Config.Dial.
func (h *Host) Dial(ctx context.Context, _, _ string) (net.Conn, error) {
	var addr string
	err := h.wait(ctx, func() bool {
		if !h.up {
			return false
		}
		h.open++ // before the lock is given up, so that Kill waits for it
		addr = h.proc.Addr
		return true
	})
	if err != nil {
		return nil, err
	}
	c, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		h.set(func() { h.open-- })
		return nil, err
	}
	return &conn{Conn: c, host: h}, nil
}

// conn tells its host when it is closed.
type conn struct {
	net.Conn
	host *Host
	once sync.Once
}

func (c *conn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() { c.host.set(func() { c.host.open-- }) })
	return err
}

// Remove deletes the data folder.
func (h *Host) Remove() error { return os.RemoveAll(h.Data) }
