package client_test

import (
	"crypto/x509"
	"errors"
	"testing"
	"time"

	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/internal/testca"
	"github.com/sealmq/sealmq/seal"
)

// An owner who publishes is shown something else than what was put: nothing of it is
// believed, and nothing is pinned.
func TestPublishBelievesOnlyItsOwnEntry(t *testing.T) {
	w := newTown(t)
	issuer := issuerOf(t, w, w.ca)
	for _, tc := range []struct {
		name string
		lie  func(f *forger, first, put []byte)
		want error
	}{
		{"an honest one", func(f *forger, _, put []byte) { f.add(put, issuer) }, nil},
		{"another authority's, with a later number", func(f *forger, first, _ []byte) {
			e, _ := f.entry(testca.New(t), 9, hashOf(t, first))
			f.add(e, issuer)
		}, seal.ErrUntrusted},
		{"the owner's own, under another authority's name", func(f *forger, _, put []byte) { f.add(put, "sha256:11") }, client.ErrLog},
		{"another one with the same number", func(f *forger, first, _ []byte) {
			e, _ := f.entry(w.ca, 2, hashOf(t, first))
			f.add(e, issuer)
		}, client.ErrPinned},
		{"a later one of whoever has the certificate's key", func(f *forger, _, put []byte) {
			f.add(put, issuer)
			e, _ := f.entry(w.ca, 3, hashOf(t, put))
			f.add(e, issuer)
		}, client.ErrPinned},
		{"the old one", func(*forger, []byte, []byte) {}, client.ErrRollback},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newForger(t, w)
			first, key := f.entry(w.ca, 1, [32]byte{})
			f.add(first, issuer)
			pins := client.NewPins()
			finds(t, w.directory(f.addr, "bob", with(pins)), "alice", "", key, nil)
			before, err := pins.Keys("town")
			if err != nil {
				t.Fatal(err)
			}
			f.put = func(entry []byte) { tc.lie(f, first, entry) }
			next := generate(t, seal.HPKEX25519)
			e, err := w.directory(f.addr, "alice", with(pins)).Publish(t.Context(), w.signs("alice"), next)
			if tc.want == nil {
				if err != nil || e.Serial != 2 || e.PublicKey().Fingerprint() != next.Fingerprint() {
					t.Errorf("%+v, %v", e, err)
				}
				return
			}
			if !errors.Is(err, tc.want) || e != nil {
				t.Errorf("entry %v, error %v, want one like %v", e, err, tc.want)
			}
			after, err := pins.Keys("town")
			if err != nil || after["alice"][string(seal.HPKEX25519)] != before["alice"][string(seal.HPKEX25519)] {
				t.Errorf("pinned is %+v, %v", after, err)
			}
		})
	}
}

// issuerOf is how an authority is named in the log.
func issuerOf(t testing.TB, w *town, ca *testca.CA) string {
	t.Helper()
	v := &seal.X509Verifier{Roots: ca.Pool(), Identify: w.ca.Identify}
	s, err := v.Verify([]*x509.Certificate{ca.Leaf("alice", "").Leaf}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return s.Issuer
}

// The entry of a certificate that was revoked can be replaced by its owner, who has
// another certificate.
func TestPublishAfterARevokedEntry(t *testing.T) {
	w := newTown(t)
	n := w.broker()
	leaf := w.ca.Issue(w.ca.Template("alice", ""))
	stolen, err := seal.NewSigner("alice", leaf.Certificate, leaf.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.directory(n.addr, "alice").Publish(t.Context(), stolen, generate(t, seal.HPKEX25519)); err != nil {
		t.Fatal(err)
	}
	alice := w.directory(n.addr, "alice", func(c *client.DirectoryConfig) { c.Verifier = revoking{w.verifier(), leaf.Leaf} })
	finds(t, alice, "alice", "", nil, seal.ErrRevoked)
	e, err := alice.Publish(t.Context(), w.signs("alice"), generate(t, seal.HPKEX25519))
	if err != nil || e.Serial != 2 {
		t.Errorf("%+v, %v", e, err)
	}
}

// revoking refuses one certificate.
type revoking struct {
	seal.Verifier
	cert *x509.Certificate
}

func (r revoking) Verify(chain []*x509.Certificate, at time.Time) (seal.Sender, error) {
	if chain[0].Equal(r.cert) {
		return seal.Sender{}, seal.ErrRevoked
	}
	return r.Verifier.Verify(chain, at)
}
