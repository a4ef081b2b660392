package mainclient_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/internal/httpkit"
	"github.com/sealmq/sealmq/mtls"
	"github.com/sealmq/sealmq/pipeline"
	"github.com/sealmq/sealmq/pipeline/accounts"
	"github.com/sealmq/sealmq/pipeline/mainclient"
	"github.com/sealmq/sealmq/pipeline/mainserver"
	"github.com/sealmq/sealmq/pipeline/records"
	"github.com/sealmq/sealmq/pipeline/records/atrest"
	"github.com/sealmq/sealmq/seal"
	"github.com/sealmq/sealmq/trust"
)

// noQueue is for a main server whose queue is not asked.
type noQueue struct{ pipeline.Queue }

func (noQueue) Counts(context.Context) (pipeline.Counts, error) { return pipeline.Counts{}, nil }

// world is a main server that listens.
type world struct {
	*testing.T
	authority *ca.Authority
	revoked   *trust.RevocationList
	store     *records.Store
	server    *httpkit.Server
	url       string
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{T: t}
	result, err := ca.Setup(filepath.Join(t.TempDir(), "data"), nil, ca.Options{})
	w.must(err)
	w.authority = result.Authority
	w.revoked, err = w.authority.Revocations(true, nil)
	w.must(err)
	key, err := atrest.ParseKey([]byte(strings.Repeat("1", 63) + "0"))
	w.must(err)
	ring, err := atrest.NewRing(1, map[uint16]atrest.Key{1: key})
	w.must(err)
	w.store, err = records.Open(t.Context(), records.Config{URL: "sqlite:" + filepath.Join(t.TempDir(), "records.db"), Keys: ring, Numbers: atrest.NewHasher(ring, nil)})
	w.must(err)
	t.Cleanup(func() { w.store.Close() })
	p := w.authority.Paths()
	own, err := tls.LoadX509KeyPair(p.Cert(ca.ServerName), p.Key(ca.ServerName))
	w.must(err)
	keys, _, err := mainserver.OpenKeys(filepath.Join(t.TempDir(), "keys.pem"), true, func() (*seal.Signer, error) {
		return seal.NewSigner(ca.ServerName, own.Certificate, own.PrivateKey)
	})
	w.must(err)
	opener, err := keys.Opener(ca.ServerName, trust.NewVerifier(w.authority.Root()))
	w.must(err)
	service, err := mainserver.New(mainserver.Config{Records: w.store, Keys: keys, Opener: opener, IDKey: []byte(idKey)})
	w.must(err)
	people, err := accounts.New(accounts.Config{Store: w.store, Cost: bcrypt.MinCost})
	w.must(err)
	handler, err := mainserver.NewHandler(mainserver.HandlerConfig{Service: service, Store: w.store, Accounts: people, Queue: noQueue{}, Authority: w.authority, Revocations: w.revoked,
		Certificate: func() []*x509.Certificate { return []*x509.Certificate{own.Leaf} }})
	w.must(err)
	conf, err := mtls.HTTPSConfig(mtls.Files{Cert: p.Cert(ca.ServerName), Key: p.Key(ca.ServerName), CA: p.CA}, mtls.Options{Revocation: w.revoked, AnswerRevoked: true})
	w.must(err)
	w.server, err = httpkit.Listen("127.0.0.1:0", conf, handler, httpkit.Limits{})
	w.must(err)
	done := make(chan error, 1)
	go func() { done <- w.server.Serve() }()
	t.Cleanup(func() {
		w.server.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	w.url = "https://" + w.server.Addr().String()
	return w
}

const idKey = "the key that proxies make ids wi"

// as is a caller with a certificate of a role.
func (w *world) as(name string, role sealmq.Role) (*mainclient.Client, tls.Certificate) {
	w.Helper()
	dir := w.TempDir()
	f, err := w.authority.IssueFiles(ca.Request{Name: name, Role: role}, dir, false)
	w.must(err)
	conf, err := mtls.ClientConfig(mtls.Files{Cert: f.CertFile, Key: f.KeyFile, CA: w.authority.Paths().CA}, mtls.ClientOptions{})
	w.must(err)
	c, err := mainclient.New(w.url, conf)
	w.must(err)
	w.Cleanup(func() { c.Close() })
	cert, err := tls.LoadX509KeyPair(f.CertFile, f.KeyFile)
	w.must(err)
	return c, cert
}

// TestEveryMethod: a proxy and a worker in other processes do with the main server what they
// would do in its own.
func TestEveryMethod(t *testing.T) {
	w := newWorld(t)
	proxy, own := w.as("proxy", sealmq.RoleProxy)
	worker, _ := w.as("worker", sealmq.RoleWorker)
	ctx := t.Context()
	got, err := proxy.Keys(ctx)
	if err != nil || string(got.IDKey) != idKey {
		t.Fatalf("%q, %v", got.IDKey, err)
	}
	if k, err := worker.Keys(ctx); err != nil || k.IDKey != nil {
		t.Errorf("a worker got %q, %v", k.IDKey, err)
	}
	entry, err := seal.ParseKeyEntry(got.Entries[0])
	w.must(err)
	_, err = entry.Verify(trust.NewVerifier(w.authority.Root()), ca.ServerName, time.Now())
	w.must(err)
	sealer, err := seal.NewSealer(seal.SealerConfig{
		Signer:    func() (*seal.Signer, error) { return seal.NewSigner("proxy", own.Certificate, own.PrivateKey) },
		Receivers: []seal.Receiver{{Name: ca.ServerName, Key: entry.PublicKey()}},
	})
	w.must(err)
	items := make([]pipeline.Item, 3)
	for i, id := range []string{"m-1", "m-2", "m-3"} {
		items[i] = pipeline.Item{MessageID: id, ClientID: "acme 01/é", ClientKey: "key-" + id, QueuedAt: time.Now(), AttemptCount: 2}
		w.must(pipeline.SealItem(sealer, &items[i], pipeline.Content{SenderNumber: "+4915200000000", MessageBody: "hello", Metadata: json.RawMessage(`{"k":1}`)}))
	}
	check := func(results []pipeline.Result, err error, want ...pipeline.ResultStatus) {
		t.Helper()
		if err != nil || len(results) != len(want) {
			t.Fatalf("%+v, error %v", results, err)
		}
		for i, r := range results {
			if r.Status != want[i] || r.RowID == 0 || r.MessageID == "" {
				t.Errorf("entry %d: %+v, want %s", i, r, want[i])
			}
		}
	}
	r, err := proxy.Register(ctx, items[:2])
	check(r, err, pipeline.StatusRegistered, pipeline.StatusRegistered)
	r, err = worker.Status(ctx, []pipeline.Update{{MessageID: "m-1", ClientID: "acme 01/é", State: pipeline.Processing, Attempts: 1, Worker: "w"}})
	check(r, err, pipeline.StatusUpdated)
	r, err = worker.Deliver(ctx, "w", items[1:])
	check(r, err, pipeline.StatusDelivered, pipeline.StatusDelivered)
	r, err = proxy.Register(ctx, items)
	check(r, err, pipeline.StatusDuplicate, pipeline.StatusDuplicate, pipeline.StatusDuplicate)
	m, found, err := proxy.Find(ctx, "acme 01/é", "m-2")
	if err != nil || !found || m.State != pipeline.Delivered || m.ClientKey != "key-m-2" || m.DeliveredAt.IsZero() {
		t.Errorf("%+v, found %t, error %v", m, found, err)
	}
	if _, found, err = proxy.Find(ctx, "acme 01", "m-2"); found || err != nil {
		t.Errorf("found %t, error %v", found, err)
	}
}

// TestLargeBatches: a batch whose items are together larger than what one request may carry
// arrives all the same, each entry once and in its place.
func TestLargeBatches(t *testing.T) {
	w := newWorld(t)
	proxy, _ := w.as("proxy", sealmq.RoleProxy)
	worker, _ := w.as("worker", sealmq.RoleWorker)
	items := make([]pipeline.Item, 50)
	sealed := json.RawMessage(`"` + strings.Repeat("x", 400<<10) + `"`) // 20 MB together
	for i := range items {
		items[i] = pipeline.Item{MessageID: fmt.Sprintf("m-%d", i), ClientID: "acme-01", QueuedAt: time.Now(), Enc: pipeline.EncHPKE, Sealed: sealed}
	}
	for call, do := range map[string]func() ([]pipeline.Result, error){
		"register": func() ([]pipeline.Result, error) { return proxy.Register(t.Context(), items) },
		"deliver":  func() ([]pipeline.Result, error) { return worker.Deliver(t.Context(), "w", items) },
	} {
		results, err := do()
		if err != nil || len(results) != len(items) {
			t.Fatalf("%s: %d results, error %v", call, len(results), err)
		}
		for i, r := range results {
			if r.MessageID != items[i].MessageID || r.Status != pipeline.StatusInvalid {
				t.Fatalf("%s: entry %d is %+v", call, i, r)
			}
		}
	}
}

// TestErrorsHaveTheirCodes: a caller knows what may be repeated.
func TestErrorsHaveTheirCodes(t *testing.T) {
	w := newWorld(t)
	proxy, _ := w.as("proxy", sealmq.RoleProxy)
	client, _ := w.as("acme-01", sealmq.RoleClient)
	worker, _ := w.as("worker", sealmq.RoleWorker)
	ctx := t.Context()
	expect := func(what string, err error, code sealmq.Code) {
		t.Helper()
		if sealmq.CodeOf(err) != code {
			t.Errorf("%s: %v has code %q, want %q", what, err, sealmq.CodeOf(err), code)
		}
	}
	item := pipeline.Item{MessageID: "m-1", ClientID: "acme-01"}
	_, err := client.Keys(ctx)
	expect("a client", err, sealmq.Denied)
	_, err = proxy.Deliver(ctx, "w", []pipeline.Item{item})
	expect("a proxy that delivers", err, sealmq.Denied)
	_, err = worker.Deliver(ctx, "w", nil)
	expect("an empty batch", err, sealmq.BadArgument)
	_, err = worker.Deliver(ctx, strings.Repeat("w", 101), []pipeline.Item{item})
	expect("a long name", err, sealmq.BadArgument)
	w.must(w.store.Close())
	_, _, err = proxy.Find(ctx, "acme-01", "m-1")
	expect("no database", err, sealmq.Unavailable)
	w.server.Close()
	_, err = proxy.Keys(ctx)
	expect("no server", err, sealmq.Unavailable)
	worker, _ = w.as("worker", sealmq.RoleWorker) // it has no connection yet
	if _, err = worker.Keys(ctx); !errors.Is(err, pipeline.ErrUnsent) {
		t.Errorf("a call of a server that is not there: %v", err)
	}
}
