package mainserver_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/crypto/bcrypt"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/audit"
	"github.com/sealmq/sealmq/audit/auditfile"
	"github.com/sealmq/sealmq/broker"
	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/internal/clock"
	"github.com/sealmq/sealmq/internal/httpkit"
	"github.com/sealmq/sealmq/internal/testing/testnode"
	"github.com/sealmq/sealmq/mtls"
	"github.com/sealmq/sealmq/pipeline"
	"github.com/sealmq/sealmq/pipeline/accounts"
	"github.com/sealmq/sealmq/pipeline/brokerview"
	"github.com/sealmq/sealmq/pipeline/mainserver"
	"github.com/sealmq/sealmq/pipeline/records"
	"github.com/sealmq/sealmq/pipeline/records/atrest"
	"github.com/sealmq/sealmq/seal"
	"github.com/sealmq/sealmq/trust"
)

// queue has dead items, and says how much it has.
type queue struct {
	mu     sync.Mutex
	err    error
	counts pipeline.Counts
	dead   []pipeline.DeadItem
	ready  []pipeline.Item
	listed int           // calls of Dead
	held   chan struct{} // Requeue waits until it is closed, if it is not nil
	holds  chan struct{} // gets a value when it begins to wait, if it is not nil
}

func (q *queue) Counts(context.Context) (pipeline.Counts, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	c := q.counts
	c.Ready, c.Dead = len(q.ready), len(q.dead)
	return c, q.err
}

func (q *queue) Dead(_ context.Context, limit int) ([]pipeline.DeadItem, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.listed++
	return slices.Clone(q.dead[:min(limit, len(q.dead))]), q.err
}

func (q *queue) Requeue(_ context.Context, ids []string) (n int, err error) {
	q.mu.Lock()
	if held, holds := q.held, q.holds; held != nil {
		q.mu.Unlock()
		if holds != nil {
			holds <- struct{}{}
		}
		<-held
		q.mu.Lock()
	}
	defer q.mu.Unlock()
	if q.err != nil {
		return 0, q.err
	}
	q.dead = slices.DeleteFunc(q.dead, func(d pipeline.DeadItem) bool {
		if ids != nil && !slices.Contains(ids, d.Item.MessageID) {
			return false
		}
		q.ready = append(q.ready, d.Item)
		n++
		return true
	})
	return n, nil
}

// Waiting shows what waits; its positions are indexes.
func (q *queue) Waiting(_ context.Context, from uint64, limit int) (items []pipeline.Item, next uint64, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	next = min(from, uint64(len(q.ready)))
	items = slices.Clone(q.ready[next:min(next+uint64(limit), uint64(len(q.ready)))])
	return items, next + uint64(len(items)), q.err
}

func (*queue) Enqueue(context.Context, []pipeline.Item) ([]pipeline.EnqueueResult, error) {
	panic("the main server puts nothing into the queue")
}
func (*queue) Consumer(string) (pipeline.Consumer, error) {
	panic("the main server takes nothing out of the queue")
}
func (*queue) Close() error   { return nil }
func (q *queue) set(f func()) { q.mu.Lock(); defer q.mu.Unlock(); f() }

// sink remembers records of the audit.
type sink struct {
	mu   sync.Mutex
	list []audit.Record
}

func (s *sink) Write(r audit.Record) { s.mu.Lock(); defer s.mu.Unlock(); s.list = append(s.list, r) }

// level is a level of the log; that of the configuration is info.
type level struct{ set atomic.Value }

func (l *level) Get() (string, bool) {
	set, _ := l.set.Load().(string)
	return cmp.Or(set, "info"), set == ""
}

func (l *level) Set(to string) error { l.set.Store(to); return nil }

// writes is the clock of a store. The store asks for the time when it writes a row, so that a
// test can act then, or let the write hang.
type writes struct {
	clock.Clock
	mu   sync.Mutex
	next func()
}

// onNext calls f at the next write, once.
func (w *writes) onNext(f func()) { w.mu.Lock(); defer w.mu.Unlock(); w.next = f }

func (w *writes) Now() time.Time {
	w.mu.Lock()
	f := w.next
	w.next = nil
	w.mu.Unlock()
	if f != nil {
		f()
	}
	return w.Clock.Now()
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}
func (b *lockedBuffer) String() string { b.mu.Lock(); defer b.mu.Unlock(); return b.b.String() }

// server is a main server that listens, with what is around it.
type server struct {
	*testing.T
	dir       string
	authority *ca.Authority
	revoked   *trust.RevocationList
	store     *records.Store
	queue     *queue
	audit     *sink
	log       *lockedBuffer
	registry  *prometheus.Registry
	sealer    *seal.Sealer
	url       string
	config    mainserver.Config
	handler   http.Handler
	listener  *httpkit.Server
	writes    *writes
	clients   map[string]*http.Client
	accounts  int                    // that account has made
	resets    chan [2]string         // e-mail addresses, and what was sent to them
	ahead     atomic.Int64           // by how much the clock is
	signing   atomic.Pointer[func()] // called once, when the authority next asks for the time
}

func (s *server) now() time.Time { return time.Now().Add(time.Duration(s.ahead.Load())) }

// aheadClock is the authority's clock, which goes like that of accounts.
type aheadClock struct {
	clock.Clock
	s *server
}

func (c aheadClock) Now() time.Time {
	if f := c.s.signing.Swap(nil); f != nil {
		(*f)()
	}
	return c.s.now()
}

// sendReset keeps the last reset link.
func (s *server) sendReset(email, token string) error {
	s.resets <- [2]string{email, token}
	return nil
}

// pass lets time pass, but not for the store.
func (s *server) pass(d time.Duration) { s.ahead.Add(int64(d)) }

// newServer starts a main server. change may be nil.
func newServer(t *testing.T, change func(*server, *mainserver.HandlerConfig)) *server {
	t.Helper()
	return startServer(t, false, change)
}

// startServer starts one that takes items in clear, or does not.
func startServer(t *testing.T, clear bool, change func(*server, *mainserver.HandlerConfig)) *server {
	t.Helper()
	s := &server{T: t, dir: filepath.Join(t.TempDir(), "data"), queue: &queue{}, audit: &sink{}, log: &lockedBuffer{}, writes: &writes{Clock: clock.System}, registry: prometheus.NewRegistry(),
		clients: make(map[string]*http.Client), resets: make(chan [2]string, 10)}
	result, err := ca.Setup(s.dir, nil, ca.Options{Clock: aheadClock{clock.System, s}})
	s.must(err)
	s.authority = result.Authority
	s.revoked, err = s.authority.Revocations(true, nil)
	s.must(err)
	s.store = s.openStore()
	p := s.authority.Paths()
	own, err := tls.LoadX509KeyPair(p.Cert(ca.ServerName), p.Key(ca.ServerName))
	s.must(err)
	keys, _, err := mainserver.OpenKeys(filepath.Join(t.TempDir(), "keys.pem"), true, func() (*seal.Signer, error) {
		return seal.NewSigner(ca.ServerName, own.Certificate, own.PrivateKey)
	})
	s.must(err)
	opener, err := keys.Opener(ca.ServerName, trust.NewVerifier(s.authority.Root()))
	s.must(err)
	log := slog.New(slog.NewJSONHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	s.config = mainserver.Config{Records: s.store, Keys: keys, Opener: opener, Registry: s.registry, TakeClear: clear, Now: s.now, Log: log}
	service, err := mainserver.New(s.config)
	s.must(err)
	people, err := accounts.New(accounts.Config{Store: s.store, Now: s.now, Cost: bcrypt.MinCost, JWTSecret: []byte(jwtSecret)})
	s.must(err)
	cfg := mainserver.HandlerConfig{Service: service, Store: s.store, Accounts: people, SendReset: s.sendReset, Queue: s.queue, Authority: s.authority, Revocations: s.revoked,
		Certificate: func() []*x509.Certificate { return []*x509.Certificate{own.Leaf} }, Audit: s.audit,
		AuditChain: func() (auditfile.Chain, error) { return auditfile.Chain{Records: 7, Broken: "it was changed"}, nil }, Version: "1.2.3", Log: log, LogLevel: new(level)}
	if change != nil {
		change(s, &cfg)
	}
	handler, err := mainserver.NewHandler(cfg)
	s.must(err)
	s.handler = handler
	conf, err := mtls.HTTPSConfig(mtls.Files{Cert: p.Cert(ca.ServerName), Key: p.Key(ca.ServerName), CA: p.CA}, mtls.Options{Revocation: s.revoked, AnswerRevoked: true})
	s.must(err)
	listener, err := httpkit.Listen("127.0.0.1:0", conf, handler, httpkit.Limits{})
	s.must(err)
	s.listener = listener
	done := make(chan error, 1)
	go func() { done <- listener.Serve() }()
	t.Cleanup(func() {
		listener.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	s.url = "https://" + listener.Addr().String()
	entries, err := keys.Entries(time.Now())
	s.must(err)
	entry, err := seal.ParseKeyEntry(entries[0])
	s.must(err)
	proxy := s.issue("proxy", sealmq.RoleProxy)
	s.sealer, err = seal.NewSealer(seal.SealerConfig{
		Signer:    func() (*seal.Signer, error) { return seal.NewSigner("proxy", proxy.Certificate, proxy.PrivateKey) },
		Receivers: []seal.Receiver{{Name: ca.ServerName, Key: entry.PublicKey()}},
	})
	s.must(err)
	return s
}

// withBroker gives a main server a real broker in this process.
func withBroker(node **testnode.Node) func(*server, *mainserver.HandlerConfig) {
	return func(s *server, cfg *mainserver.HandlerConfig) {
		n := testnode.Start(s.T, testnode.Config{})
		*node = n
		m := n.Broker().Manage(broker.Caller{Identity: sealmq.Identity{ID: "server", CommonName: "server", Role: sealmq.RoleServer}}, n.Server())
		cfg.Broker = brokerview.New(brokerview.Config{Connect: func(context.Context) (sealmq.Manager, error) { return m, nil }})
	}
}

func (s *server) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *server) openStore() *records.Store {
	s.Helper()
	key, err := atrest.ParseKey([]byte(strings.Repeat("1", 63) + "0"))
	s.must(err)
	ring, err := atrest.NewRing(1, map[uint16]atrest.Key{1: key})
	s.must(err)
	store, err := records.Open(s.Context(), records.Config{URL: "sqlite:" + filepath.Join(s.TempDir(), "records.db"), Keys: ring,
		Numbers: atrest.NewHasher(ring, nil), Clock: s.writes})
	s.must(err)
	s.Cleanup(func() { store.Close() })
	return store
}

// issue makes a certificate outside the API.
func (s *server) issue(name string, role sealmq.Role) tls.Certificate {
	s.Helper()
	c, err := s.authority.Issue(ca.Request{Name: name, Role: role})
	s.must(err)
	cert, err := tls.X509KeyPair(c.CertPEM, c.KeyPEM)
	s.must(err)
	return cert
}

// as is a client with a certificate of a role, always the same one; "" has none.
func (s *server) as(role sealmq.Role) *http.Client {
	s.Helper()
	if c := s.clients[string(role)]; c != nil {
		return c
	}
	var cert *tls.Certificate
	if role != "" {
		c := s.issue(string(role)+"-test", role)
		cert = &c
	}
	s.clients[string(role)] = s.with(cert)
	return s.clients[string(role)]
}

func (s *server) with(cert *tls.Certificate) *http.Client {
	conf := s.tlsConfig(cert)
	tr := &http.Transport{TLSClientConfig: conf, ForceAttemptHTTP2: true}
	s.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: time.Minute, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

func (s *server) tlsConfig(cert *tls.Certificate) *tls.Config {
	pool := x509.NewCertPool()
	pool.AddCert(s.authority.Root())
	conf := &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	if cert != nil {
		conf.Certificates = []tls.Certificate{*cert}
	}
	return conf
}

type answer struct {
	*http.Response
	body string
	m    map[string]any
}

func (s *server) ask(c *http.Client, method, path, body string, header ...string) answer {
	s.Helper()
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(s.Context(), method, s.url+path, reader)
	s.must(err)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	var a answer
	if a.Response, err = c.Do(req); err != nil {
		s.Fatalf("%s %s: %v", method, path, err)
	}
	defer a.Body.Close()
	b, err := io.ReadAll(a.Body)
	s.must(err)
	a.body = string(b)
	_ = json.Unmarshal(b, &a.m)
	return a
}

// want asks as an administrator and expects a status.
func (s *server) want(status int, method, path, body string, header ...string) answer {
	s.Helper()
	a := s.ask(s.as(sealmq.RoleAdmin), method, path, body, header...)
	if a.StatusCode != status {
		s.Errorf("%s %s %s: %d, want %d\n%s", method, path, body, a.StatusCode, status, a.body)
	}
	return a
}

func (a answer) str(name string) string { v, _ := a.m[name].(string); return v }

func (a answer) items() []map[string]any {
	list, _ := a.m["items"].([]any)
	var out []map[string]any
	for _, v := range list {
		m, _ := v.(map[string]any)
		out = append(out, m)
	}
	return out
}

const secretText, secretNumber = "a text that is secret", "+4915200000000"

// item is what a proxy seals.
func (s *server) item(client, id string) pipeline.Item {
	s.Helper()
	it := pipeline.Item{MessageID: id, ClientID: client, QueuedAt: time.Now()}
	s.must(pipeline.SealItem(s.sealer, &it, pipeline.Content{SenderNumber: secretNumber, MessageBody: secretText, Metadata: json.RawMessage(`{"k":"v"}`)}))
	return it
}

func toJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// register stores a message by the internal API.
func (s *server) register(client string, ids ...string) {
	s.Helper()
	for _, id := range ids {
		a := s.ask(s.as(sealmq.RoleProxy), "POST", "/api/v1/internal/messages/register", toJSON(map[string]any{"messages": []pipeline.Item{s.item(client, id)}}))
		if a.StatusCode != 200 || !strings.Contains(a.body, `"registered"`) {
			s.Fatalf("register: %d %s", a.StatusCode, a.body)
		}
	}
}

// fail makes a message fail for good, with its item among the dead ones.
func (s *server) fail(client, id string) {
	s.Helper()
	s.register(client, id)
	a := s.ask(s.as(sealmq.RoleWorker), "POST", "/api/v1/internal/messages/status",
		toJSON(map[string]any{"updates": []pipeline.Update{{MessageID: id, ClientID: client, State: pipeline.Failed, Attempts: 3, Error: pipeline.ReasonMaxAttempts}}}))
	if a.StatusCode != 200 || !strings.Contains(a.body, `"updated"`) {
		s.Fatalf("status: %d %s", a.StatusCode, a.body)
	}
	s.queue.set(func() {
		s.queue.dead = append(s.queue.dead, pipeline.DeadItem{Item: s.item(client, id), Reason: pipeline.ReasonMaxAttempts})
	})
}
