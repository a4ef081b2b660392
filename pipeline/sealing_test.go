package pipeline_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/testing/testca"
	"github.com/sealmq/sealmq/pipeline"
	"github.com/sealmq/sealmq/seal"
)

// ends are a sealer with a certificate of the role, and the main server's opener.
func ends(t *testing.T, role sealmq.Role) (*seal.Sealer, *seal.Opener) {
	t.Helper()
	ca := testca.New(t)
	leaf := ca.Leaf("proxy", role)
	key, err := seal.Generate(seal.DefaultSuite, 0)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := seal.NewKeyring(key)
	if err != nil {
		t.Fatal(err)
	}
	sealer, err := seal.NewSealer(seal.SealerConfig{
		Signer:    func() (*seal.Signer, error) { return seal.NewSigner("proxy", leaf.Certificate, leaf.PrivateKey) },
		Receivers: []seal.Receiver{{Name: "server", Key: key.Public()}},
	})
	if err != nil {
		t.Fatal(err)
	}
	opener, err := seal.NewOpener(seal.OpenerConfig{Name: "server", Keys: keys, Verifier: ca.Verifier()})
	if err != nil {
		t.Fatal(err)
	}
	return sealer, opener
}

func sealedItem(t *testing.T, s *seal.Sealer, c pipeline.Content) pipeline.Item {
	t.Helper()
	it := pipeline.Item{MessageID: "m-1", ClientID: "acme-01", ClientKey: "order-1", QueuedAt: time.Now()}
	if err := pipeline.SealItem(s, &it, c); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(it)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{c.SenderNumber, c.MessageBody, "secret-metadata"} {
		if strings.Contains(string(b), secret) {
			t.Errorf("the item shows %q", secret)
		}
	}
	it, err = pipeline.ParseItem(b)
	if err != nil {
		t.Fatal(err)
	}
	return it
}

var content = pipeline.Content{SenderNumber: "+4915200000000", MessageBody: "hello, <b>wörld</b>", Metadata: json.RawMessage(`{"k":"secret-metadata"}`)}

func TestSealAndOpenItem(t *testing.T) {
	sealer, opener := ends(t, sealmq.RoleProxy)
	it := sealedItem(t, sealer, content)
	got, proxy, err := pipeline.OpenItem(opener, &it)
	if err != nil {
		t.Fatal(err)
	}
	if got.SenderNumber != content.SenderNumber || got.MessageBody != content.MessageBody || string(got.Metadata) != string(content.Metadata) || proxy != "proxy" {
		t.Errorf("opened as %+v of %q", got, proxy)
	}
}

func TestChangedItemsDoNotOpen(t *testing.T) {
	sealer, opener := ends(t, sealmq.RoleProxy)
	it := sealedItem(t, sealer, content)
	for name, change := range map[string]func(*pipeline.Item){
		"message_id": func(it *pipeline.Item) { it.MessageID = "m-2" },
		"client_id":  func(it *pipeline.Item) { it.ClientID = "Acme-01" },
		"client_key": func(it *pipeline.Item) { it.ClientKey = "" },
		"domain":     func(it *pipeline.Item) { it.Domain = "other" },
		"queued_at":  func(it *pipeline.Item) { it.QueuedAt = it.QueuedAt.Add(time.Microsecond) },
		"sealed":     func(it *pipeline.Item) { it.Sealed = json.RawMessage(`{}`) },
	} {
		changed := it
		change(&changed)
		if _, _, err := pipeline.OpenItem(opener, &changed); err == nil {
			t.Errorf("an item with another %s opens", name)
		}
	}
}

// TestOnlyProxiesSeal: a client with a certificate of the same authority cannot put an
// item into the queue in another client's name.
func TestOnlyProxiesSeal(t *testing.T) {
	for _, role := range []sealmq.Role{sealmq.RoleClient, sealmq.RoleWorker, sealmq.RoleAdmin, sealmq.RoleServer} {
		sealer, opener := ends(t, role)
		it := sealedItem(t, sealer, content)
		if _, _, err := pipeline.OpenItem(opener, &it); !errors.Is(err, pipeline.ErrMalformed) {
			t.Errorf("sealed by the role %q: %v", role, err)
		}
	}
}
