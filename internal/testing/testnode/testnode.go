// Package testnode runs a real broker inside a test: engine, broker and TLS listener. Its
// disk is in memory and can lose its power; its network can be in memory too.
package testnode

import (
	"context"
	"log/slog"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sealmq/sealmq/broker"
	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/engine"
	"github.com/sealmq/sealmq/engine/local"
	"github.com/sealmq/sealmq/internal/testing/faultfs"
	"github.com/sealmq/sealmq/internal/testing/testca"
	"github.com/sealmq/sealmq/keydir/keylog"
	"github.com/sealmq/sealmq/listener"
	"github.com/sealmq/sealmq/mtls"
	"github.com/sealmq/sealmq/protocol"
	"github.com/sealmq/sealmq/protocol/text"
)

// Config is the configuration of a node. The zero value is a broker on a free port with its
// own authority.
type Config struct {
	CA *testca.CA
	// Network replaces TCP, for a node in a synctest bubble.
	Network *Pipes
	// Directory turns the key directory on.
	Directory *broker.DirectoryConfig
	// Accepts is another authority whose clients may connect.
	Accepts *testca.CA
	// PipelineQueue is the broker's.
	PipelineQueue string
	// Engine replaces the local engine. Such a node can be started only once.
	Engine engine.Engine
	// Listener changes the configuration of the listener last.
	Listener func(*listener.Config)
	// Log is the node's log.
	Log *slog.Logger
}

// NewDirectory configures a key directory for clients of an authority.
func NewDirectory(t testing.TB, ca *testca.CA) *broker.DirectoryConfig {
	t.Helper()
	signer, _, err := keylog.NewSigner()
	if err != nil {
		t.Fatal(err)
	}
	return &broker.DirectoryConfig{Signer: signer, Verifier: ca.Verifier()}
}

// Node is a running broker. FS may be replaced while the node is stopped.
type Node struct {
	CA   *testca.CA
	FS   *faultfs.FS
	Addr string
	// Metrics are all of the node since its last start. Text and Connections are among
	// them.
	Metrics     *prometheus.Registry
	Text        *text.Metrics
	Connections *listener.Metrics

	t      testing.TB
	cfg    Config
	engine engine.Engine
	broker *broker.Broker
	server *listener.Server
	served chan error
}

// Start runs a node until the test ends.
func Start(t testing.TB, cfg Config) *Node {
	t.Helper()
	if cfg.CA == nil {
		cfg.CA = testca.New(t)
	}
	n := &Node{CA: cfg.CA, FS: faultfs.New(), Addr: "127.0.0.1:0", t: t, cfg: cfg}
	n.Start()
	t.Cleanup(n.Stop)
	return n
}

// Start starts a stopped node with its old address.
func (n *Node) Start() {
	n.t.Helper()
	counts := broker.NewMetrics()
	n.Metrics, n.Text, n.Connections = prometheus.NewRegistry(), text.NewMetrics(), listener.NewMetrics()
	n.Metrics.MustRegister(counts, n.Text, n.Connections)
	if n.engine = n.cfg.Engine; n.engine == nil {
		e, err := local.Open(local.Config{Dir: "store", FS: n.FS, SegmentBytes: 1 << 20, Log: n.cfg.Log})
		if err != nil {
			n.t.Fatal(err)
		}
		n.engine = e
		n.Metrics.MustRegister(local.NewCollector(e))
	}
	var err error
	if n.broker, err = broker.New(broker.Config{Engine: n.engine, Directory: n.cfg.Directory, Log: n.cfg.Log, Metrics: counts, PipelineQueue: n.cfg.PipelineQueue,
		OwnIssuer: func(issuer string) bool { return issuer == mtls.Issuer(n.CA.Root()) }}); err != nil {
		n.t.Fatal(err)
	}
	serverTLS := n.CA.ServerTLS()
	if n.cfg.Accepts != nil {
		serverTLS.ClientCAs = n.CA.Pool()
		serverTLS.ClientCAs.AddCert(n.cfg.Accepts.Root())
	}
	cfg := listener.Config{Addr: n.Addr, TLS: serverTLS, Identify: n.CA.Identify, Log: n.cfg.Log, Metrics: n.Connections,
		Protocols: []protocol.Protocol{text.Protocol(text.Config{Broker: n.broker, Metrics: n.Text})}}
	if n.cfg.Network != nil {
		cfg.Listener = n.cfg.Network
	}
	if n.cfg.Listener != nil {
		n.cfg.Listener(&cfg)
	}
	if n.server, err = listener.Listen(cfg); err != nil {
		n.t.Fatal(err)
	}
	n.Addr = n.server.Addr().String()
	n.served = make(chan error, 1)
	go func(s *listener.Server) { n.served <- s.Serve(context.Background()) }(n.server)
}

// Stop stops the node. Stopping it twice has no further effect.
func (n *Node) Stop() {
	if n.server == nil {
		return
	}
	n.server.Close()
	if err := <-n.served; err != nil {
		n.t.Errorf("Serve: %v", err)
	}
	n.broker.Close()
	n.engine.Close() // its error is that of the disk, when the power is off
	n.server = nil
}

// Crash cuts the power and starts the node again with what the crash left.
func (n *Node) Crash(seed uint64) {
	n.t.Helper()
	n.FS.PowerOff()
	n.Stop()
	n.FS = n.FS.Crash(faultfs.KeepRandom, seed)
	n.Start()
}

// Broker is the running broker.
func (n *Node) Broker() *broker.Broker { return n.broker }

// Server is the running listener.
func (n *Node) Server() *listener.Server { return n.server }

// Config completes a client's configuration: address, network, and unless it has its own
// a certificate, the administrator's.
func (n *Node) Config(cfg client.Config) client.Config {
	cfg.Addr = n.Addr
	if n.cfg.Network != nil && cfg.Dial == nil {
		cfg.Dial = n.cfg.Network.Dial
	}
	if cfg.TLS == nil {
		cfg.TLS = n.CA.AdminTLS()
	}
	return cfg
}

// Dial connects a client that lives as long as the test.
func (n *Node) Dial(cfg client.Config) *client.Client {
	n.t.Helper()
	c, err := client.Dial(n.t.Context(), n.Config(cfg))
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { c.Close() })
	return c
}
