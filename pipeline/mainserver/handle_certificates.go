package mainserver

import (
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/api/mainapi"
	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/internal/httpkit"
	"github.com/sealmq/sealmq/mtls"
	"github.com/sealmq/sealmq/pipeline/records"
	"github.com/sealmq/sealmq/trust"
)

// Statuses of certificates.
const (
	certActive  = mainapi.CertificateStatusActive
	certRevoked = mainapi.CertificateStatusRevoked
	certExpired = mainapi.CertificateStatusExpired
)

// certificateFilter chooses certificates. Empty fields choose all.
type certificateFilter struct {
	status               mainapi.CertificateStatus
	client, domain       string
	role                 sealmq.Role
	serial               string    // or its beginning
	current              bool      // leaves out what has a successor
	due                  bool      // leaves out what need not have been renewed yet
	expiresAfter, before time.Time // the end; before is not included
}

// certificates are those on record, those that expire first at the top.
func (h *handler) certificates(f certificateFilter) ([]mainapi.Certificate, error) {
	var history []ca.Issued
	var err error
	if f.client != "" {
		history, err = h.cfg.Authority.HistoryOf(f.client)
	} else {
		history, err = h.cfg.Authority.History()
	}
	if err != nil {
		return nil, err
	}
	var found []*ca.Issued
	now := h.now()
	for i := range history {
		if f.matches(&history[i], now) {
			found = append(found, &history[i])
		}
	}
	slices.SortFunc(found, func(a, b *ca.Issued) int {
		return cmp.Or(a.NotAfter.Compare(b.NotAfter), cmp.Compare(a.Serial, b.Serial))
	})
	list := make([]mainapi.Certificate, 0, len(found))
	for _, c := range found {
		if m := h.certificate(c); f.status == "" || m.Status == f.status {
			list = append(list, m)
		}
	}
	return list, nil
}

// matches compares everything but the status, which takes longer.
func (f *certificateFilter) matches(c *ca.Issued, now time.Time) bool {
	return (f.domain == "" || cmp.Or(c.Domain, records.DefaultDomain) == f.domain) && (f.role == "" || c.Role == f.role) &&
		strings.HasPrefix(c.Serial, f.serial) && (!f.current || c.SupersededBy == "") && (!f.due || c.NotAfter.Sub(now) < mtls.RenewBefore(c.NotAfter.Sub(c.IssuedAt))) &&
		(f.before.IsZero() || c.NotAfter.Before(f.before)) && !c.NotAfter.Before(f.expiresAfter)
}

// certificate joins a record with what is revoked now.
func (h *handler) certificate(c *ca.Issued) mainapi.Certificate {
	m := mainapi.Certificate{Fingerprint: c.Fingerprint, Serial: c.Serial, ClientID: c.Name, Domain: cmp.Or(c.Domain, records.DefaultDomain), Role: c.Role,
		IssuedAt: c.IssuedAt.UTC(), ExpiresAt: c.NotAfter.UTC(), IssuedBy: c.IssuedBy, Source: string(c.Source), Hosts: c.Hosts}
	status, e := h.cfg.Authority.StatusOf(*c, h.cfg.Revocations)
	m.Status = mainapi.CertificateStatus(status)
	switch m.Status {
	case certRevoked:
		m.RevokedAt, m.RevocationReason = e.RevokedAt.UTC(), e.Reason
	case certActive:
		m.DaysRemaining = int(c.NotAfter.Sub(h.now()) / (24 * time.Hour))
	}
	return m
}

// A certificateCursor is where a page of certificates ends.
type certificateCursor struct {
	End    int64  `json:"e"`
	Serial string `json:"s"`
}

// page cuts a page out of a list.
func page(list []mainapi.Certificate, limit int, cursor string) (p mainapi.CertificatePage, err error) {
	p.Total = mainapi.Total{Count: int64(len(list)), Exact: true}
	if cursor != "" {
		var at certificateCursor
		b, err := base64.RawURLEncoding.DecodeString(cursor)
		if err == nil {
			err = json.Unmarshal(b, &at)
		}
		if err != nil || at.Serial == "" {
			return p, errCursor
		}
		i, _ := slices.BinarySearchFunc(list, at, func(c mainapi.Certificate, at certificateCursor) int {
			if d := cmp.Or(cmp.Compare(c.ExpiresAt.Unix(), at.End), cmp.Compare(c.Serial, at.Serial)); d != 0 {
				return d
			}
			return -1 // the page begins behind it
		})
		list = list[i:]
	}
	limit = cmp.Or(limit, records.DefaultLimit)
	if len(list) > limit {
		last := list[limit-1]
		b, err := json.Marshal(certificateCursor{last.ExpiresAt.Unix(), last.Serial})
		if err != nil {
			return p, err
		}
		p.NextCursor, list = base64.RawURLEncoding.EncodeToString(b), list[:limit]
	}
	p.Items = append([]mainapi.Certificate{}, list...)
	return p, nil
}

var errCursor = httpkit.Invalid(httpkit.Field{Type: "value_error", Loc: []any{"query", "cursor"}, Msg: "The cursor is not valid: use one from an earlier page, or none"})

// ListCertificates implements mainapi.StrictServerInterface.
func (h *handler) ListCertificates(_ context.Context, r mainapi.ListCertificatesRequestObject) (mainapi.ListCertificatesResponseObject, error) {
	p := r.Params
	list, err := h.certificates(certificateFilter{status: p.Status, client: p.ClientID, domain: p.Domain, role: p.Role,
		serial: trust.SerialForm(p.Serial), expiresAfter: p.ExpiresAfter, before: p.ExpiresBefore})
	if err != nil {
		return nil, err
	}
	answer, err := page(list, p.Limit, p.Cursor)
	return mainapi.ListCertificates200JSONResponse(answer), err
}

// ListExpiringCertificates implements mainapi.StrictServerInterface.
func (h *handler) ListExpiringCertificates(_ context.Context, r mainapi.ListExpiringCertificatesRequestObject) (mainapi.ListExpiringCertificatesResponseObject, error) {
	list, err := h.expiring(r.Params.Days)
	if err != nil {
		return nil, err
	}
	answer, err := page(list, r.Params.Limit, r.Params.Cursor)
	return mainapi.ListExpiringCertificates200JSONResponse(answer), err
}

// expiring are the active certificates without a successor that end within some days.
func (h *handler) expiring(days int) ([]mainapi.Certificate, error) {
	return h.certificates(certificateFilter{status: certActive, current: true, before: h.now().AddDate(0, 0, days)})
}

// find is the record of a certificate, which another main server may have issued a moment ago.
func (h *handler) find(ctx context.Context, fingerprint string) (ca.Issued, error) {
	c, err := h.onRecord(fingerprint)
	if err == nil || h.cfg.Sharing == nil {
		return c, err
	}
	if _, errSync := h.cfg.Sharing.Sync(ctx); errSync != nil {
		return c, err // the log says why what others issue is not known
	}
	return h.onRecord(fingerprint)
}

func (h *handler) onRecord(fingerprint string) (ca.Issued, error) {
	history, err := h.cfg.Authority.History()
	if err != nil {
		return ca.Issued{}, err
	}
	i := slices.IndexFunc(history, func(c ca.Issued) bool { return c.Fingerprint == fingerprint })
	if i < 0 {
		return ca.Issued{}, httpkit.Errorf(httpkit.CodeNotFound, "This authority has issued no such certificate")
	}
	return history[i], nil
}

// GetCertificate implements mainapi.StrictServerInterface.
func (h *handler) GetCertificate(ctx context.Context, r mainapi.GetCertificateRequestObject) (mainapi.GetCertificateResponseObject, error) {
	c, err := h.find(ctx, r.Fingerprint)
	if err != nil {
		return nil, err
	}
	m := h.certificate(&c)
	if err := h.relate(&c, &m); err != nil {
		return nil, err
	}
	return mainapi.GetCertificate200JSONResponse(m), nil
}

// relate adds who signed a certificate, what it replaced and what has replaced it.
func (h *handler) relate(c *ca.Issued, m *mainapi.Certificate) error {
	above := []*x509.Certificate{h.cfg.Authority.Root()}
	if i := h.cfg.Authority.Intermediate(); i != nil && mtls.Issuer(i) == c.Signer {
		above = slices.Insert(above, 0, i)
	}
	for _, a := range above {
		m.Chain = append(m.Chain, mainapi.Issuer{Subject: a.Subject.String(), Fingerprint: mtls.Fingerprint(a), ExpiresAt: a.NotAfter.UTC()})
	}
	others, err := h.cfg.Authority.HistoryOf(c.Name)
	for _, o := range others {
		switch {
		case o.Serial == c.SupersededBy:
			m.ReplacedBy = o.Fingerprint
		case slices.Contains(c.Supersedes, o.Serial):
			m.Replaces = append(m.Replaces, o.Fingerprint)
		}
	}
	return err
}

// VerifyCertificate implements mainapi.StrictServerInterface.
func (h *handler) VerifyCertificate(_ context.Context, r mainapi.VerifyCertificateRequestObject) (mainapi.VerifyCertificateResponseObject, error) {
	found, err := h.verify(r.Body.Certificate)
	return mainapi.VerifyCertificate200JSONResponse(found), err
}

// expiresSoon is what expires_soon says of a certificate, whatever its life is.
const expiresSoon = 30 * 24 * time.Hour

// verify checks a certificate as a listener would.
func (h *handler) verify(text string) (found mainapi.CertificateCheck, err error) {
	certs, err := mtls.ParseCertificates([]byte(text))
	if err != nil {
		return found, invalid("certificate", "This is no certificate in PEM")
	}
	leaf, now := certs[0], h.now()
	found = mainapi.CertificateCheck{Fingerprint: mtls.Fingerprint(leaf), Subject: leaf.Subject.String(), NotAfter: leaf.NotAfter.UTC(),
		Expired: now.After(leaf.NotAfter), ExpiresSoon: !now.After(leaf.NotAfter) && now.Add(expiresSoon).After(leaf.NotAfter)}
	chains, err := h.chains(certs, now)
	found.SignatureValid = err == nil
	chain := []*x509.Certificate{leaf}
	if err == nil {
		chain = chains[0]
	} else {
		chains = [][]*x509.Certificate{{leaf, leaf}} // its chain has been judged
	}
	found.Revoked = h.cfg.Revocations.Check(chain) != nil
	found.KeyUsageOk = mtls.CheckClient(chains) == nil
	found.Valid = found.SignatureValid && !found.Expired && !now.Before(leaf.NotBefore) && !found.Revoked && found.KeyUsageOk
	return found, nil
}

// chains are those to the accepted authorities. The dates are another finding.
func (h *handler) chains(certs []*x509.Certificate, now time.Time) ([][]*x509.Certificate, error) {
	leaf := certs[0]
	if now.After(leaf.NotAfter) || now.Before(leaf.NotBefore) {
		now = leaf.NotBefore.Add(leaf.NotAfter.Sub(leaf.NotBefore) / 2)
	}
	roots, intermediates := mtls.Pool(h.cfg.Authority.Root()), mtls.Pool(certs[1:]...)
	if h.cfg.Roots != nil {
		for _, c := range h.cfg.Roots() {
			roots.AddCert(c)
		}
	}
	if c := h.cfg.Authority.Intermediate(); c != nil {
		intermediates.AddCert(c)
	}
	return leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: intermediates, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
}

// GetAuthority implements mainapi.StrictServerInterface.
func (h *handler) GetAuthority(context.Context, mainapi.GetAuthorityRequestObject) (mainapi.GetAuthorityResponseObject, error) {
	data := h.rootPEM()
	return mainapi.GetAuthority200ApplicationXPemFileResponse{Body: bytes.NewReader(data), ContentLength: int64(len(data))}, nil
}

func (h *handler) rootPEM() []byte {
	return mtls.EncodeCertificates(h.cfg.Authority.Root())
}

// GetRevocationList implements mainapi.StrictServerInterface.
func (h *handler) GetRevocationList(ctx context.Context, _ mainapi.GetRevocationListRequestObject) (mainapi.GetRevocationListResponseObject, error) {
	list, err := h.crl.get(h.cfg.Revocations.Version(), h.cfg.Authority.CRL)
	if err != nil {
		return nil, noKey(err)
	}
	if accept := exchangeOf(ctx).r.Header.Get("Accept"); strings.Contains(accept, "application/pkix-crl") {
		return mainapi.GetRevocationList200ApplicationPkixCrlResponse{Body: bytes.NewReader(list.List.Raw), ContentLength: int64(len(list.List.Raw))}, nil
	}
	return mainapi.GetRevocationList200ApplicationXPemFileResponse{Body: bytes.NewReader(list.PEM), ContentLength: int64(len(list.PEM))}, nil
}

// crlAge is how long a CRL is answered from memory if nothing was revoked meanwhile. Anybody
// may ask, and making one takes the authority's lock.
const crlAge = 10 * time.Second

type crlCache struct {
	mu      sync.Mutex
	at      time.Time
	version uint64
	list    *ca.CRL
	err     error
}

func (c *crlCache) get(version uint64, read func() (*ca.CRL, error)) (*ca.CRL, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.at.IsZero() || c.version != version || time.Since(c.at) > crlAge {
		c.list, c.err = read()
		c.version, c.at = version, time.Now()
	}
	return c.list, c.err
}

// noKey is the answer where the authority's key is missing.
func noKey(err error) error {
	if errors.Is(err, ca.ErrNoKey) {
		return &httpkit.Error{Code: httpkit.CodeUnavailable, Message: "The authority's key is not on this server; bring it back, or issue certificates where it is", Err: err}
	}
	return err
}
