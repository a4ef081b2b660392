package proxy

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/httpkit"
	"github.com/sealmq/sealmq/mtls"
	"github.com/sealmq/sealmq/pipeline"
)

// authenticate says who makes a request without a certificate: whom a trusted reverse proxy
// names, or whose API key it has.
func (p *Proxy) authenticate(r *http.Request) (httpkit.Caller, error) {
	if p.cfg.Stale != nil && p.cfg.Stale() != nil {
		return httpkit.Caller{}, httpkit.Errorf(httpkit.CodeUnavailable, httpkit.TextStale)
	}
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return httpkit.Caller{}, httpkit.ErrNoIdentity
	}
	addr := peer.Addr().Unmap()
	// A reverse proxy that was shown no certificate may send the headers without a value.
	if names := r.Header["X-Client-Cert-Cn"]; len(names) > 1 || len(names) == 1 && names[0] != "" {
		if contains(p.cfg.TrustedProxies, addr) {
			return p.named(names, r.Header["X-Client-Cert-Fingerprint"])
		}
		p.metrics.certificateSeen("unverified")
	}
	if key := r.Header.Get("X-API-Key"); key != "" && len(key) <= maxAPIKeyBytes {
		return p.keyed(key, addr)
	}
	return httpkit.Caller{}, httpkit.ErrNoIdentity
}

// named is the client that a trusted reverse proxy names. A header that is there twice may
// have come from the client itself. A name in the form of ForeignClient would be that of another
// authority's client, whose certificate nobody has shown.
func (p *Proxy) named(names, fingerprints []string) (httpkit.Caller, error) {
	if len(names) != 1 || len(fingerprints) > 1 || mtls.CheckCommonName(names[0]) != nil || pipeline.IsForeignClient(names[0]) {
		return httpkit.Caller{}, p.badHeader()
	}
	name, fingerprint := names[0], ""
	if len(fingerprints) == 1 && fingerprints[0] != "" {
		var ok bool
		if fingerprint, ok = plainFingerprint(fingerprints[0]); !ok {
			return httpkit.Caller{}, p.badHeader()
		}
	}
	return p.clientNamed(name, httpkit.ByHeader, fingerprint)
}

// clientNamed is a client that showed no certificate here, unless it is revoked. Then its name goes
// with the error, for the record of who was not let in.
func (p *Proxy) clientNamed(name string, source httpkit.Source, fingerprint string) (httpkit.Caller, error) {
	c := httpkit.Caller{Identity: sealmq.Identity{ID: name, CommonName: name, Role: sealmq.RoleClient}, Source: source, Fingerprint: fingerprint}
	if r := p.cfg.Revocation; r.RevokesName(name) || fingerprint != "" && r.RevokesFingerprint(fingerprint) {
		p.metrics.certificateSeen("revoked")
		return c, httpkit.Errorf(httpkit.CodeAuthorization, httpkit.TextRevoked)
	}
	return c, nil
}

// badHeader is the answer to headers of a trusted reverse proxy that name nobody for certain.
func (p *Proxy) badHeader() error {
	p.metrics.certificateSeen("untrusted")
	return httpkit.Errorf(httpkit.CodeAuthentication, httpkit.TextNoIdentity)
}

// plainFingerprint is a SHA-256 in lower-case hexadecimal, from a form with colons or with the
// name of the hash before it.
func plainFingerprint(s string) (string, bool) {
	s = strings.TrimPrefix(strings.ToLower(strings.ReplaceAll(s, ":", "")), "sha256")
	b, err := hex.DecodeString(s)
	return s, err == nil && len(b) == sha256.Size
}

// clientID is whose messages a caller sends. A name of our own authority that looks like a
// foreign client's is no exception from the form.
func (p *Proxy) clientID(c httpkit.Caller) string {
	if c.Source != httpkit.ByCertificate || p.cfg.OwnIssuer(c.Issuer) && !pipeline.IsForeignClient(c.ID) {
		return c.ID
	}
	return pipeline.ForeignClient(c.ID, c.Issuer)
}

func contains(list []netip.Prefix, addr netip.Addr) bool {
	return slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// ownCertificate remembers for a moment whether the proxy's own certificate is revoked.
type ownCertificate struct{ last atomic.Pointer[ownState] }

type ownState struct {
	at   time.Time
	leaf *x509.Certificate // nil if there is none
	err  error
}

// ownFor is how long the answer is good.
const ownFor = 100 * time.Millisecond

// checkOwn says why the proxy's own certificate is no good, or nil. A proxy whose certificate
// is revoked is cut off from its clients too. Once it has another certificate, nothing is
// sealed with the old one any more: the old one may be revoked next.
func (p *Proxy) checkOwn(now time.Time) error {
	last := p.own.last.Load()
	if last != nil && now.Sub(last.at) < ownFor && !now.Before(last.at) {
		return last.err
	}
	s := &ownState{at: now}
	chain := p.cfg.Certificate()
	if len(chain) > 0 {
		s.leaf = chain[0]
	}
	if last != nil && !s.leaf.Equal(last.leaf) {
		p.keys.rotate()
	}
	switch {
	case len(chain) == 0:
		s.err = errors.New("the proxy has no certificate")
	case now.After(chain[0].NotAfter):
		s.err = errors.New("the proxy's certificate has expired")
	case p.cfg.Revocation.Check(chain) != nil:
		s.err = errors.New("the proxy's certificate has been revoked")
	}
	p.own.last.Store(s)
	return s.err
}
