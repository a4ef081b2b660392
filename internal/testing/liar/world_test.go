package liar_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/broker"
	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/internal/testing/liar"
	"github.com/sealmq/sealmq/internal/testing/testca"
	"github.com/sealmq/sealmq/internal/testing/testnode"
	"github.com/sealmq/sealmq/keydir"
	"github.com/sealmq/sealmq/receive"
	"github.com/sealmq/sealmq/seal"
	"github.com/sealmq/sealmq/seal/ciphermq"
	"github.com/sealmq/sealmq/send"
)

// world is an honest broker, with a liar before it that all clients connect to.
type world struct {
	*testing.T
	ca     *testca.CA
	keyLog *broker.DirectoryConfig // of the directory, with the key of its log
	log    safeBuffer              // of the brokers
	node   *testnode.Node          // the honest broker
	addr   string                  // its address
	liar   *liar.Liar
	bobs   *seal.Keyring
}

// safeBuffer is safe for concurrent use.
type safeBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *safeBuffer) text() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.String()
}

const (
	exchange = "letters"
	key      = "bob"
	queue    = "inbox"
)

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{T: t, ca: testca.New(t)}
	w.keyLog = testnode.NewDirectory(t, w.ca)
	w.node = w.startBroker()
	w.addr = w.node.Addr
	var err error
	w.liar, err = liar.Listen(liar.Config{TLS: w.ca.ServerTLS(), Identify: w.ca.Identify,
		Upstream: func(ctx context.Context, name string) (net.Conn, error) {
			d := tls.Dialer{Config: w.ca.ClientTLS(name)}
			return d.DialContext(ctx, "tcp", w.addr)
		}})
	w.must(err)
	t.Cleanup(func() { w.liar.Close() })
	w.settle()
	return w
}

// startBroker starts an honest one with the log key of the first.
func (w *world) startBroker() *testnode.Node {
	w.Helper()
	return testnode.Start(w, testnode.Config{CA: w.ca, Directory: w.keyLog,
		Log: slog.New(slog.NewTextHandler(&w.log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
}

// settle declares exchange and queues, and publishes bob's key.
func (w *world) settle() {
	w.Helper()
	admin := w.dial(w.addr, w.ca.AdminTLS(), client.Config{})
	w.must(admin.Declare(w.Context(), client.Topology{
		Exchanges: []client.Exchange{{Name: exchange}},
		Queues:    []client.Queue{{Name: queue}},
		Bindings:  []client.Binding{{Queue: queue, Exchange: exchange, Key: key}},
	}))
	k, err := seal.Generate(seal.DefaultSuite, 0)
	w.must(err)
	w.bobs, err = seal.NewKeyring(k)
	w.must(err)
	_, err = w.directory(w.connect("bob")).Publish(w.Context(), w.signs("bob"), k.Public())
	w.must(err)
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) verifier() seal.Verifier {
	return w.ca.Verifier()
}

func (w *world) signs(name string) *seal.Signer {
	w.Helper()
	leaf := w.ca.Leaf(name, "")
	s, err := seal.NewSigner(name, leaf.Certificate, leaf.PrivateKey)
	w.must(err)
	return s
}

func (w *world) dial(addr string, cfg *tls.Config, c client.Config) *client.Client {
	w.Helper()
	c.Addr, c.TLS = addr, cfg
	conn, err := client.Dial(w.Context(), c)
	w.must(err)
	w.Cleanup(func() { conn.Close() })
	return conn
}

// connect is a client of the liar.
func (w *world) connect(name string) *client.Client {
	w.Helper()
	return w.dial(w.liar.Addr(), w.ca.ClientTLS(name), client.Config{Meta: name == "bob"})
}

func (w *world) directory(c *client.Client) *keydir.Directory {
	w.Helper()
	d, err := keydir.New(c, keydir.Config{Verifier: w.verifier()})
	w.must(err)
	return d
}

// sender is alice or another client, and sends to bob.
func (w *world) sender(name string, change ...func(*send.Config)) *send.Sender {
	w.Helper()
	c := w.connect(name)
	signer := w.signs(name)
	cfg := send.Config{To: []string{"bob"}, Directory: w.directory(c), Signer: func() (*seal.Signer, error) { return signer, nil }}
	for _, f := range change {
		f(&cfg)
	}
	s, err := send.New(w.Context(), c, cfg)
	w.must(err)
	w.Cleanup(func() { s.Close() })
	return s
}

// sealer seals for bob without sending, as the liar's accomplices do.
func (w *world) sealer(name string, cfg seal.SealerConfig) *seal.Sealer {
	w.Helper()
	if cfg.Receivers == nil {
		cfg.Receivers = []seal.Receiver{{Name: "bob", Key: w.bobs.Newest().Public()}}
	}
	if cfg.Signer == nil {
		signer := w.signs(name)
		cfg.Signer = func() (*seal.Signer, error) { return signer, nil }
	}
	s, err := seal.NewSealer(cfg)
	w.must(err)
	return s
}

// mailbox is bob's receiver with what it has shown.
type mailbox struct {
	w      *world
	r      *receive.Receiver
	ledger *receive.Ledger
	log    safeBuffer
	shown  []string
	last   []receive.Received
}

func (w *world) mailbox(change ...func(*receive.Config)) *mailbox {
	w.Helper()
	c := w.connect("bob")
	m := &mailbox{w: w, ledger: receive.NewLedger(receive.LedgerConfig{})}
	cfg := receive.Config{Names: []string{"bob"}, Keys: w.bobs, Verifier: w.verifier(), Directory: w.directory(c), Legacy: []seal.Legacy{ciphermq.Suites{}}, Ledger: m.ledger, DeadLetter: true,
		Exchange: exchange, RoutingKey: key, UndecidedDelay: 50 * time.Millisecond, Log: slog.New(slog.NewTextHandler(&m.log, nil))}
	for _, f := range change {
		f(&cfg)
	}
	var err error
	m.r, err = receive.New(w.Context(), c, queue, cfg)
	w.must(err)
	return m
}

// until receives messages until there are n and one has this text.
func (m *mailbox) until(last string, n int) {
	m.w.Helper()
	ctx, cancel := context.WithTimeout(m.w.Context(), time.Minute)
	defer cancel()
	for len(m.shown) < n || !slices.Contains(m.shown, last) {
		list, err := m.r.Next(ctx, 1)
		if err != nil {
			m.w.Fatalf("after %q: %v", m.shown, err)
		}
		for _, r := range list {
			m.shown = append(m.shown, string(r.Text))
		}
		m.last = append(m.last, list...)
		m.w.must(m.r.Commit(receive.Output{}, list...))
	}
}

// dead are the reasons in the dead-letter queue of the honest broker, by message id.
func (w *world) dead(want int) map[string]string {
	w.Helper()
	admin := w.dial(w.addr, w.ca.AdminTLS(), client.Config{})
	ctx, cancel := context.WithTimeout(w.Context(), time.Minute)
	defer cancel()
	for had := 0; ; {
		list, err := admin.Peek(ctx, queue+".dead", 0, 100)
		if err != nil && sealmq.CodeOf(err) != sealmq.NoQueue {
			w.Fatalf("%d of %d messages are dead: %v", had, want, err)
		}
		reasons := make(map[string]string)
		had = len(list)
		for _, m := range list {
			reasons[m.ID] = m.DeathReason
		}
		if len(reasons) >= want {
			return reasons
		}
	}
}

// pushed splits a delivery.
func pushed(line string) (id, body string, ok bool) {
	rest, ok := strings.CutPrefix(line, "Message: ")
	if !ok {
		return "", "", false
	}
	id, body, ok = strings.Cut(rest, " ")
	return id, body, ok
}

func push(id, body string) string { return "Message: " + id + " " + body }

// onDelivery lies about the n-th delivery, counted from one.
func onDelivery(n int, lie func(c *liar.Conn, id, body string) []string) liar.Lies {
	count := 0
	return liar.Lies{ToClient: func(c *liar.Conn, line string) []string {
		id, body, ok := pushed(line)
		if !ok {
			return []string{line}
		}
		if count++; count != n {
			return []string{line}
		}
		return lie(c, id, body)
	}}
}

func letter(i int) string { return fmt.Sprintf("letter %d", i) }

// send sends a letter and waits until the broker or the liar has confirmed it.
func (w *world) send(s *send.Sender, text string) {
	w.Helper()
	_, err := s.Send(w.Context(), exchange, key, []byte(text))
	w.must(err)
}
