package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/sealmq/sealmq/broker"
	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/engine/local"
	"github.com/sealmq/sealmq/internal/brokerproc"
	"github.com/sealmq/sealmq/internal/metrics"
	"github.com/sealmq/sealmq/journal"
	"github.com/sealmq/sealmq/listener"
	"github.com/sealmq/sealmq/mtls"
	"github.com/sealmq/sealmq/protocol"
	"github.com/sealmq/sealmq/protocol/text"
	"github.com/sealmq/sealmq/trust"
)

// shutdownTime is how long a stopping broker waits for clients to take their answers.
const shutdownTime = 10 * time.Second

func newServeCmd() *cobra.Command {
	var readyJSON bool
	var profile string
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the broker",
		Long: `Run the broker until it is interrupted. The first start makes what is missing in the
data folder: an authority, a server certificate, an administrator certificate, the store.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig(cmd)
			if err != nil {
				return err
			}
			if info, err := os.Stat(cfg.Data); err == nil && !info.IsDir() {
				return withHint(fmt.Errorf("data folder %s is a file", cfg.Data), "name a folder with --data; what is missing in it is made")
			}
			stopProfile, err := startProfile(profile)
			if err != nil {
				return err
			}
			return errors.Join(serve(cmd.Context(), cfg, readyJSON, cmd.OutOrStdout(), cmd.ErrOrStderr()), stopProfile())
		},
	}
	configFlag(cmd, "addr", "server.addr", "`host:port` for clients; port 0 takes a free one")
	configFlag(cmd, "metrics-addr", "metrics.addr", "`host:port` for metrics and health, or off")
	cmd.Flags().BoolVar(&readyJSON, "ready-json", false, "print one JSON line on standard output once clients are accepted")
	cmd.Flags().StringVar(&profile, "cpuprofile", "", "write a CPU profile to this `file`")
	_ = cmd.Flags().MarkHidden("cpuprofile")
	return cmd
}

// A node is the parts of a running broker, in the order in which they are started.
type node struct {
	cfg      Config
	log      *slog.Logger
	registry *prometheus.Registry
	files    mtls.Files
	engine   *local.Engine
	broker   *broker.Broker
	server   *listener.Server
	metrics  *metrics.Server // nil if it is off

	deniedSecond, denied atomic.Int64 // denials logged in this second
}

// maxDeniedLines is how many denied commands are logged in a second.
const maxDeniedLines = 20

// serve runs a broker until ctx ends or a part fails, and stops it in order: no more
// connections, answers to what was accepted, the store.
func serve(ctx context.Context, cfg Config, readyJSON bool, stdout, stderr io.Writer) (err error) {
	n := &node{cfg: cfg, log: newLogger(cfg.Log, stderr), registry: prometheus.NewRegistry()}
	stopTuning := tuneGC()
	defer stopTuning()
	for _, start := range []func() error{n.openTrust, n.openStore, n.openServer, n.openMetrics} {
		if err := start(); err != nil {
			return errors.Join(err, n.stop())
		}
	}
	if err := n.announce(readyJSON, stdout); err != nil {
		return errors.Join(err, n.stop())
	}
	errs := make(chan error, 2)
	serveCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { errs <- n.server.Serve(serveCtx) }()
	if n.metrics != nil {
		go func() { errs <- n.metrics.Serve() }()
	}
	if err = n.wait(ctx, errs); err != nil {
		return errors.Join(err, n.stop())
	}
	n.log.Info("stopping")
	if err = n.stop(); err == nil {
		n.log.Info("stopped")
	}
	return err
}

// wait returns nil when ctx ends, and else why a part failed. A hangup ends nothing:
// there is no configuration that would be read again.
func (n *node) wait(ctx context.Context, errs <-chan error) error {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	for {
		select {
		case <-hangup:
			n.log.Info("hangup received; certificates are re-read when their files change")
		case <-ctx.Done():
			return nil
		case err := <-errs:
			return err
		case <-n.engine.Failed():
			return withHint(n.engine.Health(), "nothing that was confirmed is lost; look at the disk and its log, then start again")
		}
	}
}

// openTrust completes the data folder, unless the configuration names files.
func (n *node) openTrust() error {
	t := n.cfg.TLS
	if t.Cert != "" {
		n.files = mtls.Files{Cert: t.Cert, Key: t.Key, CA: t.CA}
		return nil
	}
	if err := n.checkPorts(); err != nil {
		return err
	}
	res, err := ca.Setup(n.cfg.Data, nil, ca.Options{})
	if err != nil {
		return err
	}
	for _, f := range res.Made {
		n.log.Info("made", "file", f)
	}
	for _, f := range res.Renewed {
		n.log.Info("renewed", "file", f)
	}
	p := ca.In(n.cfg.Data)
	n.files = mtls.Files{Cert: p.Cert(ca.ServerName), Key: p.Key(ca.ServerName), CA: p.CA}
	return nil
}

// checkPorts looks whether the addresses are free before a new data folder is made: who
// starts a second broker by mistake is not left with an authority that nobody wants.
func (n *node) checkPorts() error {
	if _, err := os.Stat(ca.In(n.cfg.Data).Root); !errors.Is(err, os.ErrNotExist) {
		return nil
	}
	for _, at := range []struct{ what, addr string }{{"on " + n.cfg.Server.Addr, n.cfg.Server.Addr}, {"for metrics", n.cfg.Metrics.Addr}} {
		if at.addr == "off" {
			continue
		}
		l, err := net.Listen("tcp", at.addr)
		if err != nil {
			return fmt.Errorf("listen %s: %w", at.what, err)
		}
		if err := l.Close(); err != nil {
			return fmt.Errorf("listen %s: %w", at.what, err)
		}
	}
	return nil
}

func (n *node) openStore() error {
	syncs := local.NewMetrics()
	began := time.Now()
	s := n.cfg.Storage
	e, err := local.Open(local.Config{
		Dir: storeFolder(n.cfg.Data), SegmentBytes: int(s.SegmentBytes), CacheBytes: int(s.CacheBytes),
		MaxPendingBytes: int(s.MaxPendingBytes), MinFreeBytes: int64(s.MinFreeBytes),
		Quarantine: s.Damage == "quarantine", DedupWindow: n.cfg.Dedup.Window, DedupIDs: n.cfg.Dedup.MaxIDs,
		MaxMessages: n.cfg.Limits.Messages,
		Committed:   syncs.Committed, Log: n.log,
	})
	if err != nil {
		return storeHint(err)
	}
	n.engine = e
	queues, err := e.Queues()
	if err != nil {
		return err
	}
	messages := 0
	for _, q := range queues {
		messages += q.Ready
	}
	n.log.Info("store opened", "queues", len(queues), "messages", messages, "took", time.Since(began))
	counts := broker.NewMetrics()
	n.registry.MustRegister(syncs, local.NewCollector(e), counts)
	signer, made, err := logSigner(n.cfg.Data)
	if err != nil {
		return err
	}
	if made {
		n.log.Info("made", "file", logKeyFile(n.cfg.Data))
	}
	l := n.cfg.Limits
	n.broker, err = broker.New(broker.Config{
		Engine: e, Log: n.log, Metrics: counts, Audit: n.audit,
		Directory: &broker.DirectoryConfig{Signer: signer, Verifier: trust.FileVerifier{CA: n.files.CA}},
		Limits: broker.Limits{Exchanges: l.Exchanges, Bindings: l.Bindings, Queues: l.Queues, Keys: l.Keys,
			KeyLog: l.KeyLog, KeyChanges: l.KeyChanges, Chains: l.Chains},
	})
	return err
}

// audit logs what administrators did and what was denied. Metrics count every denial;
// the log takes so many a second, or a client could fill it, and with it the disk.
func (n *node) audit(identity, command, object string, err error) {
	if err != nil {
		if now := time.Now().Unix(); n.deniedSecond.Swap(now) != now {
			n.denied.Store(0)
		}
		if n.denied.Add(1) > maxDeniedLines {
			return
		}
		n.log.Warn("denied or refused", "client", identity, "command", command, "object", object, "err", err)
		return
	}
	n.log.Info("administrative command", "client", identity, "command", command, "object", object)
}

func storeHint(err error) error {
	var damage *journal.DamageError
	switch {
	case errors.As(err, &damage):
		return withHint(err, `"sealmq journal check" shows all of it; start once with SEALMQ_STORAGE_DAMAGE=quarantine to go on with what is whole, or restore a backup`)
	case errors.Is(err, journal.ErrNewer):
		return withHint(err, "run the version that wrote this folder, or a newer one")
	}
	return err
}

func (n *node) openServer() error {
	identify, err := trust.ReadIdentifier(ca.In(n.cfg.Data).Root, nil)
	if err != nil {
		return err
	}
	tlsConfig, err := mtls.ServerConfig(n.files, mtls.Options{MinVersion: n.cfg.TLS.version(), Log: n.log})
	if err != nil {
		return err
	}
	s := n.cfg.Server
	conns, words := listener.NewMetrics(), text.NewMetrics()
	n.registry.MustRegister(conns, words)
	lines := text.Protocol(text.Config{Broker: n.broker, Metrics: words,
		Limits: text.Limits{LineBytes: int(s.MaxLineBytes), Waiting: s.MaxUnconfirmed}})
	n.server, err = listener.Listen(listener.Config{
		Addr: s.Addr, TLS: tlsConfig, Identify: identify.Identify, Protocols: []protocol.Protocol{lines},
		Log: n.log, Metrics: conns,
		Limits: listener.Limits{Connections: s.MaxConnections, ConnectionsPerIdentity: s.MaxConnectionsPerIdentity,
			Memory: int64(s.MaxMemoryBytes), Handshakes: s.MaxHandshakes,
			HandshakeTimeout: s.HandshakeTimeout, WriteTimeout: s.WriteTimeout},
	})
	return err
}

func (n *node) openMetrics() error {
	if n.cfg.Metrics.Addr == "off" {
		return nil
	}
	certs := metrics.NewCertificates(
		metrics.CertificateFile{Name: "server", Path: n.files.Cert},
		metrics.CertificateFile{Name: "authority", Path: n.files.CA})
	n.registry.MustRegister(certs, metrics.NewQueues(n.engine.Queues, n.cfg.Metrics.MaxQueueSeries),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	store := metrics.Check{Name: "store", Run: n.storeStatus}
	var err error
	n.metrics, err = metrics.Listen(metrics.Config{
		Addr: n.cfg.Metrics.Addr, Registry: n.registry, Log: n.log,
		Live: []metrics.Check{store}, Ready: []metrics.Check{store, certs.Check(nil)},
	})
	return err
}

func (n *node) storeStatus() (metrics.Status, string) {
	select {
	case <-n.engine.Failed():
		return metrics.Failing, n.engine.Health().Error()
	default:
	}
	if err := n.engine.Health(); err != nil {
		return metrics.Degraded, err.Error()
	}
	return metrics.OK, ""
}

// version is the smallest TLS version that is accepted; Validate knows no others.
func (t TLSConfig) version() uint16 {
	if t.MinVersion == "1.3" {
		return tls.VersionTLS13
	}
	return tls.VersionTLS12
}

// announce says where the broker is.
func (n *node) announce(asJSON bool, stdout io.Writer) error {
	r := brokerproc.Ready{Addr: n.server.Addr().String(), Data: n.cfg.Data, PID: os.Getpid()}
	if n.metrics != nil {
		r.MetricsAddr = n.metrics.Addr().String()
	}
	n.log.Info("accepting clients", "addr", r.Addr, "metrics", r.MetricsAddr, "data", r.Data)
	if asJSON {
		return json.NewEncoder(stdout).Encode(r)
	}
	return nil
}

// stop stops what was started, in reverse.
func (n *node) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), shutdownTime)
	defer cancel()
	var errs []error
	if n.server != nil {
		if err := n.server.Shutdown(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
			errs = append(errs, fmt.Errorf("stop server: %w", err))
		}
	}
	if n.broker != nil {
		errs = append(errs, n.broker.Close())
	}
	if n.metrics != nil {
		errs = append(errs, n.metrics.Shutdown(ctx))
	}
	if n.engine != nil {
		err := n.engine.Close()
		select {
		case <-n.engine.Failed(): // which is reported already
		default:
			if err != nil {
				errs = append(errs, fmt.Errorf("close store: %w", err))
			}
		}
	}
	return errors.Join(errs...)
}

func newLogger(cfg LogConfig, w io.Writer) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(cfg.Level)); err != nil {
		level = slog.LevelInfo // Validate has refused anything else
	}
	o := &slog.HandlerOptions{Level: level, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Value.Kind() == slog.KindDuration { // JSON would show nanoseconds
			a.Value = slog.StringValue(a.Value.Duration().String())
		}
		return a
	}}
	f, isFile := w.(*os.File)
	if cfg.Format == "text" || cfg.Format != "json" && isFile && term.IsTerminal(int(f.Fd())) {
		return slog.New(slog.NewTextHandler(w, o))
	}
	return slog.New(slog.NewJSONHandler(w, o))
}
