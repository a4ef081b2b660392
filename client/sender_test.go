package client_test

import (
	"testing"
	"time"

	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/internal/clock"
	"github.com/sealmq/sealmq/seal"
)

// No key is used for longer than an epoch lasts without being looked up again, and what the
// sender saw of the directory goes with its messages.
func TestSenderLooksKeysUpForEveryEpoch(t *testing.T) {
	w := newTown(t)
	n := w.broker()
	first, second := generate(t, seal.HPKEX25519), generate(t, seal.HPKEX25519)
	w.publish(n.addr, "bob", first)
	now := clock.NewFake(time.Now())
	c := n.dial(client.Config{TLS: w.ca.ClientTLS("alice"), Clock: now})
	d, err := client.NewDirectory(c, client.DirectoryConfig{Verifier: w.verifier()})
	if err != nil {
		t.Fatal(err)
	}
	signer := w.signs("alice")
	s, err := c.NewSender(t.Context(), client.SenderConfig{To: []string{"bob"}, Directory: d, EpochAge: time.Minute,
		Signer: func() (*seal.Signer, error) { return signer, nil }})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	sealedFor := func(want *seal.PublicKey) {
		t.Helper()
		m, err := s.Seal(t.Context(), "post", "bob", []byte("text"))
		if err != nil {
			t.Fatal(err)
		}
		info, err := seal.Inspect(m.Body)
		if err != nil {
			t.Fatal(err)
		}
		if len(info.Keys) != 1 || info.Keys[0] != want.Fingerprint()[:len(info.Keys[0])] {
			t.Errorf("it is sealed for %v, want %s", info.Keys, want.Fingerprint())
		}
	}
	sealedFor(first)
	w.publish(n.addr, "bob", second)
	now.Advance(59 * time.Second)
	sealedFor(first)
	now.Advance(time.Second)
	sealedFor(second)
	if len(d.Checkpoint()) == 0 {
		t.Error("there is no checkpoint to show")
	}
}
