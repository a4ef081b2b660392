package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/audit/auditfile"
	"github.com/sealmq/sealmq/broker"
	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/engine/local"
	"github.com/sealmq/sealmq/internal/alert"
	"github.com/sealmq/sealmq/internal/backup"
	"github.com/sealmq/sealmq/internal/brokerproc"
	"github.com/sealmq/sealmq/internal/clock"
	"github.com/sealmq/sealmq/internal/httpkit"
	"github.com/sealmq/sealmq/internal/metrics"
	"github.com/sealmq/sealmq/listener"
	"github.com/sealmq/sealmq/mtls"
	"github.com/sealmq/sealmq/pipeline"
	"github.com/sealmq/sealmq/pipeline/mainclient"
	"github.com/sealmq/sealmq/pipeline/mainserver"
	"github.com/sealmq/sealmq/protocol"
	"github.com/sealmq/sealmq/protocol/text"
	"github.com/sealmq/sealmq/trust"
)

func newServeCmd() *cobra.Command {
	var readyJSON bool
	var profile string
	cmd := &cobra.Command{
		Use:   "serve [ROLE...]",
		Short: "Run the broker and the pipeline",
		Long: `Run a node until it is interrupted. The first start makes what is missing in the data folder: an
authority, certificates for this machine and for an administrator, keys and the store.

ROLE says what the node does:

  broker  exchanges and queues for clients with the line protocol, and the queue of the pipeline
  proxy   takes messages of the pipeline over HTTPS
  worker  delivers them from the queue to the main server
  main    stores them, and has the API for administrators
  portal  shows all of it to people in a browser

Without a role it does all of this.`,
		Example: `  sealmq serve
  sealmq serve broker`,
		Args:      checkRoles,
		ValidArgs: roles,
		RunE: func(cmd *cobra.Command, args []string) error {
			set, err := readSettings(cmd, (*Config).Validate)
			if err != nil {
				return err
			}
			cfg := set.Config
			warnOfReaders(cmd, set)
			set.warn(cmd)
			if info, err := os.Stat(cfg.Data); err == nil && !info.IsDir() {
				return withHint(fmt.Errorf("data folder %s is a file", cfg.Data), "name a folder with --data; if it does not exist, it is made")
			}
			stopProfile, err := startProfile(profile)
			if err != nil {
				return err
			}
			var ready io.Writer
			if readyJSON {
				ready = cmd.OutOrStdout()
			}
			reread := func() (settings, error) { return readSettings(cmd, (*Config).Validate) }
			return errors.Join(serve(cmd.Context(), set, reread, args, ready, cmd.ErrOrStderr()), stopProfile())
		},
	}
	configFlag(cmd.Flags(), "addr", "server.addr", "listen for clients on this address, `host:port`; port 0 is a free port")
	configFlag(cmd.Flags(), "metrics-addr", "metrics.addr", "serve metrics and health on this address, `host:port`, or off")
	cmd.Flags().BoolVar(&readyJSON, "ready-json", false, "print one JSON line to standard output when the node accepts clients")
	cmd.Flags().StringVar(&profile, "cpuprofile", "", "write a CPU profile to this `file`")
	_ = cmd.Flags().MarkHidden("cpuprofile")
	return cmd
}

// roles are what a node can do.
var roles = []string{"broker", "proxy", "worker", "main", "portal"}

func checkRoles(_ *cobra.Command, args []string) error {
	for _, a := range args {
		if !slices.Contains(roles, a) {
			hint := ""
			if list := strings.FieldsFunc(a, func(r rune) bool { return r == ',' || r == '+' }); len(list) > 1 {
				hint = "put blanks between roles: " + strings.Join(list, " ")
			}
			return usage(fmt.Errorf("there is no role %q; the roles are: %s", a, strings.Join(roles, ", ")), hint)
		}
	}
	return nil
}

// A node is what the parts of a running process share.
type node struct {
	cfg        Config
	log        *slog.Logger // for what is about no single role
	logs       *nodeLogs
	reread     func() (settings, error) // the configuration as it is now
	reloads    reloads
	registries map[string]*prometheus.Registry // of registryOf
	renewals   renewals
	acme       *acmeCerts // nil if the portal's certificate is a file
	readyJSON  io.Writer  // gets the ready line; may be nil
	terminal   io.Writer  // gets the first steps; nil if no person looks

	first bool // the data folder was made by this start
	files mtls.Files
	// authority is nil if the configuration names files.
	authority *ca.Authority
	revoked   *trust.RevocationList
	refused   mainclient.Refused   // whom the listeners did not let in
	auditFile *auditfile.File      // nil unless this node is a broker or a main server
	commands  *mainserver.Commands // those of administrators at this node's broker
	engine    *local.Engine
	backups   *backup.Manager // nil unless this node is a broker or a main server
	broker    *broker.Broker
	metrics   *metrics.Server  // nil if it is off
	server    *listener.Server // nil unless this node is a broker
	// Whether watchStore and watchRecords have reported a failure.
	storeReported, recordsReported atomic.Bool

	alerts    *alert.Manager // nil if nobody is told
	roles     []string
	pipeline  pipelineNode
	portal    *httpkit.Server             // nil unless this node has the role
	mainClock atomic.Pointer[clock.Other] // of the main server, if this node follows one
	// rechecks look again whether the peers of open connections may stay, one for each
	// listener.
	rechecks []func()
}

// logOf is the log of a role, or the node's if it does not have that.
func (n *node) logOf(role string) *slog.Logger { return cmp.Or(n.logs.loggers[role], n.log) }

// has reports whether the node has a role.
func (n *node) has(role string) bool { return slices.Contains(n.roles, role) }

// serve runs a node until ctx ends or a part fails.
func serve(ctx context.Context, set settings, reread func() (settings, error), wanted []string, readyJSON io.Writer, stderr io.Writer) error {
	if len(wanted) == 0 {
		wanted = roles
	}
	cfg := set.Config
	defer surviveBrokenPipes()()
	logs := openLogs(cfg, wanted, stderr)
	defer logs.close()
	n := &node{cfg: cfg, reread: reread, reloads: reloads{current: set}, roles: wanted, log: logs.node, logs: logs, readyJSON: readyJSON}
	if onTerminal(stderr) {
		n.terminal = stderr
	}
	garbage := gcMinPercent
	if n.has("proxy") || n.has("worker") || n.has("main") {
		garbage = gcPipelinePercent
	}
	defer tuneGC(garbage)()
	err := runParts(ctx, n.parts())
	if err == nil {
		n.log.Info("stopped")
	}
	return err
}

// parts are the parts of a node in the order in which they are started. Metrics are stopped
// after the listener, so that they show how its connections end.
func (n *node) parts() []part {
	list := []part{
		{name: "configuration", start: n.openReload, run: n.watchConfig, stop: n.closeReload},
		{name: "trust", start: n.openTrust, run: n.watchRevocations},
		{name: "revocations of the main server", start: func() error { return nil }, run: n.followRevocations},
		{name: "authority", start: func() error { return nil }, run: n.maintainCRL},
	}
	if !n.has("main") {
		list = append(list, n.renewalParts()...)
	}
	if n.has("broker") || n.has("main") {
		list = append(list, part{name: "audit", start: n.openAudit, stop: func(context.Context) error { return n.auditFile.Close() }})
	}
	if n.has("broker") {
		list = append(list, n.brokerParts()...)
	}
	list = append(list, n.pipelineParts()...)
	if n.has("portal") {
		list = append(list, n.portalParts()...)
	}
	// The last look comes before the store is closed: a closed store would raise an alert.
	list = append(list, background("alerts", n.openAlerts, n.runAlerts))
	return append(list, part{name: "announcement", start: n.announce, run: n.feedWatchdog, stop: n.sayStopping})
}

func (n *node) brokerParts() []part {
	list := []part{
		{name: "store", start: n.openStore, run: n.watchStore, stop: n.closeStore},
		{name: "broker", start: n.openBroker, stop: func(context.Context) error { return n.broker.Close() }},
	}
	if n.cfg.Metrics.Addr != "off" {
		list = append(list, part{name: "metrics", start: n.openMetrics,
			run:  func(context.Context) error { return n.metrics.Serve() },
			stop: func(ctx context.Context) error { return n.metrics.Shutdown(ctx) }})
	}
	return append(list,
		part{name: "listener", start: n.openServer, run: func(ctx context.Context) error { return n.server.Serve(ctx) }, stop: n.stopServer})
}

func (n *node) openTrust() error {
	if err := n.openFiles(); err != nil {
		return err
	}
	return n.openRevocations()
}

// openFiles completes the data folder, unless the configuration names files.
func (n *node) openFiles() error {
	t := n.cfg.TLS
	if t.Cert != "" {
		n.files = mtls.Files{Cert: t.Cert, Key: t.Key, CA: t.CA}
		return nil
	}
	if _, err := os.Stat(ca.In(n.cfg.Data).Root); errors.Is(err, os.ErrNotExist) {
		n.first = true
		if err := errors.Join(n.needsAuthority(), n.checkPorts()); err != nil {
			return err
		}
	}
	res, err := ca.Setup(n.cfg.Data, nil, ca.Options{Roles: n.certificateRoles(), Lists: n.cfg.revocationFiles(), KeyElsewhere: true})
	if err != nil {
		return err
	}
	if len(res.Made) > 0 {
		n.log.Info("made", "files", strings.Join(res.Made, " "))
	}
	for _, f := range res.Renewed {
		n.log.Info("renewed", "file", f)
	}
	for _, f := range res.Future {
		n.log.Warn("a certificate is valid only in the future: the clock was ahead when it was made, or is behind now", "file", f.File, "from", f.From, "made_again", slices.Contains(res.Renewed, f.File))
	}
	n.authority = res.Authority
	if !n.authority.HasKey() {
		n.log.Warn("the authority's key is not in the data folder: certificates and CRLs are not issued or renewed here")
	}
	n.reportGap(res)
	n.files = mtls.FilesIn(ca.In(n.cfg.Data).Certs(), ca.ServerName)
	return nil
}

// needsAuthority is the error of a node that would make an authority which nobody trusts:
// proxies and workers are let in with a certificate of the one that broker and main server have.
func (n *node) needsAuthority() error {
	if n.has("broker") || n.has("main") {
		return nil
	}
	p := ca.In(n.cfg.Data)
	return withHint(fmt.Errorf("%s is missing, and the role %s makes no authority of its own", p.Root, n.roles[0]),
		"enroll this host (docs/operations/apart.md), or name the data folder of the broker or main server with --data if it is here")
}

// certificateRoles are the roles of the pipeline that this node has.
func (n *node) certificateRoles() (list []sealmq.Role) {
	for _, role := range []sealmq.Role{sealmq.RoleProxy, sealmq.RoleWorker} {
		if n.has(string(role)) {
			list = append(list, role)
		}
	}
	return list
}

func (n *node) watchRevocations(ctx context.Context) error {
	n.revoked.Watch(ctx, func() {
		for _, recheck := range n.rechecks {
			recheck()
		}
	})
	return nil
}

// checkPorts checks that the addresses are free before a new data folder is made. So a
// second node that is started by mistake leaves no authority behind. The worker takes the next free
// port.
func (n *node) checkPorts() error {
	for _, at := range []struct{ role, setting, addr string }{
		{"broker", "server.addr", n.cfg.Server.Addr}, {"broker", "metrics.addr", n.cfg.Metrics.Addr},
		{"proxy", "proxy.addr", n.cfg.Proxy.Addr}, {"main", "main.addr", n.cfg.Main.Addr},
		{"portal", "portal.addr", n.cfg.Portal.Addr},
	} {
		if at.addr == "off" || !n.has(at.role) {
			continue
		}
		l, err := net.Listen("tcp", at.addr)
		if err == nil {
			err = l.Close()
		}
		if err != nil {
			return cannotListen(at.role, at.setting, err)
		}
	}
	return nil
}

// cannotListen says which role and which setting an address belongs to that cannot be used.
func cannotListen(role, setting string, err error) error {
	var op *net.OpError
	if !errors.As(err, &op) || op.Op != "listen" {
		return err
	}
	return fmt.Errorf("role %s: %s: %w", role, setting, op)
}

func (n *node) openBroker() error {
	counts := broker.NewMetrics()
	n.registryOf("broker").MustRegister(counts)
	logKey := n.logKeyFile()
	signer, made, err := trust.OpenLogSigner(logKey)
	if err != nil {
		return err
	}
	l := n.cfg.Limits
	n.broker, err = broker.New(broker.Config{
		Engine: n.engine, Log: n.logOf("broker"), Metrics: counts, PipelineQueue: pipeline.QueueName, OwnIssuer: n.revoked.OwnIssuer, Audit: n.auditSink("broker"),
		Directory: &broker.DirectoryConfig{Signer: signer, Verifier: trust.FileVerifier{CA: n.files.CA, Revocation: n.revoked}},
		Limits: broker.Limits{Exchanges: l.Exchanges, Bindings: l.Bindings, Queues: l.Queues, Keys: l.Keys,
			ExchangesPerIdentity: l.ExchangesPerIdentity, BindingsPerIdentity: l.BindingsPerIdentity, QueuesPerIdentity: l.QueuesPerIdentity,
			KeyLog: l.KeyLog, KeyChanges: l.KeyChanges, Chains: l.Chains},
	})
	switch {
	case err == nil && made && n.broker.Keys().Counts().Records > 0:
		n.log.Warn("the signing key of the key directory was missing, and a new one was made: clients that know the old one refuse the directory until they forget it; restore the file from a backup if there is one", "file", logKey)
	case made:
		n.log.Info("made", "file", logKey)
	}
	return err
}

func (n *node) openServer() error {
	tlsConfig, err := mtls.ServerConfig(n.files, mtls.Options{MinVersion: n.cfg.TLS.version(), Revocation: n.revoked.Peers(), Log: n.logOf("broker")})
	if err != nil {
		return err
	}
	limits, err := n.connectionLimits(n.cfg.Server)
	if err != nil {
		return err
	}
	s := n.cfg.Server
	limits.Memory, limits.Handshakes = int64(s.MaxMemoryBytes), s.MaxHandshakes
	limits.HandshakeTimeout, limits.WriteTimeout = s.HandshakeTimeout, s.WriteTimeout
	conns, words := listener.NewMetrics(), text.NewMetrics()
	n.registryOf("broker").MustRegister(conns, words)
	lines := text.Protocol(text.Config{Broker: n.broker, Metrics: words, Version: buildVersion().Version, Started: time.Now(),
		Limits: text.Limits{LineBytes: int(s.MaxLineBytes), Waiting: s.MaxUnconfirmed}})
	n.server, err = listener.Listen(listener.Config{
		Addr: s.Addr, TLS: tlsConfig, Identify: n.revoked.Identifier().Identify, Refused: n.refusedAt("broker"), Protocols: []protocol.Protocol{lines},
		Log: n.logOf("broker"), Metrics: conns, Limits: limits,
	})
	if err != nil {
		return cannotListen("broker", "server.addr", err)
	}
	n.rechecks = append(n.rechecks, n.server.Recheck)
	return nil
}

func (n *node) openMetrics() error {
	certs := metrics.NewCertificates(
		metrics.CertificateFile{Name: "server", Path: n.files.Cert},
		metrics.CertificateFile{Name: "authority", Path: n.files.CA})
	registry := n.registryOf("broker")
	registry.MustRegister(certs, metrics.NewQueues(n.engine.Queues, n.cfg.Metrics.MaxQueueSeries))
	logs := statusOf("log", n.logs.trouble)
	var err error
	n.metrics, err = metrics.Listen(metrics.Config{
		Addr: n.cfg.Metrics.Addr, Component: "broker", Registry: registry, Log: n.logOf("broker"),
		Live:  []metrics.Check{{Name: "store", Run: n.storeStatus}, logs},
		Ready: []metrics.Check{{Name: "store", Run: n.storeReady}, certs.Check(nil), {Name: "revocation", Run: n.revocationStatus}, statusOf("clock", n.clockTrouble), {Name: "renewal", Run: n.renewalStatus}, logs},
	})
	return cannotListen("broker", "metrics.addr", err)
}

// version is the oldest accepted TLS version. Validate allows no others.
func (t TLSConfig) version() uint16 {
	if t.MinVersion == "1.3" {
		return tls.VersionTLS13
	}
	return tls.VersionTLS12
}

// stopServer sends the replies of accepted commands. Clients that do not read them in time
// are disconnected, which is no error.
func (n *node) stopServer(ctx context.Context) error {
	if err := n.server.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

// announce logs and prints the node's addresses. At a first start it says how to go on. A node
// that is announced is one that "sealmq reload" reaches.
func (n *node) announce() error {
	n.register()
	p := &n.pipeline
	r := brokerproc.Ready{Data: n.cfg.Data, PID: os.Getpid(), Addr: addrOf(n.server), MetricsAddr: addrOf(n.metrics),
		MainAddr: addrOf(p.mainServer), ProxyAddr: addrOf(p.proxyServer), WorkerAddr: addrOf(p.workerPages), PortalAddr: addrOf(n.portal)}
	portalAt := ""
	if n.portal != nil {
		portalAt, _ = n.cfg.portalURL(r.PortalAddr)
	}
	n.log.Info("accepting clients", "addr", r.Addr, "metrics", r.MetricsAddr, "proxy", r.ProxyAddr, "worker", r.WorkerAddr, "main", r.MainAddr, "portal", portalAt, "data", r.Data)
	if n.first && r.ProxyAddr != "" {
		n.log.Info("send a first message", "to", "https://"+r.ProxyAddr+"/submit",
			"with", fmt.Sprintf(`sealmq submit --data %s --as %s --sender +4915200000000 --message hello`, shellWord(n.cfg.Data), ca.AdminName))
	}
	if n.first && n.terminal != nil && r.Addr != "" {
		fmt.Fprint(n.terminal, firstSteps(n.cfg, r.Addr))
	}
	n.offerSetup()
	n.notifySystemd(daemon.SdNotifyReady)
	if n.readyJSON == nil {
		return nil
	}
	return json.NewEncoder(n.readyJSON).Encode(r)
}

// addrOf is where a listener listens, or "" if the node has none.
func addrOf[T any, L interface {
	*T
	Addr() net.Addr
}](l L) string {
	if l == nil {
		return ""
	}
	return l.Addr().String()
}

func (n *node) sayStopping(context.Context) error {
	n.log.Info("stopping")
	n.notifySystemd(daemon.SdNotifyStopping)
	return nil
}
