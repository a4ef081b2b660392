package proxy_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/httpkit"
	"github.com/sealmq/sealmq/internal/testing/testca"
	"github.com/sealmq/sealmq/mtls"
	"github.com/sealmq/sealmq/pipeline"
	"github.com/sealmq/sealmq/pipeline/proxy"
	"github.com/sealmq/sealmq/seal"
	"github.com/sealmq/sealmq/trust"
)

// queue keeps items in memory and recognises repeats, as every queue does.
type queue struct {
	mu     sync.Mutex
	items  []pipeline.Item
	calls  [][]pipeline.Item
	err    error
	refuse error                    // of each item
	lose   func(pipeline.Item) bool // whose answer is lost; may be nil
	hold   chan struct{}            // if not nil, Enqueue waits for an element or its context
	deaf   bool                     // it waits for an element only

	patience time.Duration // how long the last call would have waited
}

func (q *queue) Enqueue(ctx context.Context, items []pipeline.Item) ([]pipeline.EnqueueResult, error) {
	q.mu.Lock()
	hold, given := q.hold, ctx.Done()
	if q.deaf {
		given = nil
	}
	if end, ok := ctx.Deadline(); ok {
		q.patience = time.Until(end)
	}
	q.calls = append(q.calls, items)
	q.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-given:
			return nil, &sealmq.Error{Code: sealmq.Unavailable, Message: "the queue does not answer", Err: ctx.Err()}
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err != nil {
		return nil, q.err
	}
	out := make([]pipeline.EnqueueResult, len(items))
	for i, it := range items {
		out[i].Outcome = pipeline.Stored
		if q.refuse != nil {
			out[i] = pipeline.EnqueueResult{Outcome: pipeline.Refused, Err: q.refuse}
			continue
		}
		if q.lose != nil && q.lose(it) {
			defer func() { out[i] = pipeline.EnqueueResult{Outcome: pipeline.Unknown, Err: sealmq.ErrInterrupted} }()
		}
		if j := slices.IndexFunc(q.items, func(o pipeline.Item) bool { return o.MessageID == it.MessageID }); j >= 0 {
			out[i].Outcome = pipeline.Duplicate
			if !bytes.Equal(q.items[j].Digest, it.Digest) {
				out[i].Outcome = pipeline.Conflict
			}
			continue
		}
		q.items = append(q.items, it)
	}
	return out, nil
}

func (q *queue) Counts(context.Context) (pipeline.Counts, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return pipeline.Counts{Ready: len(q.items)}, q.err
}

func (*queue) Consumer(string) (pipeline.Consumer, error)             { return nil, errors.New("no") }
func (*queue) Dead(context.Context, int) ([]pipeline.DeadItem, error) { return nil, nil }
func (*queue) Requeue(context.Context, []string) (int, error)         { return 0, nil }
func (*queue) Waiting(context.Context, uint64, int) ([]pipeline.Item, uint64, error) {
	return nil, 0, nil
}
func (*queue) Close() error   { return nil }
func (q *queue) set(f func()) { q.mu.Lock(); defer q.mu.Unlock(); f() }
func (q *queue) stored() []pipeline.Item {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Clone(q.items)
}

// mainServer has a key and remembers what is registered.
type mainServer struct {
	mu         sync.Mutex
	keys       [][]byte
	idKey      []byte
	err        error
	hold       chan struct{}
	registered []pipeline.Item
	asked      int // for keys
}

func (m *mainServer) set(f func()) { m.mu.Lock(); defer m.mu.Unlock(); f() }

func (m *mainServer) rows() []pipeline.Item {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.registered)
}

func (m *mainServer) Register(ctx context.Context, items []pipeline.Item) ([]pipeline.Result, error) {
	m.mu.Lock()
	hold := m.hold
	m.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return nil, m.err
	}
	out := make([]pipeline.Result, len(items))
	for i, it := range items {
		out[i] = pipeline.Result{MessageID: it.MessageID, Status: pipeline.StatusRegistered}
		m.registered = append(m.registered, it)
	}
	return out, nil
}

func (*mainServer) Deliver(context.Context, string, []pipeline.Item) ([]pipeline.Result, error) {
	return nil, errors.New("no")
}

func (*mainServer) Status(context.Context, []pipeline.Update) ([]pipeline.Result, error) {
	return nil, errors.New("no")
}

func (m *mainServer) Find(_ context.Context, clientID, id string) (pipeline.MessageState, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, it := range m.registered {
		if it.ClientID == clientID && it.MessageID == id {
			return pipeline.MessageState{MessageID: id, ClientID: clientID, ClientKey: it.ClientKey, State: pipeline.Queued, Domain: it.Domain, QueuedAt: it.QueuedAt}, true, m.err
		}
	}
	return pipeline.MessageState{}, false, m.err
}

func (m *mainServer) Keys(context.Context) (pipeline.Keys, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked++
	return pipeline.Keys{Entries: m.keys, IDKey: m.idKey}, m.err
}

// revocations is a list that a test changes.
type revocations struct {
	mu                  sync.Mutex
	fingerprints, names []string
}

func (r *revocations) revoke(c *x509.Certificate) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fingerprints = append(r.fingerprints, mtls.Fingerprint(c))
}

func (r *revocations) revokeName(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.names = append(r.names, name)
}

func (r *revocations) Check(chain []*x509.Certificate) error {
	if r.RevokesFingerprint(mtls.Fingerprint(chain[0])) || r.RevokesName(chain[0].Subject.CommonName) {
		return mtls.ErrRevoked
	}
	return nil
}

func (r *revocations) RevokesName(name string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Contains(r.names, name)
}

func (r *revocations) RevokesFingerprint(fp string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Contains(r.fingerprints, fp)
}

// world is a proxy that listens, with what is around it.
type world struct {
	t        testing.TB
	ca       *testca.CA
	queue    *queue
	main     *mainServer
	revoked  *revocations
	registry *prometheus.Registry
	log      *lockedBuffer
	proxy    *proxy.Proxy
	opener   *seal.Opener
	verifier *trust.Verifier // of the opener
	own      tls.Certificate
	url      string
	stop     func()
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

// newWorld makes a proxy whose key of the main server is there. change may be nil.
func newWorld(t testing.TB, change func(*world, *proxy.Config)) *world {
	t.Helper()
	w := &world{t: t, ca: testca.New(t), queue: &queue{}, main: &mainServer{idKey: bytes.Repeat([]byte{7}, pipeline.IDKeyBytes)}, revoked: &revocations{}, registry: prometheus.NewRegistry(), log: &lockedBuffer{}}
	w.own, w.verifier = w.ca.Leaf("proxy", sealmq.RoleProxy), w.ca.Verifier()
	w.opener = w.newKey(sealmq.RoleServer)
	cfg := minimal(w)
	cfg.Registry, cfg.Version = w.registry, "1.2.3"
	cfg.Log = slog.New(slog.NewJSONHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	if change != nil {
		change(w, &cfg)
	}
	var err error
	if w.proxy, err = proxy.New(cfg); err != nil {
		t.Fatal(err)
	}
	w.listenWith(nil)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); w.proxy.Run(ctx) }()
	w.stop = sync.OnceFunc(func() { cancel(); <-done })
	t.Cleanup(w.stop)
	return w
}

// newKey gives the main server a key that a certificate of the role signs, and returns who
// can open what is sealed for it.
func (w *world) newKey(role sealmq.Role) *seal.Opener { return w.newKeyOf(w.ca.Leaf("server", role)) }

func (w *world) newKeyOf(leaf tls.Certificate) *seal.Opener {
	w.t.Helper()
	key, err := seal.Generate(seal.DefaultSuite, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	signer, err := seal.NewSigner("server", leaf.Certificate, leaf.PrivateKey)
	if err != nil {
		w.t.Fatal(err)
	}
	entry, err := seal.NewKeyEntry(signer, seal.KeyEntry{Key: key.Public()})
	if err != nil {
		w.t.Fatal(err)
	}
	ring, err := seal.NewKeyring(key)
	if err != nil {
		w.t.Fatal(err)
	}
	opener, err := seal.NewOpener(seal.OpenerConfig{Name: "server", Keys: ring, Verifier: w.verifier})
	if err != nil {
		w.t.Fatal(err)
	}
	w.main.set(func() { w.main.keys = [][]byte{entry} })
	return opener
}

// minimal is a configuration that another proxy of the world could have.
func minimal(w *world) proxy.Config {
	verifier := w.ca.Verifier()
	verifier.Revocation = w.revoked
	identifier := mtls.NewIdentifier(w.ca.Root())
	identifier.Revocation = w.revoked
	return proxy.Config{
		Queue: w.queue, Main: w.main, Revocation: w.revoked, Verifier: verifier, Identifier: identifier, OwnIssuer: issuedBy(w.ca.Root()),
		Signer: func() (*seal.Signer, error) {
			return seal.NewSigner("proxy", w.own.Certificate, w.own.PrivateKey)
		},
		Certificate: func() []*x509.Certificate { return []*x509.Certificate{w.own.Leaf, w.ca.Root()} },
	}
}

// issuedBy knows the Issuer of certificates below some roots.
func issuedBy(roots ...*x509.Certificate) func(string) bool {
	return func(issuer string) bool {
		return slices.ContainsFunc(roots, func(root *x509.Certificate) bool { return mtls.Issuer(root) == issuer })
	}
}

// listenWith is a listener that accepts imported authorities too.
func (w *world) listenWith(imported []byte) {
	w.t.Helper()
	f := w.ca.Files()
	testca.WriteFile(w.t, f.CA, append(w.ca.RootPEM(), imported...))
	conf, err := mtls.HTTPSConfig(mtls.Files{Cert: f.ServerCert, Key: f.ServerKey, CA: f.CA}, mtls.Options{Revocation: w.revoked, AnswerRevoked: true})
	if err != nil {
		w.t.Fatal(err)
	}
	s, err := httpkit.Listen("127.0.0.1:0", conf, w.proxy.Router(), httpkit.Limits{})
	if err != nil {
		w.t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve() }()
	w.t.Cleanup(func() {
		s.Close()
		if err := <-done; err != nil {
			w.t.Error(err)
		}
	})
	w.url = "https://" + s.Addr().String()
}

// ready waits for the key of the main server.
func (w *world) ready() *world {
	w.t.Helper()
	w.eventually("the key is not there", func() bool { return strings.Contains(w.log.String(), "sealed for the main server's key") })
	return w
}

func (w *world) eventually(what string, ok func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			w.t.Fatal(what)
		}
		<-time.After(5 * time.Millisecond)
	}
}

func (w *world) client(conf *tls.Config, http2 bool) *http.Client {
	tr := &http.Transport{TLSClientConfig: conf, ForceAttemptHTTP2: http2, MaxIdleConnsPerHost: 100}
	w.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: time.Minute, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

func (w *world) as(name string) *http.Client { return w.client(w.ca.ClientTLS(name), true) }

type answer struct {
	*http.Response
	body string
	m    map[string]any
}

func (w *world) ask(c *http.Client, method, path, body string, header ...string) answer {
	w.t.Helper()
	a, err := w.try(c, method, path, body, header...)
	if err != nil {
		w.t.Fatalf("%s %s: %v", method, path, err)
	}
	return a
}

func (w *world) try(c *http.Client, method, path, body string, header ...string) (a answer, err error) {
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	req, err := http.NewRequest(method, w.url+path, reader)
	if err != nil {
		return a, err
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	if a.Response, err = c.Do(req); err != nil {
		return a, err
	}
	defer a.Body.Close()
	b, err := io.ReadAll(a.Body)
	a.body = string(b)
	json.Unmarshal(b, &a.m)
	return a, err
}

const good = `{"sender_number": "+4915200000000", "message_body": "Test message"}`

// open reads an item as the main server does.
func (w *world) open(it pipeline.Item) pipeline.Content {
	w.t.Helper()
	c, _, err := pipeline.OpenItem(w.opener, &it)
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// count reads one series of the proxy.
func (w *world) count(name, value string) float64 {
	w.t.Helper()
	families, err := w.registry.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			labels := m.GetLabel()
			if f.GetName() != name || value != "" && !slices.ContainsFunc(labels, func(l *dto.LabelPair) bool { return l.GetValue() == value }) {
				continue
			}
			if m.Counter != nil {
				return m.GetCounter().GetValue()
			}
			return m.GetGauge().GetValue()
		}
	}
	w.t.Fatalf("there is no %s %s", name, value)
	return 0
}
