package listener_test

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealmq/sealmq/engine"
	"github.com/sealmq/sealmq/listener"
)

// pipes is a listener without a network. Its connections have no buffers: a write waits
// until the peer reads, so that a peer that does not read is noticed at once.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func listenPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.done) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes", Net: "pipe"} }

func (p *pipes) dial() net.Conn {
	mine, theirs := net.Pipe()
	p.conns <- theirs
	return mine
}

// startPipes runs a server on pipes.
func startPipes(t *testing.T, change func(*listener.Config)) (*node, *pipes) {
	t.Helper()
	l := listenPipes()
	n := start(t, nil, func(cfg *listener.Config) {
		cfg.Listener = l
		if change != nil {
			change(cfg)
		}
	})
	return n, l
}

// connectPipe is a client whose received bytes nobody takes unless it reads.
func (n *node) connectPipe(p *pipes, cfg *tls.Config) *peer {
	n.tb.Helper()
	raw := p.dial()
	n.tb.Cleanup(func() { _ = raw.Close() })
	c := &peer{tb: n.tb, tcp: raw, Conn: tls.Client(raw, cfg)}
	if err := c.Handshake(); err != nil {
		n.tb.Fatal(err)
	}
	return c
}

// slowPublishes is an engine whose confirms wait for release.
type slowPublishes struct {
	engine.Engine
	release chan struct{}
}

func (e slowPublishes) Publish(batch []engine.Publish, done func([]engine.PublishResult)) int {
	return e.Engine.Publish(batch, func(results []engine.PublishResult) {
		results = append([]engine.PublishResult(nil), results...)
		go func() {
			<-e.release
			done(results)
		}()
	})
}

// metric reads a counter or gauge; label is the value of its only label, or "".
func metric(tb testing.TB, c prometheus.Collector, name, label string) float64 {
	tb.Helper()
	r := prometheus.NewRegistry()
	r.MustRegister(c)
	families, err := r.Gather()
	if err != nil {
		tb.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.Metric {
			if len(m.Label) == 0 && label == "" || len(m.Label) == 1 && m.Label[0].GetValue() == label {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	tb.Fatalf("no metric %s{%s}", name, label)
	return 0
}

func background() context.Context { return context.Background() }
