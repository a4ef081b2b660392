package mainserver_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/testing/testca"
	"github.com/sealmq/sealmq/mtls"
	"github.com/sealmq/sealmq/pipeline"
	"github.com/sealmq/sealmq/pipeline/mainserver"
	"github.com/sealmq/sealmq/pipeline/records"
	"github.com/sealmq/sealmq/seal"
	"github.com/sealmq/sealmq/trust"
)

// store is a database that remembers what it was asked.
type store struct {
	err        error
	registers  []records.Message
	deliveries []records.Delivery
	updates    []pipeline.Update
}

func (s *store) Register(_ context.Context, list []records.Message) ([]pipeline.Result, error) {
	s.registers = append(s.registers, list...)
	results := make([]pipeline.Result, len(list))
	for i := range results {
		results[i] = pipeline.Result{Status: pipeline.StatusRegistered, RowID: int64(i + 1), State: pipeline.Queued}
	}
	return results, s.err
}

func (s *store) Deliver(_ context.Context, list []records.Delivery) ([]pipeline.Result, error) {
	s.deliveries = append(s.deliveries, list...)
	results := make([]pipeline.Result, len(list))
	for i := range results {
		results[i] = pipeline.Result{Status: pipeline.StatusDelivered, RowID: int64(i + 1), State: pipeline.Delivered}
	}
	return results, s.err
}

func (s *store) Status(_ context.Context, list []pipeline.Update) ([]pipeline.Result, error) {
	s.updates = append(s.updates, list...)
	return make([]pipeline.Result, len(list)), s.err
}

func (s *store) Get(_ context.Context, client, id string) (records.Record, error) {
	return records.Record{ID: id, Client: client}, s.err
}

// world is a main server with a proxy that seals for it.
type world struct {
	*testing.T
	store  *store
	svc    *mainserver.Service
	sealer *seal.Sealer
	ahead  time.Duration // of the proxy's clock
	ca     *testca.CA
	// verifier is the opener's.
	verifier *trust.Verifier
	proxy    tls.Certificate
	key      *seal.PublicKey // of the main server
}

func newWorld(t *testing.T, change func(*mainserver.Config)) *world {
	t.Helper()
	w := &world{T: t, store: &store{}, ca: testca.New(t)}
	w.verifier = w.ca.Verifier()
	server, proxy := w.ca.Leaf("server", sealmq.RoleServer), w.ca.Leaf("proxy", sealmq.RoleProxy)
	w.proxy = proxy
	file := filepath.Join(t.TempDir(), "keys.pem")
	signer := func() (*seal.Signer, error) { return seal.NewSigner("server", server.Certificate, server.PrivateKey) }
	keys, made, err := mainserver.OpenKeys(file, true, signer)
	if err != nil || !made {
		t.Fatalf("open keys: made %t, error %v", made, err)
	}
	opener, err := keys.Opener("server", w.verifier)
	if err != nil {
		t.Fatal(err)
	}
	cfg := mainserver.Config{Records: w.store, Keys: keys, Opener: opener}
	if change != nil {
		change(&cfg)
	}
	if w.svc, err = mainserver.New(cfg); err != nil {
		t.Fatal(err)
	}
	own, err := w.as(sealmq.RoleProxy).Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	entry, err := seal.ParseKeyEntry(own.Entries[0])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := entry.Verify(w.ca.Verifier(), "server", time.Now()); err != nil {
		t.Fatal(err)
	}
	w.key = entry.PublicKey()
	w.sealer = w.sealerOf(proxy, w.key)
	return w
}

func (w *world) sealerOf(proxy tls.Certificate, key *seal.PublicKey) *seal.Sealer {
	w.Helper()
	s, err := seal.NewSealer(seal.SealerConfig{
		Signer:    func() (*seal.Signer, error) { return seal.NewSigner("proxy", proxy.Certificate, proxy.PrivateKey) },
		Receivers: []seal.Receiver{{Name: "server", Key: key}},
		Now:       func() time.Time { return time.Now().Add(w.ahead) },
	})
	if err != nil {
		w.Fatal(err)
	}
	return s
}

func (w *world) as(role sealmq.Role) pipeline.Main {
	return w.svc.For(sealmq.Identity{ID: string(role), Role: role}, nil)
}

func (w *world) item(id string) pipeline.Item {
	w.Helper()
	it := pipeline.Item{MessageID: id, ClientID: "acme-01", QueuedAt: time.Now(), Digest: []byte("of the content")}
	c := pipeline.Content{SenderNumber: "+4915200000000", MessageBody: "hello", Metadata: json.RawMessage(`{"k":1}`)}
	if err := pipeline.SealItem(w.sealer, &it, c); err != nil {
		w.Fatal(err)
	}
	return it
}

func TestDeliverOpensAndStores(t *testing.T) {
	w := newWorld(t, nil)
	it := w.item("m-1")
	it.AttemptCount = 3
	results, err := w.as(sealmq.RoleWorker).Deliver(t.Context(), "worker-1", []pipeline.Item{it})
	if err != nil || results[0].Status != pipeline.StatusDelivered {
		t.Fatalf("%+v, error %v", results, err)
	}
	d := w.store.deliveries[0]
	if d.Message.Number != "+4915200000000" || d.Message.Body != "hello" || string(d.Message.Metadata) != `{"k":1}` ||
		!d.Message.Sealed || d.Attempts != 3 || d.Worker != "worker-1" || d.Message.Client != "acme-01" {
		t.Errorf("stored %+v", d)
	}
}

// TestRegistrationAfterDelivery: it costs nothing, not even for an item that cannot be opened. One
// of another content is looked at.
func TestRegistrationAfterDelivery(t *testing.T) {
	w := newWorld(t, nil)
	it := w.item("m-1")
	if _, err := w.as(sealmq.RoleWorker).Deliver(t.Context(), "worker-1", []pipeline.Item{it}); err != nil {
		t.Fatal(err)
	}
	results, err := w.as(sealmq.RoleProxy).Register(t.Context(), []pipeline.Item{it, w.item("m-2")})
	if err != nil || results[0].Status != pipeline.StatusDuplicate || results[0].State != pipeline.Delivered || results[1].Status != pipeline.StatusRegistered {
		t.Fatalf("%+v, error %v", results, err)
	}
	if len(w.store.registers) != 1 || w.store.registers[0].ID != "m-2" {
		t.Errorf("the database was asked to register %+v", w.store.registers)
	}
	other := w.item("m-1")
	for _, digest := range [][]byte{[]byte("of another one"), nil} {
		other.Digest = digest
		if _, err := w.as(sealmq.RoleProxy).Register(t.Context(), []pipeline.Item{other}); err != nil {
			t.Fatal(err)
		}
	}
	if len(w.store.registers) != 3 {
		t.Errorf("the database was asked for %d registrations, and two were of another content", len(w.store.registers)-1)
	}
}

func TestRolesDecide(t *testing.T) {
	w := newWorld(t, nil)
	items := []pipeline.Item{w.item("m-1")}
	for _, role := range []sealmq.Role{sealmq.RoleClient, sealmq.RoleAdmin, sealmq.RoleServer, sealmq.RoleProxy, sealmq.RoleWorker} {
		m := w.as(role)
		_, register := m.Register(t.Context(), items)
		_, deliver := m.Deliver(t.Context(), "w", items)
		_, status := m.Status(t.Context(), []pipeline.Update{{MessageID: "m-1", State: pipeline.Queued}})
		for call, got := range map[string]struct {
			err     error
			allowed bool
		}{
			"register": {register, role == sealmq.RoleProxy || role == sealmq.RoleWorker},
			"deliver":  {deliver, role == sealmq.RoleWorker},
			"status":   {status, role == sealmq.RoleWorker},
		} {
			if denied := sealmq.CodeOf(got.err) == sealmq.Denied; denied == got.allowed {
				t.Errorf("%s as %s: %v", call, role, got.err)
			}
		}
	}
}

// TestBadItems: an item that cannot be taken spoils no other, and is not shown.
func TestBadItems(t *testing.T) {
	w := newWorld(t, nil)
	clear := pipeline.Item{MessageID: "clear", ClientID: "acme-01", SenderNumber: "+4915200000000", MessageBody: "secret-text"}
	renamed := w.item("m-1")
	renamed.ClientID = "other"
	garbage := pipeline.Item{MessageID: "garbage", ClientID: "acme-01", Enc: pipeline.EncHPKE, Sealed: json.RawMessage(`{"a":1}`)}
	results, err := w.as(sealmq.RoleWorker).Deliver(t.Context(), "w", []pipeline.Item{clear, renamed, w.item("good"), garbage})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []pipeline.ResultStatus{pipeline.StatusInvalid, pipeline.StatusInvalid, pipeline.StatusDelivered, pipeline.StatusInvalid} {
		if results[i].Status != want || strings.Contains(results[i].Reason, "secret-text") || want == pipeline.StatusInvalid && results[i].Reason == "" {
			t.Errorf("item %d: %+v, want %s", i, results[i], want)
		}
	}
	if len(w.store.deliveries) != 1 {
		t.Errorf("%d items were stored", len(w.store.deliveries))
	}
}

// revoked revokes everything.
type revoked struct{}

func (revoked) Check([]*x509.Certificate) error { return mtls.ErrRevoked }

// TestWhatAnOperatorCanRepair: an item that may be good waits, and is taken once what was wrong
// around it is repaired. What is refused for a revoked signer is refused for good.
func TestWhatAnOperatorCanRepair(t *testing.T) {
	deliver := func(w *world, it pipeline.Item) pipeline.Result {
		t.Helper()
		results, err := w.as(sealmq.RoleWorker).Deliver(t.Context(), "w", []pipeline.Item{it, w.item("good")})
		if err != nil || results[1].Status != pipeline.StatusDelivered {
			t.Fatalf("%+v, %v", results, err)
		}
		return results[0]
	}
	other, err := seal.Generate(seal.DefaultSuite, 0)
	if err != nil {
		t.Fatal(err)
	}
	foreign := testca.New(t)
	with := func(w *world, s *seal.Sealer) pipeline.Item {
		good := w.sealer
		defer func() { w.sealer = good }()
		w.sealer = s
		return w.item("m-1")
	}
	for name, tc := range map[string]struct {
		item   func(*world) pipeline.Item
		repair func(*world)
		change func(*mainserver.Config)
	}{
		"a key that is not here": {item: func(w *world) pipeline.Item { return with(w, w.sealerOf(w.proxy, other.Public())) }},
		"an authority that is not trusted yet": {
			item: func(w *world) pipeline.Item {
				return with(w, w.sealerOf(foreign.Leaf("proxy", sealmq.RoleProxy), w.key))
			},
			repair: func(w *world) {
				w.verifier.Roots.AddCert(foreign.Root())
				w.verifier.Identifier = mtls.NewIdentifier(w.ca.Root(), foreign.Root())
			}},
		"a limit below the proxy's": {change: func(c *mainserver.Config) { c.MaxBody = len("hello") }, item: func(w *world) pipeline.Item {
			it := pipeline.Item{MessageID: "m-1", ClientID: "acme-01", QueuedAt: time.Now()}
			if err := pipeline.SealItem(w.sealer, &it, pipeline.Content{SenderNumber: "+4915200000000", MessageBody: "longer"}); err != nil {
				t.Fatal(err)
			}
			return it
		}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, tc.change)
			it := tc.item(w)
			if r := deliver(w, it); r.Status != pipeline.StatusUnavailable || r.Reason == "" {
				t.Errorf("%+v", r)
			}
			if tc.repair == nil {
				return
			}
			tc.repair(w)
			if r := deliver(w, it); r.Status != pipeline.StatusDelivered {
				t.Errorf("repaired: %+v", r)
			}
		})
	}
	w := newWorld(t, nil)
	w.verifier.Revocation = revoked{}
	results, err := w.as(sealmq.RoleWorker).Deliver(t.Context(), "w", []pipeline.Item{w.item("m-1")})
	if err != nil || results[0].Status != pipeline.StatusRefused || !strings.Contains(results[0].Reason, "revoked") {
		t.Errorf("%+v, %v", results, err)
	}
}

// TestItemFromTheFuture: it waits for its time, and no other item waits with it.
func TestItemFromTheFuture(t *testing.T) {
	w := newWorld(t, nil)
	early := w.item("early")
	w.ahead = 3 * time.Hour
	w.sealer.Rotate()
	late := w.item("late")
	for _, call := range []string{"register", "deliver"} {
		var results []pipeline.Result
		var err error
		if list := []pipeline.Item{late, early}; call == "register" {
			results, err = w.as(sealmq.RoleProxy).Register(t.Context(), list)
		} else {
			results, err = w.as(sealmq.RoleWorker).Deliver(t.Context(), "w", list)
		}
		if err != nil || results[0].Status != pipeline.StatusUnavailable || results[0].Reason == "" || results[1].Status == pipeline.StatusUnavailable {
			t.Errorf("%s: %+v, error %v", call, results, err)
		}
	}
	if len(w.store.registers) != 1 || len(w.store.deliveries) != 1 {
		t.Errorf("%d registered, %d delivered", len(w.store.registers), len(w.store.deliveries))
	}
}

func TestItemsInClearBySetting(t *testing.T) {
	w := newWorld(t, func(c *mainserver.Config) { c.TakeClear = true })
	list := []pipeline.Item{{MessageID: "good", ClientID: "foreign", SenderNumber: "+4915200000000", MessageBody: "text"},
		{MessageID: "number", ClientID: "foreign", SenderNumber: "12", MessageBody: "text"}, {MessageID: "empty", ClientID: "foreign", SenderNumber: "+4915200000000"}}
	results, err := w.as(sealmq.RoleWorker).Deliver(t.Context(), "w", list)
	if err != nil {
		t.Fatal(err)
	}
	if results[0].Status != pipeline.StatusDelivered || results[1].Status != pipeline.StatusInvalid || results[2].Status != pipeline.StatusInvalid {
		t.Errorf("%+v", results)
	}
	if w.store.deliveries[0].Message.Sealed {
		t.Error("an item in clear is marked as sealed")
	}
}

func testServiceDatabaseAway(t *testing.T) {
	w := newWorld(t, nil)
	w.store.err = &sealmq.Error{Code: sealmq.Unavailable, Message: "the database does not answer"}
	for name, call := range map[string]func() error{
		"register": func() error {
			_, err := w.as(sealmq.RoleProxy).Register(t.Context(), []pipeline.Item{w.item("m-1")})
			return err
		},
		"deliver": func() error {
			_, err := w.as(sealmq.RoleWorker).Deliver(t.Context(), "w", []pipeline.Item{w.item("m-1")})
			return err
		},
	} {
		if err := call(); sealmq.CodeOf(err) != sealmq.Unavailable {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestBatchesAreBounded(t *testing.T) {
	w := newWorld(t, nil)
	for _, n := range []int{0, pipeline.MaxBatch + 1} {
		if _, err := w.as(sealmq.RoleWorker).Deliver(t.Context(), "w", make([]pipeline.Item, n)); sealmq.CodeOf(err) != sealmq.BadArgument {
			t.Errorf("%d items: %v", n, err)
		}
	}
}

// TestKeyEntryOfARenewedCertificate: the old certificate may be revoked as soon as there is a new one.
func TestKeyEntryOfARenewedCertificate(t *testing.T) {
	authority := testca.New(t)
	leaf := authority.Leaf("server", sealmq.RoleServer)
	keys, _, err := mainserver.OpenKeys(filepath.Join(t.TempDir(), "keys.pem"), true, func() (*seal.Signer, error) {
		return seal.NewSigner("server", leaf.Certificate, leaf.PrivateKey)
	})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	entries := func() []byte {
		t.Helper()
		list, err := keys.Entries(now)
		if err != nil {
			t.Fatal(err)
		}
		return list[0]
	}
	first := entries()
	if again := entries(); !bytes.Equal(first, again) {
		t.Error("it is signed for every call")
	}
	leaf = authority.Issue(authority.Template("server", sealmq.RoleServer))
	if renewed := entries(); bytes.Equal(first, renewed) {
		t.Error("it is still signed with the old certificate")
	}
}

func TestSealingKeysAreKept(t *testing.T) {
	file := filepath.Join(t.TempDir(), "keys.pem")
	var hint interface{ Hint() string }
	if _, _, err := mainserver.OpenKeys(file, false, nil); !errors.As(err, &hint) || !strings.Contains(err.Error(), "does not exist, and the database does") {
		t.Errorf("missing beside a database: %v", err)
	}
	first, made, err := mainserver.OpenKeys(file, true, nil)
	if err != nil || !made {
		t.Fatal(made, err)
	}
	again, made, err := mainserver.OpenKeys(file, false, nil)
	if err != nil || made {
		t.Fatal(made, err)
	}
	if first == nil || again == nil {
		t.Fatal("no keys")
	}
	testca.WriteFile(t, file, []byte("not a key"))
	if _, _, err := mainserver.OpenKeys(file, true, nil); !errors.As(err, &hint) || !strings.Contains(err.Error(), file) {
		t.Errorf("a damaged file of keys: %v", err)
	}
}

func TestIDKeyIsKept(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ids.key")
	if _, _, err := mainserver.OpenIDKey(file, false); err == nil {
		t.Error("made beside a database")
	}
	key, made, err := mainserver.OpenIDKey(file, true)
	if err != nil || !made || len(key) != pipeline.IDKeyBytes {
		t.Fatal(len(key), made, err)
	}
	if again, made, err := mainserver.OpenIDKey(file, true); err != nil || made || !bytes.Equal(again, key) {
		t.Error("another key the second time", made, err)
	}
	testca.WriteFile(t, file, key[1:])
	if _, _, err := mainserver.OpenIDKey(file, true); err == nil {
		t.Error("a damaged key is used")
	}
}

// TestIDKeyIsForProxies: nobody else makes ids.
func TestIDKeyIsForProxies(t *testing.T) {
	key := bytes.Repeat([]byte{7}, pipeline.IDKeyBytes)
	w := newWorld(t, func(c *mainserver.Config) { c.IDKey = key })
	for _, role := range []sealmq.Role{sealmq.RoleProxy, sealmq.RoleWorker, sealmq.RoleServer, sealmq.RoleAdmin} {
		k, err := w.as(role).Keys(t.Context())
		if got := bytes.Equal(k.IDKey, key); err != nil || got != (role == sealmq.RoleProxy) || !got && k.IDKey != nil {
			t.Errorf("%s: %x, %v", role, k.IDKey, err)
		}
	}
}

// TestCallerThatLostItsPermission: within one process nobody shows a certificate, so that
// every call asks whether the caller's is still good.
func TestCallerThatLostItsPermission(t *testing.T) {
	w := newWorld(t, nil)
	gone := &sealmq.Error{Code: sealmq.Denied, Message: "its certificate has been revoked"}
	var lost error
	as := func(role sealmq.Role) pipeline.Main {
		return w.svc.For(sealmq.Identity{ID: string(role), Role: role}, func() error { return lost })
	}
	calls := map[string]func() error{
		"register": func() error {
			_, err := as(sealmq.RoleProxy).Register(t.Context(), []pipeline.Item{w.item("m-1")})
			return err
		},
		"deliver": func() error {
			_, err := as(sealmq.RoleWorker).Deliver(t.Context(), "w", []pipeline.Item{w.item("m-2")})
			return err
		},
		"status": func() error {
			_, err := as(sealmq.RoleWorker).Status(t.Context(), []pipeline.Update{{MessageID: "m-1", State: pipeline.Queued, Attempts: -1}})
			return err
		},
		"find": func() error { _, _, err := as(sealmq.RoleProxy).Find(t.Context(), "acme-01", "m-1"); return err },
		"keys": func() error { _, err := as(sealmq.RoleProxy).Keys(t.Context()); return err },
	}
	for name, call := range calls {
		lost = nil
		if err := call(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		lost = gone
		if err := call(); !errors.Is(err, gone) {
			t.Errorf("%s without permission: %v", name, err)
		}
	}
}
