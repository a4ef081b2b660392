package seal_test

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/mtls"
	"github.com/sealmq/sealmq/seal"
	"github.com/sealmq/sealmq/trust"
)

// authority is a root or an intermediate with any dates.
type authority struct {
	tb   testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(tb testing.TB, name string, above *authority, from, to time.Time) *authority {
	tb.Helper()
	a := &authority{tb: tb, key: privateKey(tb, "P-256").(*ecdsa.PrivateKey)}
	t := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: name}, NotBefore: from, NotAfter: to,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	a.cert = t
	if above == nil {
		above = a
	}
	a.cert = above.issue(t, a.key)
	return a
}

func (a *authority) issue(t *x509.Certificate, key *ecdsa.PrivateKey) *x509.Certificate {
	a.tb.Helper()
	der, err := x509.CreateCertificate(rand.Reader, t, a.cert, key.Public(), a.key)
	if err != nil {
		a.tb.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.tb.Fatal(err)
	}
	return cert
}

func leafTemplate(name string, from, to time.Time) *x509.Certificate {
	return &x509.Certificate{SerialNumber: big.NewInt(0xabc), Subject: pkix.Name{CommonName: name}, NotBefore: from, NotAfter: to,
		KeyUsage: x509.KeyUsageDigitalSignature}
}

func (a *authority) verifier(now func() time.Time) *trust.Verifier {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return &trust.Verifier{Roots: pool, Identifier: mtls.NewIdentifier(a.cert), Now: now}
}

// use makes e an epoch of the holder of chain[0].
func (e *refEpoch) use(key *ecdsa.PrivateKey, chain ...*x509.Certificate) {
	e.key, e.chain = key, nil
	for _, c := range chain {
		e.chain = append(e.chain, lp(c.Raw)...)
	}
}

func TestWhenASignerIsAccepted(t *testing.T) {
	const day = 24 * time.Hour
	for name, tc := range map[string]struct {
		from, to time.Duration // of the certificate, all from the time of sealing
		opened   time.Duration
		want     error
		hint     string
	}{
		"valid all the time":              {-day, day, time.Hour, nil, ""},
		"expired since":                   {-day, day, 20 * day, nil, ""},
		"expired since, and too long ago": {-day, day, 31 * day, seal.ErrExpired, "send it again"},
		"old, but not expired":            {-day, 100 * day, 90 * day, nil, ""},
		"expired before":                  {-day, -time.Hour, time.Hour, seal.ErrExpired, "renew"},
		"not valid yet":                   {time.Hour, day, 2 * time.Hour, seal.ErrNotYetValid, "clock"},
		"in the last second":              {-day, 0, 0, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, seal.HPKEX25519, "bob")
			w.now = time.Now().Truncate(time.Second)
			root := newAuthority(t, "root", nil, w.now.Add(-1000*day), w.now.Add(1000*day))
			key := privateKey(t, "P-256").(*ecdsa.PrivateKey)
			e, m := w.honest("alice", "P-256", "bob")
			e.use(key, root.issue(leafTemplate("alice", w.now.Add(tc.from), w.now.Add(tc.to)), key))
			body := e.finish().json(m)

			w.now = w.now.Add(tc.opened)
			o := w.opener("bob", func(c *seal.OpenerConfig) { c.Verifier = root.verifier(w.clock) })
			if tc.want == nil {
				w.open(o, body, m.id)
				return
			}
			err := refused(t, o, body, seal.Expect{ID: m.id}, name)
			if !errors.Is(err, tc.want) || !strings.Contains(hintOf(err), tc.hint) {
				t.Errorf("%v, hint %q", err, hintOf(err))
			}
		})
	}
}

// The epoch is open and its signer known when the message comes whose time is one too many.
func TestSignerIsHeldAgainstEachMessage(t *testing.T) {
	w := newWorld(t, seal.HPKEX25519, "bob")
	w.now = time.Now().Truncate(time.Second)
	root := newAuthority(t, "root", nil, w.now.Add(-time.Hour), w.now.Add(1000*time.Hour))
	key := privateKey(t, "P-256").(*ecdsa.PrivateKey)
	e, m := w.honest("alice", "P-256", "bob")
	e.notAfter = e.created + 3600_000
	e.use(key, root.issue(leafTemplate("alice", w.now.Add(-time.Hour), w.now.Add(time.Minute)), key))
	e.finish()
	o := w.opener("bob", func(c *seal.OpenerConfig) { c.Verifier = root.verifier(w.clock) })
	w.open(o, e.json(m), m.id)
	late := *m
	late.time += 61_000
	if err := refused(t, o, e.json(&late), seal.Expect{ID: m.id}, "sealed after the end, a moment later"); !errors.Is(err, seal.ErrExpired) {
		t.Error(err)
	}
	w.now = w.now.Add(2 * time.Minute)
	if err := refused(t, o, e.json(&late), seal.Expect{ID: m.id}, "sealed after the end"); !errors.Is(err, seal.ErrExpired) {
		t.Error(err)
	}
	w.open(o, e.json(m), m.id)
	w.now = w.now.Add(31 * 24 * time.Hour)
	if err := refused(t, o, e.json(m), seal.Expect{ID: m.id}, "sealed long ago"); !errors.Is(err, seal.ErrExpired) {
		t.Error(err)
	}
}

type revocations func([]*x509.Certificate) error

func (f revocations) Check(chain []*x509.Certificate) error { return f(chain) }

func TestRevokedSigner(t *testing.T) {
	w := newWorld(t, seal.HPKEX25519, "bob")
	var answer atomic.Pointer[error]
	asked := 0
	o := w.opener("bob", func(c *seal.OpenerConfig) {
		v := w.verifier()
		v.Revocation = revocations(func(chain []*x509.Certificate) error {
			asked++
			if len(chain) != 2 || chain[0].IsCA || !chain[1].IsCA {
				t.Errorf("asked about a chain of %d", len(chain))
			}
			if err := answer.Load(); err != nil {
				return *err
			}
			return nil
		})
		c.Verifier = v
	})
	s := w.sealer([]string{"bob"})
	c := content(secretText)
	body := w.seal(s, c)
	w.open(o, body, c.ID)
	w.open(o, body, c.ID)
	if asked != 1 {
		t.Errorf("asked %d times within a moment", asked)
	}
	answer.Store(&mtls.ErrRevoked)
	w.open(o, body, c.ID)
	w.now = w.now.Add(-time.Minute)
	if err := refused(t, o, body, seal.Expect{ID: c.ID}, "revoked, and the clock set back"); !errors.Is(err, seal.ErrRevoked) {
		t.Error(err)
	}
	answer.Store(nil)
	w.open(o, body, c.ID)
	answer.Store(&mtls.ErrRevoked)
	w.now = w.now.Add(seal.DefaultRecheck)
	err := refused(t, o, body, seal.Expect{ID: c.ID}, "revoked while the epoch is open")
	if !errors.Is(err, seal.ErrRevoked) || !errors.Is(err, mtls.ErrRevoked) || !strings.Contains(hintOf(err), "quarantine") {
		t.Errorf("%v, hint %q", err, hintOf(err))
	}
	err = refused(t, w.opener("bob", func(c *seal.OpenerConfig) {
		v := w.verifier()
		v.Revocation = revocations(func([]*x509.Certificate) error { return mtls.ErrRevoked })
		c.Verifier = v
	}), body, seal.Expect{ID: c.ID}, "revoked before")
	if !errors.Is(err, seal.ErrRevoked) {
		t.Error(err)
	}
	undecided := fmt.Errorf("the list is out of date: %w", seal.ErrUndecided)
	answer.Store(&undecided)
	if err := refused(t, o, body, seal.Expect{ID: c.ID}, "nobody knows"); !errors.Is(err, seal.ErrUndecided) || errors.Is(err, seal.ErrRevoked) {
		t.Error(err)
	}
	answer.Store(nil)
	w.open(o, body, c.ID)
}

func TestWhoseCertificateItIs(t *testing.T) {
	now := time.Now()
	from, to := now.Add(-time.Hour), now.Add(time.Hour)
	root := newAuthority(t, "root", nil, from, to)
	middle := newAuthority(t, "middle", root, from, to)
	stranger := newAuthority(t, "stranger", nil, from, to)
	old := newAuthority(t, "old", root, now.Add(-2*time.Hour), now.Add(-time.Hour))
	for name, tc := range map[string]struct {
		issuer *authority
		extra  []*x509.Certificate // behind the leaf
		change func(*x509.Certificate)
		want   error
	}{
		"of the root":                    {issuer: root},
		"of an intermediate":             {issuer: middle, extra: []*x509.Certificate{middle.cert}},
		"with the root behind":           {issuer: middle, extra: []*x509.Certificate{middle.cert, root.cert}},
		"the intermediate is missing":    {issuer: middle, want: seal.ErrUntrusted},
		"of a stranger":                  {issuer: stranger, want: seal.ErrUntrusted},
		"of a stranger who is brought":   {issuer: stranger, extra: []*x509.Certificate{stranger.cert}, want: seal.ErrUntrusted},
		"of an expired intermediate":     {issuer: old, extra: []*x509.Certificate{old.cert}, want: seal.ErrExpired},
		"an authority":                   {issuer: root, change: func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true }, want: seal.ErrUntrusted},
		"not for signing":                {issuer: root, change: func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment }, want: seal.ErrUntrusted},
		"without key usage":              {issuer: root, change: func(c *x509.Certificate) { c.KeyUsage = 0 }},
		"another name":                   {issuer: root, change: func(c *x509.Certificate) { c.Subject.CommonName = "mallory" }, want: seal.ErrSender},
		"a name in other letters":        {issuer: root, change: func(c *x509.Certificate) { c.Subject.CommonName = "Alice" }, want: seal.ErrSender},
		"two names that differ":          {issuer: root, change: func(c *x509.Certificate) { c.URIs = append(c.URIs, mtls.ClientURI("mallory")) }, want: seal.ErrUntrusted},
		"the name as an organisation":    {issuer: root, change: func(c *x509.Certificate) { c.Subject = pkix.Name{Organization: []string{"alice"}} }, want: seal.ErrSender},
		"an extension that is not known": {issuer: root, change: func(c *x509.Certificate) { c.ExtraExtensions = []pkix.Extension{{Id: []int{1, 2, 3}, Critical: true}} }, want: seal.ErrUntrusted},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, seal.HPKEX25519, "bob")
			key := privateKey(t, "P-256").(*ecdsa.PrivateKey)
			template := leafTemplate("alice", from, to)
			if tc.change != nil {
				tc.change(template)
			}
			e, m := w.honest("alice", "P-256", "bob")
			e.use(key, append([]*x509.Certificate{tc.issuer.issue(template, key)}, tc.extra...)...)
			o := w.opener("bob", func(c *seal.OpenerConfig) { c.Verifier = root.verifier(w.clock) })
			body := e.finish().json(m)
			if tc.want == nil {
				if got := w.open(o, body, m.id); got.Sender.ID != "alice" || got.Sender.Role != sealmq.RoleClient || got.Sender.Issuer == "" {
					t.Errorf("sender %+v", got.Sender)
				}
			} else if err := refused(t, o, body, seal.Expect{ID: m.id}, name); !errors.Is(err, tc.want) {
				t.Error(err)
			}
		})
	}
}

func TestRoleOfTheSender(t *testing.T) {
	w := newWorld(t, seal.HPKEX25519, "bob")
	leaf := w.ca.Leaf("proxy-1", sealmq.RoleProxy)
	signer, err := seal.NewSigner("proxy-1", leaf.Certificate, leaf.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	w.alice = signer
	c := content(secretText)
	if m := w.open(w.opener("bob"), w.seal(w.sealer([]string{"bob"}), c), c.ID); m.Sender.Role != sealmq.RoleProxy || m.Sender.ID != "proxy-1" {
		t.Errorf("sender %+v", m.Sender)
	}
}

func TestVerifierFailsClosed(t *testing.T) {
	w := newWorld(t, seal.HPKEX25519, "bob")
	c := content(secretText)
	body := w.seal(w.sealer([]string{"bob"}), c)
	for name, v := range map[string]seal.Verifier{
		"without roots": &trust.Verifier{},
		"with an error of its own": verifierFunc(func([]*x509.Certificate, time.Time) (seal.Sender, error) {
			return seal.Sender{}, errors.New("no connection")
		}),
		"that knows nobody": verifierFunc(func([]*x509.Certificate, time.Time) (seal.Sender, error) { return seal.Sender{}, nil }),
	} {
		refused(t, w.opener("bob", func(c *seal.OpenerConfig) { c.Verifier = v }), body, seal.Expect{ID: c.ID}, "a verifier "+name)
	}
	if _, err := w.ca.Verifier().Verify(nil, w.now); !errors.Is(err, seal.ErrUntrusted) {
		t.Errorf("no chain: %v", err)
	}
	for name, cfg := range map[string]seal.OpenerConfig{
		"no verifier":      {Name: "bob", Keys: w.ring("bob")},
		"no name":          {Keys: w.ring("bob"), Verifier: w.verifier()},
		"no keys":          {Name: "bob", Verifier: w.verifier()},
		"an unknown suite": {Name: "bob", Keys: w.ring("bob"), Verifier: w.verifier(), Suites: []seal.Suite{"rot13"}},
	} {
		if _, err := seal.NewOpener(cfg); err == nil {
			t.Errorf("an opener with %s", name)
		}
	}
}

func TestNewSignerRefuses(t *testing.T) {
	w := newWorld(t, seal.HPKEX25519)
	chain, key := w.certificate("alice", "P-256")
	_, other := w.certificate("alice", "P-256")
	p521, p521Key := w.certificate("alice", "P-521")
	ca, caKey := w.certificate("alice", "P-256", func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true })
	cipher, cipherKey := w.certificate("alice", "P-256", func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyAgreement })
	long := [][]byte{chain[0], chain[0], chain[0], chain[0], chain[0]}
	for name, tc := range map[string]struct {
		as    string
		chain [][]byte
		key   any
	}{
		"no name":             {"", chain, key},
		"a name with a bell":  {"alice\a", chain, key},
		"no chain":            {"alice", nil, key},
		"no certificate":      {"alice", [][]byte{[]byte("nonsense")}, key},
		"no key":              {"alice", chain, nil},
		"another key":         {"alice", chain, other},
		"a public key":        {"alice", chain, key.Public()},
		"a curve not allowed": {"alice", p521, p521Key},
		"an authority":        {"alice", ca, caKey},
		"not for signing":     {"alice", cipher, cipherKey},
		"a chain too long":    {"alice", long, key},
	} {
		if _, err := seal.NewSigner(tc.as, tc.chain, tc.key); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	s, err := seal.NewSigner("alice", append(chain, w.ca.Root().Raw), key)
	if err != nil || s.Name() != "alice" || s.NotAfter().IsZero() {
		t.Errorf("with the root behind: %v", err)
	}
}

// What is signed under one label must not pass under another.
func TestSignAndCheck(t *testing.T) {
	for _, kind := range signerKinds {
		w := newWorld(t, seal.HPKEX25519)
		chain, key := w.certificate("alice", kind)
		s, err := seal.NewSigner("alice", chain, key)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(chain[0])
		if err != nil {
			t.Fatal(err)
		}
		sig, err := s.Sign("SealMQ v1 test", []byte("content"))
		if err != nil {
			t.Fatal(err)
		}
		if err := seal.CheckSignature(cert, "SealMQ v1 test", []byte("content"), sig); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		if !refVerify(key.Public(), "SealMQ v1 test", []byte("content"), sig) {
			t.Errorf("%s: the second implementation refuses the signature", kind)
		}
		for name, err := range map[string]error{
			"another label":     seal.CheckSignature(cert, seal.LabelEpoch, []byte("content"), sig),
			"another content":   seal.CheckSignature(cert, "SealMQ v1 test", []byte("Content"), sig),
			"a moved border":    seal.CheckSignature(cert, "SealMQ v1 tes", []byte("t\x00content"), sig),
			"no signature":      seal.CheckSignature(cert, "SealMQ v1 test", []byte("content"), nil),
			"another's":         seal.CheckSignature(w.ca.Root(), "SealMQ v1 test", []byte("content"), sig),
			"a cut signature":   seal.CheckSignature(cert, "SealMQ v1 test", []byte("content"), sig[:len(sig)-1]),
			"a longer one":      seal.CheckSignature(cert, "SealMQ v1 test", []byte("content"), append(sig, 0)),
			"of a strange kind": seal.CheckSignature(&x509.Certificate{PublicKey: "none"}, "SealMQ v1 test", []byte("content"), sig),
		} {
			if !errors.Is(err, seal.ErrSignature) {
				t.Errorf("%s, %s: %v", kind, name, err)
			}
		}
	}
}
