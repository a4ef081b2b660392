package keydir

import (
	"crypto/x509"
	"errors"
	"testing"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/testing/testca"
	"github.com/sealmq/sealmq/seal"
)

// An owner who publishes is shown something else than what was put: nothing of it is
// believed, and nothing is pinned.
func TestPublishBelievesOnlyItsOwnEntry(t *testing.T) {
	w := newTown(t)
	issuer := w.identity(w.ca, "alice").Issuer
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
		{"the owner's own, under another authority's name", func(f *forger, _, put []byte) { f.add(put, "sha256:11") }, ErrLog},
		{"another one with the same number", func(f *forger, first, _ []byte) {
			e, _ := f.entry(w.ca, 2, hashOf(t, first))
			f.add(e, issuer)
		}, ErrPinned},
		{"a later one of a thief with the certificate's key", func(f *forger, _, put []byte) {
			f.add(put, issuer)
			e, _ := f.entry(w.ca, 3, hashOf(t, put))
			f.add(e, issuer)
		}, ErrPinned},
		{"the old one", func(*forger, []byte, []byte) {}, ErrRollback},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := w.forger()
			first, key := f.entry(w.ca, 1, [32]byte{})
			f.add(first, issuer)
			pins := NewPins()
			finds(t, w.directory(f, with(pins)), "alice", "", key, nil)
			before, err := pins.Keys()
			if err != nil {
				t.Fatal(err)
			}
			f.put = func(entry []byte) { tc.lie(f, first, entry) }
			next := generate(t, small)
			e, err := w.directory(f, with(pins)).Publish(t.Context(), w.signs(w.ca, "alice"), next)
			if tc.want == nil {
				if err != nil || e.Serial != 2 || e.PublicKey().Fingerprint() != next.Fingerprint() {
					t.Errorf("%+v, %v", e, err)
				}
				return
			}
			if !errors.Is(err, tc.want) || e != nil {
				t.Errorf("entry %v, error %v, want one like %v", e, err, tc.want)
			}
			after, err := pins.Keys()
			if err != nil || after["alice"][string(small)] != before["alice"][string(small)] {
				t.Errorf("pinned is %+v, %v", after, err)
			}
		})
	}
}

// The entry of a certificate that was revoked can be replaced by its owner, who has
// another certificate.
func TestPublishAfterARevokedEntry(t *testing.T) {
	w := newTown(t)
	o := w.office()
	leaf := w.ca.Issue(w.ca.Template("alice", ""))
	stolen, err := seal.NewSigner("alice", leaf.Certificate, leaf.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.directory(o.as("alice")).Publish(t.Context(), stolen, generate(t, small)); err != nil {
		t.Fatal(err)
	}
	alice := w.directory(o.as("alice"), func(c *Config) { c.Verifier = revoking{w.verifier(), leaf.Leaf} })
	finds(t, alice, "alice", "", nil, seal.ErrRevoked)
	e, err := alice.Publish(t.Context(), w.signs(w.ca, "alice"), generate(t, small))
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

func TestOwnersWhoPublishAtOnce(t *testing.T) {
	w := newTown(t)
	o := w.office()
	keys := []*seal.PublicKey{generate(t, small), generate(t, small)}
	o.publish("alice", keys[0])
	// A thief with the certificate's key publishes another key: the owner notices it.
	if e := o.publish("alice", keys[1]); e.Serial != 2 {
		t.Errorf("%+v", e)
	}
	a, err := w.directory(o.as("alice")).Audit(t.Context(), "alice")
	if err != nil || len(a.Records) != 2 {
		t.Errorf("%+v, %v", a, err)
	}
	if _, err := w.directory(o.as("bob")).Publish(t.Context(), w.signs(w.ca, "alice"), keys[0]); !errors.Is(err, sealmq.ErrDenied) {
		t.Errorf("alice's entry over bob's connection: %v", err)
	}
}
