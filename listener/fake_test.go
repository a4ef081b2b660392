package listener_test

import (
	"context"
	"crypto/tls"
	"net"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealmq/sealmq/engine"
	"github.com/sealmq/sealmq/engine/enginetest"
	"github.com/sealmq/sealmq/internal/testing/testnode"
	"github.com/sealmq/sealmq/listener"
)

// startPipes runs a server on pipes.
func startPipes(t *testing.T, change func(*listener.Config)) (*node, *testnode.Pipes) {
	t.Helper()
	network := testnode.NewPipes()
	engine := enginetest.NewModel(enginetest.Config{})
	return startNode(t, testnode.Config{Engine: engine, Network: network, Listener: change}), network
}

// dialPipe is a connection that has not spoken yet.
func dialPipe(tb testing.TB, p *testnode.Pipes) net.Conn {
	tb.Helper()
	c, err := p.Dial(tb.Context(), "", "")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = c.Close() })
	return c
}

// connectPipe is a client whose received bytes nobody takes unless it reads.
func (n *node) connectPipe(p *testnode.Pipes, cfg *tls.Config) *peer {
	n.tb.Helper()
	raw := dialPipe(n.tb, p)
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
