package send_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/internal/testing/testca"
	"github.com/sealmq/sealmq/internal/testing/testnode"
	"github.com/sealmq/sealmq/keydir"
	"github.com/sealmq/sealmq/seal"
	"github.com/sealmq/sealmq/seal/ciphermq"
	"github.com/sealmq/sealmq/send"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func message(id string) sealmq.Message {
	return sealmq.Message{Exchange: "x", Key: "k", ID: id, Body: []byte(`{"message_id":"` + id + `"}`)}
}

// line is what a client sends for the message with this id.
func line(id string) string { return `publish x k {"message_id":"` + id + `"}` }

func generate(t testing.TB, suite seal.Suite) *seal.PublicKey {
	t.Helper()
	key, err := seal.Generate(suite, 0, ciphermq.Suites{})
	if err != nil {
		t.Fatal(err)
	}
	return key.Public()
}

// town is an authority and a broker with a key directory.
type town struct {
	t    *testing.T
	node *testnode.Node
}

func newTown(t *testing.T) *town {
	t.Helper()
	ca := testca.New(t)
	return &town{t, testnode.Start(t, testnode.Config{CA: ca, Directory: testnode.NewDirectory(t, ca)})}
}

func (w *town) signs(name string) *seal.Signer {
	w.t.Helper()
	leaf := w.node.CA.Leaf(name, "")
	s, err := seal.NewSigner(name, leaf.Certificate, leaf.PrivateKey)
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// directory is what somebody sees through a connection.
func (w *town) directory(c *client.Client) *keydir.Directory {
	w.t.Helper()
	ca := w.node.CA
	d, err := keydir.New(c, keydir.Config{Verifier: ca.Verifier()})
	if err != nil {
		w.t.Fatal(err)
	}
	return d
}

// publish puts somebody's key into the directory.
func (w *town) publish(name string, key *seal.PublicKey) {
	w.t.Helper()
	c := w.node.Dial(client.Config{TLS: w.node.CA.ClientTLS(name)})
	if _, err := w.directory(c).Publish(w.t.Context(), w.signs(name), key); err != nil {
		w.t.Fatal(err)
	}
}

// spoolOn puts a spool on another disk.
func spoolOn(fs durable.FS, cfg send.SpoolConfig) send.SpoolConfig {
	cfg.FS = fs
	return cfg
}
