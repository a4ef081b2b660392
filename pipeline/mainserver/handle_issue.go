package mainserver

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/api/mainapi"
	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/internal/httpkit"
	"github.com/sealmq/sealmq/mtls"
	"github.com/sealmq/sealmq/pipeline"
	"github.com/sealmq/sealmq/pipeline/records"
	"github.com/sealmq/sealmq/trust"
)

// unspecified is the reason of a revocation that gives none.
const unspecified = "Unspecified"

// IssueCertificate implements mainapi.StrictServerInterface.
func (h *handler) IssueCertificate(ctx context.Context, r mainapi.IssueCertificateRequestObject) (mainapi.IssueCertificateResponseObject, error) {
	c, err := h.issue(ctx, *r.Body)
	return mainapi.IssueCertificate201JSONResponse(c), err
}

// issue makes a certificate for a name.
func (h *handler) issue(ctx context.Context, r mainapi.CertificateRequest) (answer mainapi.IssuedCertificate, err error) {
	names, ips, err := hostsOf(&r)
	err = together(err, checkRequest(&r))
	if err == nil && r.Role != "" && r.Role != sealmq.RoleClient {
		err = h.confirmed(ctx)
	}
	if err != nil {
		return answer, err
	}
	// The database is asked first, so that no certificate is issued while it is away.
	client, err := h.cfg.Store.Client(ctx, r.ClientID)
	if err != nil && !errors.Is(err, records.ErrNotFound) {
		return answer, err
	}
	r.Domain = cmp.Or(r.Domain, client.Domain, records.DefaultDomain)
	if !mtls.ValidID(r.Domain) { // that of a message may be longer
		return answer, invalid("domain", "The domain of a certificate is a letter or digit, then up to 63 letters, digits, dots, underscores and hyphens; the client's own is another, so give one")
	}
	c, err := h.signNew(ctx, r.Replace, ca.Request{Name: r.ClientID, Role: r.Role, Days: r.ValidityDays, Domain: r.Domain, CSR: csrOf(r.Csr), DNSNames: names, IPs: ips})
	if err != nil {
		return answer, err
	}
	h.noteIssued(ctx, "certificate_generated", client, &c)
	return c.answer, nil
}

// signNew issues a certificate for a client that has no active one, or whose certificate is to
// be replaced.
func (h *handler) signNew(ctx context.Context, replace bool, r ca.Request) (c signed, err error) {
	h.admin.Lock()
	defer h.admin.Unlock()
	if !replace {
		if err := h.noActive(r.Name); err != nil {
			return c, err
		}
	}
	return h.sign(ctx, r)
}

func csrOf(text string) []byte {
	if text == "" {
		return nil
	}
	return []byte(text)
}

// hostsOf are the host names and addresses that a certificate is to have.
func hostsOf(r *mainapi.CertificateRequest) ([]string, []net.IP, error) {
	if len(r.Sans) == 0 {
		return nil, nil, nil
	}
	if !slices.Contains([]sealmq.Role{sealmq.RoleServer, sealmq.RoleProxy, sealmq.RoleWorker}, r.Role) {
		return nil, nil, invalid("sans", "Only certificates of the roles server, proxy and worker have host names")
	}
	names, ips, err := ca.ParseHosts(r.Sans)
	if err != nil {
		return nil, nil, invalid("sans", "Each entry must be a host name or an IP address")
	}
	return names, ips, nil
}

// checkRequest checks what the schema cannot.
func checkRequest(r *mainapi.CertificateRequest) error {
	var role, csr error
	if means := mtls.ReservedRole(r.ClientID); r.Role == "" && means != sealmq.RoleClient {
		role = invalid("role", fmt.Sprintf("The name means the role %s by convention, so the role must be given", means))
	}
	if r.Csr != "" {
		csr = checkCSR(r.Csr, r.ClientID)
	}
	return together(role, csr)
}

func checkCSR(text, name string) error {
	csr, err := ca.ParseCSR([]byte(text))
	switch {
	case err != nil:
		return invalid("csr", "This is no usable certificate signing request in PEM: its key must be ECDSA, Ed25519 or RSA with 2048 bits or more, and sign it")
	case csr.CommonName != "" && csr.CommonName != name:
		return invalid("csr", "The common name of the request is not the client's")
	}
	return nil
}

// signed is a certificate that was issued.
type signed struct {
	answer mainapi.IssuedCertificate
	leaf   *x509.Certificate
}

// sign issues a certificate. The lock is held, and the database is not asked.
func (h *handler) sign(ctx context.Context, r ca.Request) (s signed, err error) {
	caller, _ := httpkit.CallerOf(ctx)
	r.By, r.Source = caller.ID, cmp.Or(r.Source, ca.SourceAPI)
	if r.RenewUntil.IsZero() {
		r.RenewUntil = h.now().Add(h.renewFor()).UTC().Truncate(time.Second)
	}
	domain := r.Domain
	if domain == records.DefaultDomain {
		r.Domain = ""
	}
	valid := cmp.Or(r.Valid, time.Duration(cmp.Or(r.Days, ca.DefaultDays))*24*time.Hour)
	if end := h.end(); h.now().Add(valid).After(end) {
		return s, invalid("validity_days", "The authority itself expires on "+end.UTC().Format(time.DateOnly))
	}
	c, err := h.cfg.Authority.Issue(r)
	if errors.Is(err, mtls.ErrRevoked) {
		return s, errRevokedRenewal
	}
	var hint interface{ Hint() string }
	switch {
	case r.CSR != nil && errors.As(err, &hint):
		return s, &httpkit.Error{Code: httpkit.CodeConflict, Message: "The key of this request belongs to a certificate that is revoked; make a new key", Err: err}
	case err != nil:
		return s, noKey(err)
	}
	h.cfg.Revocations.Refresh() // a name that was revoked is let in again
	h.cfg.Service.metrics.issued.Inc()
	_, role, err := mtls.Profile(c.Leaf)
	if err != nil {
		return s, err
	}
	return signed{leaf: c.Leaf, answer: mainapi.IssuedCertificate{ClientID: r.Name, Domain: domain, Role: role,
		Certificate: string(c.CertPEM), PrivateKey: string(c.KeyPEM), CaCertificate: string(h.rootPEM()), Fingerprint: mtls.Fingerprint(c.Leaf), Serial: mtls.Serial(c.Leaf),
		IssuedAt: h.now().UTC().Truncate(time.Second), ExpiresAt: c.Leaf.NotAfter.UTC()}}, nil
}

// end is when the authority that signs expires.
func (h *handler) end() time.Time {
	if c := h.cfg.Authority.Intermediate(); c != nil {
		return c.NotAfter
	}
	return h.cfg.Authority.Root().NotAfter
}

// noteIssued tells the database and the audit log about a certificate. That it exists is
// decided by then, so an error goes to the log.
func (h *handler) noteIssued(ctx context.Context, event string, client records.Client, c *signed) {
	a := &c.answer
	if err := h.putIssued(ctx, client, c); err != nil {
		h.cfg.Log.Error("a certificate was issued, but the database does not know it yet", "client", a.ClientID, "serial", a.Serial, "error", err)
		h.cfg.Service.missRows()
	}
	h.audit(ctx, act{event: event, client: a.ClientID, details: map[string]any{"serial": a.Serial, "fingerprint": a.Fingerprint, "role": a.Role, "domain": a.Domain}})
}

// putIssued stores the rows of a certificate and its client.
func (h *handler) putIssued(ctx context.Context, client records.Client, c *signed) error {
	ctx, cancel := afterAct(ctx)
	defer cancel()
	if h.cfg.Sharing != nil { // the caller's next request may come to another main server
		if _, err := h.cfg.Sharing.Sync(ctx); err != nil {
			return err
		}
	}
	a := &c.answer
	client.Name, client.Fingerprint, client.Domain, client.Status = a.ClientID, a.Fingerprint, a.Domain, records.Active
	client.IssuedAt, client.ExpiresAt, client.RevokedAt, client.Reason = c.leaf.NotBefore, c.leaf.NotAfter, time.Time{}, ""
	if err := h.putClient(ctx, client); err != nil {
		return err
	}
	_, err := h.cfg.Store.AddCertificate(ctx, records.Certificate{Client: a.ClientID, Serial: a.Serial, Fingerprint: a.Fingerprint, Subject: c.leaf.Subject.String(),
		Role: string(a.Role), NotBefore: c.leaf.NotBefore, NotAfter: c.leaf.NotAfter, Source: string(ca.SourceAPI)})
	if err != nil {
		return err
	}
	// A revocation that came before the row found none to change.
	record, err := h.find(ctx, a.Fingerprint)
	if err != nil {
		return err
	}
	if now := h.certificate(&record); now.Status == certRevoked {
		return h.cfg.Store.RevokeCertificate(ctx, a.Fingerprint, cmp.Or(now.RevocationReason, unspecified))
	}
	return nil
}

// RenewCertificate implements mainapi.StrictServerInterface.
func (h *handler) RenewCertificate(ctx context.Context, r mainapi.RenewCertificateRequestObject) (mainapi.RenewCertificateResponseObject, error) {
	c, err := h.find(ctx, r.Fingerprint)
	if err != nil {
		return nil, err
	}
	answer, err := h.renew(ctx, c, *r.Body)
	return mainapi.RenewCertificate201JSONResponse(answer), err
}

// renew issues a successor of a certificate.
func (h *handler) renew(ctx context.Context, old ca.Issued, r mainapi.RenewRequest) (answer mainapi.IssuedCertificate, err error) {
	if r.Csr != "" {
		err = checkCSR(r.Csr, old.Name)
	}
	if err == nil && old.Role != sealmq.RoleClient {
		err = h.confirmed(ctx)
	}
	if err != nil {
		return answer, err
	}
	client, err := h.cfg.Store.Client(ctx, old.Name)
	if err != nil && !errors.Is(err, records.ErrNotFound) {
		return answer, err
	}
	revocation := ca.Revocation{Name: old.Name, Serial: old.Serial, Reason: trust.Superseded.String()}
	c, entries, errRevoke, err := h.signNext(ctx, &old, r, revocation)
	if err != nil {
		return answer, err
	}
	h.noteIssued(ctx, "certificate_renewed", client, &c)
	if r.RevokeOld {
		if _, err := h.noteRevoked(ctx, revocation, entries, errRevoke); err != nil {
			h.cfg.Log.Error("a certificate was renewed, but the old one was not revoked", "client", old.Name, "serial", old.Serial, "error", err)
		}
	}
	return c.answer, nil
}

// signNext issues the successor of a certificate, and then revokes that if it is asked to.
// Looking and issuing are one step: issuing lets a revoked name in again, so a revocation in
// between would be undone.
func (h *handler) signNext(ctx context.Context, old *ca.Issued, r mainapi.RenewRequest, revocation ca.Revocation) (c signed, entries []trust.Entry, errRevoke, err error) {
	names, ips, err := ca.ParseHosts(old.Hosts)
	if err != nil {
		return c, nil, nil, err
	}
	h.admin.Lock()
	defer h.admin.Unlock()
	h.cfg.Revocations.Refresh()
	switch h.certificate(old).Status {
	case certRevoked:
		return c, nil, nil, httpkit.Errorf(httpkit.CodeConflict, "A revoked certificate is not renewed; issue a new one")
	case certExpired:
		if !r.Expired {
			return c, nil, nil, httpkit.Errorf(httpkit.CodeConflict, "The certificate has expired; set expired to renew it nevertheless")
		}
	}
	c, err = h.sign(ctx, ca.Request{Name: old.Name, Role: old.Role, Days: r.ValidityDays, Domain: cmp.Or(old.Domain, records.DefaultDomain),
		CSR: csrOf(r.Csr), DNSNames: names, IPs: ips})
	if err == nil && r.RevokeOld {
		entries, errRevoke = h.enforceLocked(revocation)
	}
	return c, entries, errRevoke, err
}

// RevokeCertificate implements mainapi.StrictServerInterface.
func (h *handler) RevokeCertificate(ctx context.Context, r mainapi.RevokeCertificateRequestObject) (mainapi.RevokeCertificateResponseObject, error) {
	c, err := h.find(ctx, r.Fingerprint)
	if err != nil {
		return nil, err
	}
	answer, err := h.revoke(ctx, ca.Revocation{Name: c.Name, Serial: c.Serial, Reason: r.Body.Reason})
	return mainapi.RevokeCertificate200JSONResponse(answer), err
}

// RevokeClient implements mainapi.StrictServerInterface.
func (h *handler) RevokeClient(ctx context.Context, r mainapi.RevokeClientRequestObject) (mainapi.RevokeClientResponseObject, error) {
	if err := h.knowClient(ctx, r.ClientID); err != nil {
		return nil, err
	}
	answer, err := h.revoke(ctx, ca.Revocation{Name: r.ClientID, Reason: r.Body.Reason})
	return mainapi.RevokeClient200JSONResponse(answer), err
}

// knowClient returns an error unless there is a row or a certificate of a name.
func (h *handler) knowClient(ctx context.Context, name string) error {
	history, err := h.cfg.Authority.HistoryOf(name)
	if err == nil && len(history) == 0 {
		_, err = h.cfg.Store.Client(ctx, name)
	}
	return notFound(err, "client")
}

// revoke revokes one certificate or all of a name. When it returns, the revocation is in force
// here.
func (h *handler) revoke(ctx context.Context, r ca.Revocation) (answer mainapi.Revoked, err error) {
	r.Reason = cmp.Or(r.Reason, unspecified)
	if len(r.Reason) > trust.MaxReasonBytes || sealmq.CheckLine("the reason", r.Reason, sealmq.BadArgument) != nil {
		return answer, invalid("reason", "The reason is one line of up to 500 bytes")
	}
	if r.Serial == "" && pipeline.IsForeignClient(r.Name) {
		return answer, httpkit.Errorf(httpkit.CodeConflict, "This client's certificates are another authority's: have it revoke them, or write their serial numbers into revoked.txt")
	}
	entries, err := h.enforce(r)
	return h.noteRevoked(ctx, r, entries, err)
}

// enforce puts a revocation into force. The database is not asked.
func (h *handler) enforce(r ca.Revocation) ([]trust.Entry, error) {
	h.admin.Lock()
	defer h.admin.Unlock()
	return h.enforceLocked(r)
}

func (h *handler) enforceLocked(r ca.Revocation) ([]trust.Entry, error) {
	entries, err := h.cfg.Authority.Revoke(r)
	h.cfg.Revocations.Refresh()
	return entries, err
}

// noteRevoked tells the database and the audit log what enforce has returned. A repeated
// revocation makes up for a time when the database was away.
func (h *handler) noteRevoked(ctx context.Context, r ca.Revocation, entries []trust.Entry, err error) (answer mainapi.Revoked, _ error) {
	already := errors.Is(err, ca.ErrAlreadyRevoked)
	if err != nil && !already {
		return answer, err
	}
	if err := h.putRevoked(ctx, r, entries); err != nil {
		h.cfg.Log.Error("a revocation is in force, but the database does not know it yet", "client", r.Name, "error", err)
		h.cfg.Service.missRows()
	}
	if already {
		return answer, &httpkit.Error{Code: httpkit.CodeConflict, Message: "It is revoked already", Err: err}
	}
	answer = mainapi.Revoked{ClientID: r.Name, RevokedAt: entries[0].RevokedAt.UTC(), RevocationVersion: int64(h.cfg.Revocations.Version())} //nolint:gosec // it counts changes
	for _, e := range entries {
		if e.Scope == trust.ScopeCertificate {
			answer.Certificates++
		}
	}
	h.cfg.Service.metrics.revoked.Add(float64(answer.Certificates))
	h.audit(ctx, act{event: "certificate_revoked", client: r.Name, severity: records.Warning,
		details: map[string]any{"serial": r.Serial, "reason": r.Reason, "certificates": answer.Certificates}})
	return answer, nil
}

// putRevoked changes the rows, by which the database refuses the messages of a revoked client.
func (h *handler) putRevoked(ctx context.Context, r ca.Revocation, entries []trust.Entry) (err error) {
	ctx, cancel := afterAct(ctx)
	defer cancel()
	if r.Serial == "" && r.Fingerprint == "" {
		err = h.cfg.Store.RevokeClient(ctx, r.Name, r.Reason)
		if errors.Is(err, records.ErrNotFound) {
			now := h.now()
			err = h.cfg.Store.PutClient(ctx, records.Client{Name: r.Name, Status: records.Revoked, Reason: r.Reason, IssuedAt: now, ExpiresAt: now})
		}
	}
	if err == nil {
		if err = h.checkRow(ctx, r.Name); errors.Is(err, records.ErrNotFound) {
			err = nil
		}
	}
	for _, e := range entries {
		if e.Fingerprint == "" {
			continue
		}
		if e := h.cfg.Store.RevokeCertificate(ctx, e.Fingerprint, r.Reason); e != nil && !errors.Is(e, records.ErrNotFound) {
			err = errors.Join(err, e)
		}
	}
	return err
}
