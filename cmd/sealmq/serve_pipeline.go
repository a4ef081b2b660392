package main

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/audit/auditfile"
	"github.com/sealmq/sealmq/broker"
	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/internal/httpkit"
	"github.com/sealmq/sealmq/internal/mail"
	"github.com/sealmq/sealmq/internal/metrics"
	"github.com/sealmq/sealmq/mtls"
	"github.com/sealmq/sealmq/pipeline"
	"github.com/sealmq/sealmq/pipeline/accounts"
	"github.com/sealmq/sealmq/pipeline/brokerqueue"
	"github.com/sealmq/sealmq/pipeline/brokerview"
	"github.com/sealmq/sealmq/pipeline/mainclient"
	"github.com/sealmq/sealmq/pipeline/mainserver"
	"github.com/sealmq/sealmq/pipeline/proxy"
	"github.com/sealmq/sealmq/pipeline/records"
	"github.com/sealmq/sealmq/pipeline/redisqueue"
	"github.com/sealmq/sealmq/pipeline/worker"
	"github.com/sealmq/sealmq/seal"
	"github.com/sealmq/sealmq/trust"
)

// This file has the roles of the pipeline. Each finds the others in this process, or where
// the configuration says.

// pipelineNode is what the roles of the pipeline share.
type pipelineNode struct {
	store       *records.Store
	queue       pipeline.Queue // as the main server sees it
	broker      *brokerview.View
	keys        *mainserver.Keys
	idKey       []byte
	service     *mainserver.Service
	history     *mainserver.History
	refused     *mainserver.Refused
	sharing     *mainserver.Sharing // nil if no other main server can have the database
	accounts    *accounts.Service
	mainRouter  *httpkit.Router
	newKeys     chan struct{} // says that the keys for records have changed
	mail        *mail.Sender  // nil if there is no mail server
	mainServer  *httpkit.Server
	proxy       *proxy.Proxy
	proxyServer *httpkit.Server
	worker      *worker.Worker
	workerPages *metrics.Server                   // nil if it is off
	redis       map[sealmq.Role]*redisqueue.Queue // if the queue is there
	closers     []func() error                    // queues and clients, in the order in which they were opened
}

// pipelineParts are the parts of the roles proxy, worker and main, in the order in which they
// are started.
func (n *node) pipelineParts() (list []part) {
	if n.has("main") {
		list = append(list,
			part{name: "records", start: n.openRecords, run: n.watchRecords, stop: n.closeRecords},
			part{name: "main server", start: n.openService})
	}
	if n.has("broker") || n.has("main") {
		list = append(list, background("backups", n.openBackups, n.makeBackups))
	}
	list = append(list, part{name: "connections of the pipeline", start: func() error { return nil }, stop: n.closePipeline})
	if n.has("main") {
		list = append(list, background("view of the broker", n.openBrokerView, n.viewBroker), background("mails", n.openMail, n.sendMails), part{name: "listener of the main server", start: n.openMainListener,
			run:  func(context.Context) error { return n.pipeline.mainServer.Serve() },
			stop: func(ctx context.Context) error { return n.pipeline.mainServer.Shutdown(ctx) }},
			background("rows of waiting messages", func() error { return nil }, n.registerWaiting),
			background("history of the messages", func() error { return nil }, n.keepHistory),
			background("records of who was refused", func() error { return nil }, n.recordRefused),
			background("re-encryption", func() error { return nil }, n.reencrypt),
			background("revocations of other main servers", func() error { return nil }, n.shareRevocations),
			background("clients of the authority", func() error { return nil }, n.syncClients))
	}
	if n.has("proxy") {
		list = append(list,
			background("proxy", n.openProxy, func(ctx context.Context) error { return n.pipeline.proxy.Run(ctx) }),
			part{name: "listener of the proxy", start: n.openProxyListener,
				run:  func(context.Context) error { return n.pipeline.proxyServer.Serve() },
				stop: func(ctx context.Context) error { return n.pipeline.proxyServer.Shutdown(ctx) }})
	}
	if n.has("worker") {
		list = append(list, background("worker", n.openWorker, func(ctx context.Context) error { return n.pipeline.worker.Run(ctx) }))
		if n.cfg.Worker.Addr != "off" {
			list = append(list, part{name: "pages of the worker", start: n.openWorkerPages,
				run:  func(context.Context) error { return n.pipeline.workerPages.Serve() },
				stop: func(ctx context.Context) error { return n.pipeline.workerPages.Shutdown(ctx) }})
		}
	}
	return list
}

// background is a part that finishes its work before the parts that it uses are stopped.
func background(name string, start func() error, run func(context.Context) error) part {
	var runs atomic.Bool
	done := make(chan struct{})
	return part{name: name, start: start,
		run: func(ctx context.Context) error {
			runs.Store(true)
			defer close(done)
			return run(ctx)
		},
		stop: func(ctx context.Context) error {
			if runs.Load() {
				select {
				case <-done:
				case <-ctx.Done():
				}
			}
			return nil
		}}
}

// closePipeline closes queues and clients.
func (n *node) closePipeline(context.Context) error {
	var errs []error
	for _, c := range n.pipeline.closers {
		errs = append(errs, c())
	}
	return errors.Join(errs...)
}

// pipelineFolder has the keys of the pipeline's roles.
func (n *node) pipelineFolder() string { return filepath.Join(n.cfg.Data, "pipeline") }

// identity is who a role is: its certificate is named like it.
func identity(role sealmq.Role) sealmq.Identity {
	return sealmq.Identity{ID: string(role), CommonName: string(role), Role: role}
}

// roleLog is the log of the part of this node that has a role in the pipeline.
func (n *node) roleLog(role sealmq.Role) *slog.Logger {
	if role == sealmq.RoleServer {
		return n.logOf("main")
	}
	return n.logOf(string(role))
}

// roleFiles are the certificate files of a role.
func (n *node) roleFiles(role sealmq.Role) mtls.Files {
	if role == sealmq.RoleServer {
		return n.files
	}
	p := ca.In(n.cfg.Data)
	return mtls.Files{Cert: p.Cert(string(role)), Key: p.Key(string(role)), CA: n.files.CA}
}

// listenHTTPS opens the listener of a role.
func (n *node) listenHTTPS(role sealmq.Role, addr string, router *httpkit.Router) (*httpkit.Server, error) {
	conf, err := mtls.HTTPSConfig(n.roleFiles(role), mtls.Options{MinVersion: n.cfg.TLS.version(), Revocation: n.revoked.Peers(), AnswerRevoked: true, Log: n.roleLog(role)})
	if err != nil {
		return nil, err
	}
	n.rechecks = append(n.rechecks, router.Recheck)
	return httpkit.Listen(addr, conf, router, httpkit.Limits{MaxConnections: httpsConnections()})
}

// patience is how long a start waits to learn whether the broker is there and lets the role in.
const patience = 3 * time.Second

// heartbeat is after how long a silent broker is asked for a sign of life. Other roles wait for it,
// so they are to notice soon that the network has lost it.
const heartbeat = 10 * time.Second

// queueFor opens the pipeline's queue as a role. The broker may be away.
func (n *node) queueFor(role sealmq.Role) (pipeline.Queue, error) {
	if n.cfg.Redis.set() {
		return n.redisFor(role)
	}
	own := n.own(role)
	connect := func(context.Context) (sealmq.Connection, error) {
		return n.broker.Connect(broker.Caller{Identity: identity(role)}), own.err()
	}
	if !n.has("broker") {
		dial, err := n.brokerDialer(role)
		if err != nil {
			return nil, err
		}
		connect = func(ctx context.Context) (sealmq.Connection, error) {
			c, err := dial(ctx)
			if err != nil {
				return nil, err
			}
			return c, nil
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	q, err := brokerqueue.Open(ctx, connect, n.roleLog(role))
	if err != nil {
		err = fmt.Errorf("the queue of the pipeline: %w", err)
		if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
			err = withHint(err, "this data folder has another authority than the broker; put the broker's ca/root.crt and ca/intermediate.crt into it before the first start, and the role's certificate and key")
		}
		return nil, err
	}
	n.pipeline.closers = append(n.pipeline.closers, q.Close)
	if n.has("broker") {
		return &ownQueue{q, own}, nil
	}
	return q, nil
}

// brokerDialer connects to the broker in another process as a role.
func (n *node) brokerDialer(role sealmq.Role) (func(context.Context) (*client.Client, error), error) {
	files := n.roleFiles(role)
	conf, err := mtls.ClientConfig(files, mtls.ClientOptions{Options: mtls.Options{Revocation: n.revoked, Log: n.roleLog(role)}})
	if err != nil {
		return nil, err
	}
	name, err := nameIn(files.Cert)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) (*client.Client, error) {
		c, err := client.Dial(ctx, client.Config{Addr: n.cfg.Pipeline.Broker, TLS: conf, Name: name, Meta: true, MaxLineBytes: maxBrokerLine, Heartbeat: heartbeat, Log: n.roleLog(role)})
		if client.Unreachable(err) {
			return nil, &sealmq.Error{Code: sealmq.Unavailable, Message: "the broker cannot be reached", Err: err}
		}
		return c, err
	}, nil
}

// mainFor is the main server as a role sees it.
func (n *node) mainFor(role sealmq.Role) (pipeline.Main, error) {
	if n.has("main") {
		return n.pipeline.service.For(identity(role), n.own(role).err), nil
	}
	c, err := n.mainClient(role)
	if err != nil {
		return nil, err
	}
	n.pipeline.closers = append(n.pipeline.closers, c.Close)
	return c, nil
}

// mainClient calls the main server in another process as a role.
func (n *node) mainClient(role sealmq.Role) (*mainclient.Client, error) {
	conf, err := mtls.ClientConfig(n.roleFiles(role), mtls.ClientOptions{Options: mtls.Options{Revocation: n.revoked, Log: n.roleLog(role)}})
	if err != nil {
		return nil, err
	}
	c, err := mainclient.New(n.cfg.Pipeline.mainURL(), conf)
	return c, withHint(err, "set pipeline.main, or run the role main in this process")
}

// openService opens the main server itself.
func (n *node) openService() error {
	own, err := n.signerOf(sealmq.RoleServer)()
	if err != nil {
		return err
	}
	keys := n.pipeline.keys
	opener, err := keys.Opener(own.Name(), n.verifier(n.files.CA))
	if err != nil {
		return err
	}
	n.pipeline.service, err = mainserver.New(mainserver.Config{Records: n.pipeline.store, Now: n.pipeline.store.Now, Keys: keys, Opener: opener, IDKey: n.pipeline.idKey,
		MaxBody: n.cfg.Pipeline.MaxBody, MinNumber: n.cfg.Pipeline.MinNumber, TakeClear: n.cfg.Main.Unsealed == "take", Registry: n.registryOf("main"), Log: n.logOf("main")})
	if n.authority != nil {
		n.registryOf("main").MustRegister(n.crlCollector())
	}
	return err
}

// verifier believes the authorities in a file as it is at the time, and the roles of our own.
func (n *node) verifier(file string) seal.Verifier {
	return trust.FileVerifier{CA: file, OwnRoot: ca.In(n.cfg.Data).Root, Revocation: n.revoked}
}

// openMainListener opens the main server's API.
func (n *node) openMainListener() error {
	if n.authority == nil {
		return withHint(errors.New("the role main has no authority"),
			`leave tls.cert, tls.key and tls.ca empty, so that the authority in the data folder is used, or start the other roles only, as with "sealmq serve broker"`)
	}
	queue, err := n.queueFor(sealmq.RoleServer)
	if err != nil {
		return err
	}
	n.pipeline.queue = queue
	n.openHistory()
	n.pipeline.refused = mainserver.NewRefused(n.pipeline.store, n.auditSink("main"), n.pipeline.store.Now)
	if n.pipeline.store.Shared() {
		n.pipeline.sharing = mainserver.NewSharing(n.pipeline.store, n.authority, n.revoked)
	}
	if err := n.openAccounts(); err != nil {
		return err
	}
	sendReset := n.sendReset
	if n.pipeline.mail == nil {
		sendReset = nil
	}
	var router *httpkit.Router
	live := func(ctx context.Context, client string) ([]mainserver.LiveConnection, bool) {
		return n.liveConnections(ctx, client, router)
	}
	router, err = mainserver.NewHandler(mainserver.HandlerConfig{Service: n.pipeline.service, Store: n.pipeline.store, Accounts: n.pipeline.accounts, SendReset: sendReset, Queue: queue, Broker: n.pipeline.broker,
		Authority: n.authority, Revocations: n.revoked, Identifier: n.revoked.Identifier(), Roots: func() []*x509.Certificate { return authorities(n.files.CA) }, Certificate: n.chainOf(sealmq.RoleServer), Live: live, History: n.pipeline.history, Address: n.cfg.mainAddress(), RenewFor: n.cfg.CA.RenewFor, Disk: n.diskSpace, Audit: n.auditSink("main"),
		Refused: n.pipeline.refused, Sharing: n.pipeline.sharing, HandshakeFailed: n.refusedAt("main"),
		AuditChain: func() (auditfile.Chain, error) { return auditfile.Verify(n.auditPath()) },
		LogLevel:   levelOfLogs{n}, Backups: n.backups,
		Checks: append(n.redisChecks(sealmq.RoleServer), healthOf("clock", n.clockTrouble), healthOf("log", n.logs.trouble), healthOf("backup", n.backups.Health)), Version: buildVersion().Version, Log: n.logOf("main")})
	if err != nil {
		return err
	}
	n.pipeline.mainRouter = router
	n.pipeline.mainServer, err = n.listenHTTPS(sealmq.RoleServer, n.cfg.Main.Addr, router)
	return cannotListen("main", "main.addr", err)
}

// mainAddress is where other machines reach the main server of this node, or "" if that cannot
// be told from the configuration.
func (c *Config) mainAddress() string {
	if c.Pipeline.Main != "" {
		return c.Pipeline.mainURL()
	}
	host, port, err := net.SplitHostPort(c.Main.Addr)
	if err != nil || port == "0" {
		return ""
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		if host, err = os.Hostname(); err != nil {
			return ""
		}
		host = strings.ToLower(host)
	}
	return "https://" + net.JoinHostPort(host, port)
}

// registerWaiting makes the rows that proxies have not made.
func (n *node) registerWaiting(ctx context.Context) error {
	n.pipeline.service.RegisterWaiting(ctx, n.pipeline.queue)
	return nil
}

// signerOf returns the signer of a role's certificate as it is now.
func (n *node) signerOf(role sealmq.Role) func() (*seal.Signer, error) {
	return func() (*seal.Signer, error) {
		files := n.roleFiles(role)
		certs, err := mtls.ReadCertificates(files.Cert)
		if err != nil {
			return nil, err
		}
		name := string(role)
		if names := mtls.Names(certs[0]); len(names) > 0 {
			name = names[0]
		}
		return trust.ReadSigner(files, name)
	}
}

// openProxy opens the proxy and its listener.
func (n *node) openProxy() error {
	c := n.cfg.Proxy
	queue, err := n.queueFor(sealmq.RoleProxy)
	if err != nil {
		return err
	}
	main, err := n.mainFor(sealmq.RoleProxy)
	if err != nil {
		return err
	}
	if err := durable.MkdirAll(durable.OS(), n.pipelineFolder(), 0o700); err != nil {
		return err
	}
	if _, err := mtls.ReadAuthorities(ca.In(n.cfg.Data).Root); err != nil {
		return err // a missing root is better known now than at the first message
	}
	networks, err := parseNetworks(c.TrustedNetworks)
	if err != nil {
		return fmt.Errorf("proxy.trusted_networks: %w", err)
	}
	n.pipeline.proxy, err = proxy.New(proxy.Config{
		Queue: queue, Main: main, Signer: n.signerOf(sealmq.RoleProxy), Certificate: n.chainOf(sealmq.RoleProxy),
		Revocation: n.revoked, Identifier: n.revoked.Identifier(), OwnIssuer: n.revoked.OwnIssuer, Stale: n.revoked.Stale, Denied: n.deniedAt("proxy"), Refused: n.refusedAt("proxy"), Checks: append(n.redisChecks(sealmq.RoleProxy), httpkit.Check{Name: "revocations", Run: n.revocationHealth}, healthOf("clock", n.clockTrouble), httpkit.Check{Name: "renewal", Run: n.renewalHealth}, healthOf("log", n.logs.trouble)),
		Verifier: n.verifier(ca.In(n.cfg.Data).Root), KeyCache: filepath.Join(n.pipelineFolder(), "main.key.cache"), IDKeyFile: filepath.Join(n.pipelineFolder(), "ids.key"), MaxBody: n.cfg.Pipeline.MaxBody, MinNumber: n.cfg.Pipeline.MinNumber,
		Rate: &httpkit.Rate{PerSecond: c.Rate, Burst: c.Burst}, TrustedProxies: networks, APIKeyFile: apiKeyFile(n.cfg.Data),
		Version: buildVersion().Version, Registry: n.registryOf("proxy"), Log: n.logOf("proxy"),
	})
	return err
}

func (n *node) openProxyListener() (err error) {
	n.pipeline.proxyServer, err = n.listenHTTPS(sealmq.RoleProxy, n.cfg.Proxy.Addr, n.pipeline.proxy.Router())
	return cannotListen("proxy", "proxy.addr", err)
}

// chainOf returns the certificate of a role with its chain, root last, as it is now.
func (n *node) chainOf(role sealmq.Role) func() []*x509.Certificate {
	return func() []*x509.Certificate {
		chain, err := mtls.ReadCertificates(n.roleFiles(role).Cert)
		if err != nil {
			return nil
		}
		return append(chain, authorities(ca.In(n.cfg.Data).Root)...)
	}
}

// parseNetworks reads networks such as 10.0.0.0/8, and addresses, with commas between them.
func parseNetworks(text string) (list []netip.Prefix, err error) {
	for word := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == ',' || r == ' ' }) {
		p, err := netip.ParsePrefix(word)
		if err != nil {
			a, errAddr := netip.ParseAddr(word)
			if errAddr != nil {
				return nil, fmt.Errorf("%q is not a network such as 10.0.0.0/8", word)
			}
			p = netip.PrefixFrom(a, a.BitLen())
		}
		list = append(list, p)
	}
	return list, nil
}

// maxWorkerPorts is how many ports after the first are tried: further workers of a machine
// take the next free one.
const maxWorkerPorts = 100

// openWorker opens the worker.
func (n *node) openWorker() error {
	c := n.cfg.Worker
	queue, err := n.queueFor(sealmq.RoleWorker)
	if err != nil {
		return err
	}
	main, err := n.mainFor(sealmq.RoleWorker)
	if err != nil {
		return err
	}
	n.pipeline.worker, err = worker.New(worker.Config{Name: n.workerName(), Queue: queue, Main: main, Concurrency: c.Concurrency, Batch: c.Batch,
		RetryInterval: c.RetryInterval, MaxAttempts: c.MaxAttempts, Drain: stopTime / 2, Log: n.logOf("worker")})
	return err
}

// openWorkerPages opens the listener for the worker's metrics and health.
func (n *node) openWorkerPages() (err error) {
	registry := n.registryOf("worker")
	registry.MustRegister(n.pipeline.worker.Metrics())
	cfg := metrics.Config{Addr: n.cfg.Worker.Addr, Component: "worker", Registry: registry, Log: n.logOf("worker"), Ready: []metrics.Check{{Name: "worker", Run: n.workerStatus}, {Name: "revocation", Run: n.revocationStatus}, statusOf("clock", n.clockTrouble), {Name: "renewal", Run: n.renewalStatus},
		statusOf("log", n.logs.trouble), statusOf("redis_persistence", n.redisTrouble)},
		Health: http.HandlerFunc(n.workerHealth)}
	for range maxWorkerPorts {
		if n.pipeline.workerPages, err = metrics.Listen(cfg); !errors.Is(err, syscall.EADDRINUSE) {
			break
		}
		next, ok := nextPort(cfg.Addr)
		if !ok {
			break
		}
		cfg.Addr = next
	}
	return cannotListen("worker", "worker.addr", err)
}

// workerHealth answers with the health of the worker in the design documents' form.
func (n *node) workerHealth(w http.ResponseWriter, _ *http.Request) {
	h := n.pipeline.worker.Health()
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if h.Status != "healthy" {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(h) // fails only if the peer has gone
}

func (n *node) workerStatus() (metrics.Status, string) {
	h := n.pipeline.worker.Health()
	if h.Status == "healthy" {
		return metrics.OK, ""
	}
	return metrics.Degraded, fmt.Sprintf("queue: %s; main server: %s", h.Checks["queue"], h.Checks["main_server"])
}

// nextPort is the address with the port after it, if it names one.
func nextPort(addr string) (string, bool) {
	host, port, err := net.SplitHostPort(addr)
	n, errPort := strconv.Atoi(port)
	return net.JoinHostPort(host, strconv.Itoa(n+1)), err == nil && errPort == nil && n > 0 && n < 65535
}
