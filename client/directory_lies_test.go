package client_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/sealmq/sealmq/internal/testing/liar"
	"github.com/sealmq/sealmq/internal/testing/testca"
	"github.com/sealmq/sealmq/internal/testing/testnode"
	"github.com/sealmq/sealmq/keydir"
	"github.com/sealmq/sealmq/keydir/keylog"
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
		{"the owner's own, under another authority's name", func(f *forger, _, put []byte) { f.add(put, "sha256:11") }, keydir.ErrLog},
		{"another one with the same number", func(f *forger, first, _ []byte) {
			e, _ := f.entry(w.ca, 2, hashOf(t, first))
			f.add(e, issuer)
		}, keydir.ErrPinned},
		{"a later one of whoever has the certificate's key", func(f *forger, _, put []byte) {
			f.add(put, issuer)
			e, _ := f.entry(w.ca, 3, hashOf(t, put))
			f.add(e, issuer)
		}, keydir.ErrPinned},
		{"the old one", func(*forger, []byte, []byte) {}, keydir.ErrRollback},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newForger(t, w)
			first, key := f.entry(w.ca, 1, [32]byte{})
			f.add(first, issuer)
			pins := keydir.NewPins()
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
	if _, err := w.directory(n.Addr, "alice").Publish(t.Context(), stolen, generate(t, seal.HPKEX25519)); err != nil {
		t.Fatal(err)
	}
	alice := w.directory(n.Addr, "alice", func(c *keydir.Config) { c.Verifier = revoking{w.verifier(), leaf.Leaf} })
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

// proxy stands before a broker, and is honest until told otherwise.
func (w *town) proxy(n *testnode.Node) *liar.Liar {
	w.t.Helper()
	l, err := liar.Listen(liar.Config{TLS: w.ca.ServerTLS(), Identify: w.ca.Identify,
		Upstream: func(ctx context.Context, name string) (net.Conn, error) {
			return (&tls.Dialer{Config: named(w.ca.ClientTLS(name))}).DialContext(ctx, "tcp", n.Addr)
		}})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { l.Close() })
	return l
}

// Two clients share pins. While an honest answer is on its way to the one, the key is
// replaced and the other sees it: the broker is asked again, and not accused.
func TestSharedPinsAccuseNobody(t *testing.T) {
	for _, tc := range []struct {
		name     string
		previous bool // there was a key before
		answer   string
	}{{"a replaced key", true, "Key: "}, {"a first key", false, "Error no_key: no key "}} {
		t.Run(tc.name, func(t *testing.T) {
			w := newTown(t)
			n := w.broker()
			l := w.proxy(n)
			pins := keydir.NewPins()
			other := w.directory(n.Addr, "bob", with(pins))
			if tc.previous {
				k := generate(t, seal.HPKEX25519)
				w.publish(n.Addr, "lab", k)
				finds(t, other, "lab", "", k, nil)
			}
			next := generate(t, seal.HPKEX25519)
			var once sync.Once
			l.Lie(liar.Lies{ToClient: func(_ *liar.Conn, line string) []string {
				if strings.HasPrefix(line, tc.answer) {
					once.Do(func() {
						w.publish(n.Addr, "lab", next)
						finds(t, other, "lab", "", next, nil)
					})
				}
				return []string{line}
			}})
			finds(t, w.directory(l.Addr(), "bob", with(pins)), "lab", "", next, nil)
		})
	}
}

// Only the word that there is no such tree accuses. Any other refusal of a proof decides
// nothing, and is not remembered.
func TestRefusedProofsAccuseNobody(t *testing.T) {
	w := newTown(t)
	n := w.broker()
	w.publish(n.Addr, "alice", generate(t, seal.HPKEX25519))
	bob := w.directory(n.Addr, "bob")
	if _, err := bob.Audit(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	w.publish(n.Addr, "carol", generate(t, seal.HPKEX25519))
	l := w.proxy(n)
	d := w.directory(l.Addr(), "eve")
	if _, err := d.Audit(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"Error of_later_versions: something that a later version says", "Error internal: internal error (0123abcd)", "Error unsupported: this broker keeps no proven key directory",
		"Error unsupported: Unknown command", "Key proof: {", "Error bad_argument: the log has no tree of size 77"} {
		l.Lie(liar.Lies{ToClient: func(_ *liar.Conn, line string) []string {
			if strings.HasPrefix(line, "Key proof: ") {
				line = text
			}
			return []string{line}
		}})
		var fork *keydir.ForkError
		if err := d.CheckPeer(t.Context(), bob.Checkpoint()); err == nil || errors.As(err, &fork) || errors.Is(err, keydir.ErrCheckpoint) {
			t.Errorf("%s: error %v", text, err)
		}
	}
	l.Lie(liar.Lies{})
	if err := d.CheckPeer(t.Context(), bob.Checkpoint()); err != nil {
		t.Errorf("an honest proof afterwards: %v", err)
	}
}

// A log that says it is endless is not read.
func TestAuditOfAnEndlessLog(t *testing.T) {
	w := newTown(t)
	n := w.broker()
	l := w.proxy(n)
	checkpoint, err := w.signer.Checkpoint(tlog.Tree{N: keylog.MaxLog + 1})
	if err != nil {
		t.Fatal(err)
	}
	var pages atomic.Int32
	l.Lie(liar.Lies{ToBroker: func(c *liar.Conn, line string) []string {
		if !strings.HasPrefix(line, "key_log") {
			return []string{line}
		}
		pages.Add(1)
		c.ToClient("Key log: " + asJSON(t, keylog.Page{Leaves: []string{}, Size: keylog.MaxLog + 1, Checkpoint: checkpoint, LogKey: w.signer.Public()}))
		return nil
	}})
	_, err = w.directory(l.Addr(), "bob").Audit(t.Context(), "")
	if !errors.Is(err, keydir.ErrLog) || pages.Load() != 1 {
		t.Errorf("%d pages, error %v", pages.Load(), err)
	}
}

func asJSON(t testing.TB, v any) string {
	t.Helper()
	p, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(p)
}
