package mainserver

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
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

// The events of enrolment in the audit log.
const (
	eventEnrolmentToken   = "enrolment_token_created"
	eventRenewalConsent   = "renewal_consent_given"
	eventEnrolmentRevoked = "enrolment_revoked"
	eventEnrolled         = "certificate_enrolled"
	eventEnrolmentFailed  = "enrolment_failed"
	eventSelfRenewed      = "certificate_self_renewed"
)

const (
	defaultTokenTime   = time.Hour
	defaultConsentTime = 24 * time.Hour
)

func newSecret(bytes int) string {
	b := make([]byte, bytes)
	rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

func digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// MakeEnrolmentToken implements mainapi.StrictServerInterface.
func (h *handler) MakeEnrolmentToken(ctx context.Context, r mainapi.MakeEnrolmentTokenRequestObject) (mainapi.MakeEnrolmentTokenResponseObject, error) {
	b := r.Body
	request := mainapi.CertificateRequest{ClientID: b.ClientID, Role: b.Role, Sans: b.Sans, Domain: b.Domain}
	_, _, err := hostsOf(&request)
	err = together(err, checkRequest(&request))
	server := cmp.Or(b.Server, h.cfg.Address)
	if pipeline.CheckMainAddress(server) != nil {
		err = together(err, invalid("server", "Say where the machine reaches this main server, as https://host:port"))
	}
	if err == nil && cmp.Or(b.Role, sealmq.RoleClient) != sealmq.RoleClient {
		err = h.confirmed(ctx)
	}
	if err == nil && !b.Replace {
		err = h.noActive(b.ClientID)
	}
	if err != nil {
		return nil, err
	}
	client, err := h.cfg.Store.Client(ctx, b.ClientID)
	if err != nil && !errors.Is(err, records.ErrNotFound) {
		return nil, err
	}
	domain := cmp.Or(b.Domain, client.Domain, records.DefaultDomain)
	if !mtls.ValidID(domain) {
		return nil, invalid("domain", "The client's own domain is no label of a certificate, so give one")
	}
	secret := newSecret(16)
	e := h.newEnrolment(ctx, records.EnrolToken, cmp.Or(time.Duration(b.ExpiresIn)*time.Second, defaultTokenTime))
	e.SecretHash, e.Client, e.Role, e.Domain, e.Hosts = digest(secret), b.ClientID, string(cmp.Or(b.Role, sealmq.RoleClient)), domain, b.Sans
	e.Lifetime = cmp.Or(time.Duration(b.Lifetime)*time.Second, ca.DefaultDays*24*time.Hour)
	if err := h.addEnrolment(ctx, e, eventEnrolmentToken); err != nil {
		return nil, err
	}
	token := pipeline.EnrolmentToken{ID: e.ID, Secret: secret, Server: server, Root: mtls.Fingerprint(h.cfg.Authority.Root()), Name: e.Client, Role: sealmq.Role(e.Role)}
	return mainapi.MakeEnrolmentToken201JSONResponse{ID: e.ID, Token: token.String(), ClientID: e.Client, Role: token.Role, Server: server, RootFingerprint: token.Root, ExpiresAt: e.ExpiresAt}, nil
}

// noActive refuses what needs a name without an active certificate.
func (h *handler) noActive(name string) error {
	active, err := h.certificates(certificateFilter{client: name, status: certActive})
	if err == nil && len(active) > 0 {
		err = httpkit.Errorf(httpkit.CodeConflict, "The client has an active certificate; set replace to issue another one")
	}
	return err
}

func (h *handler) newEnrolment(ctx context.Context, kind string, good time.Duration) records.Enrolment {
	caller, _ := httpkit.CallerOf(ctx)
	now := h.now().UTC().Truncate(time.Microsecond)
	return records.Enrolment{ID: newSecret(8), Kind: kind, CreatedBy: caller.ID, CreatedAt: now, ExpiresAt: now.Add(good)}
}

func (h *handler) addEnrolment(ctx context.Context, e records.Enrolment, event string) error {
	err := h.cfg.Store.AddEnrolment(ctx, e)
	if errors.Is(err, records.ErrTooManyEnrolments) {
		return httpkit.Errorf(httpkit.CodeConflict, "Too many enrolment tokens are open; take some back, or wait until they expire")
	}
	if err == nil {
		h.auditEnrolment(ctx, event, &e, nil)
	}
	return err
}

func (h *handler) auditEnrolment(ctx context.Context, event string, e *records.Enrolment, more map[string]any) {
	a := act{event: event, client: e.Client, severity: records.Warning, details: map[string]any{"enrolment": e.ID, "kind": e.Kind, "role": e.Role}}
	maps.Copy(a.details, more)
	h.audit(ctx, a)
}

// ListEnrolments implements mainapi.StrictServerInterface.
func (h *handler) ListEnrolments(ctx context.Context, _ mainapi.ListEnrolmentsRequestObject) (mainapi.ListEnrolmentsResponseObject, error) {
	list, err := h.cfg.Store.Enrolments(ctx)
	return mainapi.ListEnrolments200JSONResponse{Items: mapped(list, h.enrolmentOf)}, err
}

func (h *handler) enrolmentOf(e *records.Enrolment) mainapi.Enrolment {
	state := mainapi.EnrolmentStateOpen
	switch {
	case !e.UsedAt.IsZero():
		state = mainapi.EnrolmentStateUsed
	case !e.RevokedAt.IsZero():
		state = mainapi.EnrolmentStateRevoked
	case e.Failures >= records.MaxEnrolmentFailures:
		state = mainapi.EnrolmentStateLocked
	case !e.Open(h.now()):
		state = mainapi.EnrolmentStateExpired
	}
	return mainapi.Enrolment{ID: e.ID, Kind: mainapi.EnrolmentKind(e.Kind), ClientID: e.Client, Role: sealmq.Role(e.Role), Domain: e.Domain, Hosts: e.Hosts, Lifetime: int64(e.Lifetime / time.Second),
		State: state, CreatedBy: e.CreatedBy, CreatedAt: e.CreatedAt.UTC(), ExpiresAt: e.ExpiresAt.UTC(), UsedAt: e.UsedAt.UTC(), Failures: e.Failures, Fingerprint: e.Fingerprint}
}

// RevokeEnrolment implements mainapi.StrictServerInterface.
func (h *handler) RevokeEnrolment(ctx context.Context, r mainapi.RevokeEnrolmentRequestObject) (mainapi.RevokeEnrolmentResponseObject, error) {
	e, err := h.cfg.Store.Enrolment(ctx, r.EnrolmentID)
	if err == nil {
		err = h.cfg.Store.RevokeEnrolment(ctx, r.EnrolmentID, h.now())
	}
	if err != nil {
		return nil, notFound(err, "open enrolment token")
	}
	h.auditEnrolment(ctx, eventEnrolmentRevoked, &e, nil)
	return mainapi.RevokeEnrolment204Response{}, nil
}

// Enroll implements mainapi.StrictServerInterface.
func (h *handler) Enroll(ctx context.Context, r mainapi.EnrollRequestObject) (mainapi.EnrollResponseObject, error) {
	t, err := pipeline.ParseEnrolmentToken(r.Body.Token)
	if err != nil {
		return nil, invalid("token", "This is no enrolment token")
	}
	e, err := h.cfg.Store.Enrolment(ctx, t.ID)
	switch {
	case errors.Is(err, records.ErrNotFound):
		return nil, h.failed(ctx, &records.Enrolment{}, "There is no such enrolment token")
	case err != nil:
		return nil, err
	case e.Kind != records.EnrolToken || subtle.ConstantTimeCompare([]byte(digest(t.Secret)), []byte(e.SecretHash)) != 1:
		return nil, h.failed(ctx, &e, "There is no such enrolment token")
	case t.Name != e.Client:
		return nil, h.failed(ctx, &e, "The enrolment token is for another name")
	}
	answer, err := h.useEnrolment(ctx, &e, r.Body.Csr, ca.SourceToken)
	return mainapi.Enroll201JSONResponse(answer), err
}

// failed counts a failed attempt, puts it on record and returns the answer. An enrolment without an
// id is none that is known.
func (h *handler) failed(ctx context.Context, e *records.Enrolment, message string) error {
	if e.ID != "" {
		if err := h.cfg.Store.FailEnrolment(ctx, e.ID); err != nil {
			return err
		}
	}
	if leftOut, room := h.failedEnrolments.take(h.now()); room {
		details := map[string]any{"reason": message}
		if leftOut > 0 {
			details[leftOutKey] = leftOut
		}
		h.auditEnrolment(ctx, eventEnrolmentFailed, e, details)
	}
	return httpkit.Errorf(httpkit.CodeAuthorization, "%s", message)
}

// useEnrolment issues the certificate of an enrolment and ends it, or returns the one that it
// was used for with the same key.
func (h *handler) useEnrolment(ctx context.Context, e *records.Enrolment, request string, source ca.Source) (answer mainapi.IssuedCertificate, err error) {
	csr, err := ca.ParseCSR([]byte(request))
	if err != nil {
		if err := h.failed(ctx, e, "The signing request is not usable"); !isRefusal(err) {
			return answer, err
		}
		return answer, checkCSR(request, e.Client)
	}
	if csr.CommonName != "" && csr.CommonName != e.Client {
		return answer, h.failed(ctx, e, "The signing request is for another name than the enrolment")
	}
	key := ca.KeyHash(csr.Public)
	client, err := h.cfg.Store.Client(ctx, e.Client)
	if err != nil && !errors.Is(err, records.ErrNotFound) {
		return answer, err
	}
	names, ips, err := ca.ParseHosts(e.Hosts)
	if err != nil {
		return answer, err
	}
	err = h.cfg.Store.ClaimEnrolment(ctx, e.ID, key, h.now())
	if errors.Is(err, records.ErrNotFound) {
		return h.repeat(ctx, e.ID, key)
	}
	if err != nil {
		return answer, err
	}
	c, err := h.signEnrolled(ctx, ca.Request{Name: e.Client, Role: sealmq.Role(e.Role), Domain: e.Domain, DNSNames: names, IPs: ips, CSR: []byte(request),
		Valid: e.Lifetime, RenewUntil: e.CreatedAt.Add(h.renewFor()), Source: source}, e)
	after, cancel := afterAct(ctx)
	defer cancel()
	if err != nil {
		if err := h.cfg.Store.ReleaseEnrolment(after, e.ID, key); err != nil {
			h.cfg.Log.Error("no certificate was signed, and the enrolment stays reserved for the key that asked", "enrolment", e.ID, "error", err)
		}
		return answer, err
	}
	err = h.cfg.Store.UseEnrolment(after, e.ID, key, c.answer.Certificate)
	if errors.Is(err, records.ErrNotFound) {
		_, err = h.enforce(ca.Revocation{Name: e.Client, Serial: c.answer.Serial, Reason: trust.CessationOfOperation.String()})
		if err == nil {
			err = httpkit.Errorf(httpkit.CodeConflict, "The enrolment was taken back at this moment")
		}
		return answer, err
	}
	if err != nil {
		return answer, err
	}
	h.noteIssued(ctx, eventEnrolled, client, &c)
	return c.answer, nil
}

// signEnrolled signs for an enrolment. Only a token lets a revoked name in again, which the
// administrator who made it decided; a certificate that was revoked is not renewed.
func (h *handler) signEnrolled(ctx context.Context, r ca.Request, e *records.Enrolment) (signed, error) {
	h.admin.Lock()
	defer h.admin.Unlock()
	if e.Kind == records.EnrolRenewal {
		if err := h.notRevoked(e.Fingerprint); err != nil {
			return signed{}, err
		}
		r.Successor = true
	}
	return h.sign(ctx, r)
}

func (h *handler) notRevoked(fingerprint string) error {
	h.cfg.Revocations.Refresh()
	c, err := h.onRecord(fingerprint)
	if err == nil && h.certificate(&c).Status == certRevoked {
		err = errRevokedRenewal
	}
	return err
}

var errRevokedRenewal = httpkit.Errorf(httpkit.CodeConflict, "A revoked certificate is not renewed; ask an administrator for a new enrolment token")

// isRefusal reports whether an error is an answer to the caller's request.
func isRefusal(err error) bool {
	e, ok := errors.AsType[*httpkit.Error](err)
	return ok && e.Code == httpkit.CodeAuthorization
}

// repeat answers a request whose first answer did not arrive, and one that came too late.
func (h *handler) repeat(ctx context.Context, id, key string) (answer mainapi.IssuedCertificate, err error) {
	found, err := h.cfg.Store.Enrolment(ctx, id)
	if err != nil {
		return answer, notFound(err, "enrolment")
	}
	e := &found
	if e.KeyHash != key || !h.now().Before(e.ExpiresAt) || !e.RevokedAt.IsZero() {
		return answer, h.closed(ctx, e)
	}
	if e.Certificate == "" {
		return answer, &httpkit.Error{Code: httpkit.CodeUnavailable, RetryAfter: max(time.Second, e.UsedAt.Add(records.ClaimTime).Sub(h.now())),
			Message: fmt.Sprintf("The certificate is being signed; repeat the request in %v", records.ClaimTime)}
	}
	certs, err := mtls.ParseCertificates([]byte(e.Certificate))
	if err != nil {
		return answer, err
	}
	if err := h.notRevoked(mtls.Fingerprint(certs[0])); err != nil {
		return answer, err
	}
	return mainapi.IssuedCertificate{ClientID: e.Client, Domain: e.Domain, Role: sealmq.Role(e.Role), Certificate: e.Certificate, CaCertificate: string(h.rootPEM()),
		Fingerprint: mtls.Fingerprint(certs[0]), Serial: mtls.Serial(certs[0]), IssuedAt: e.UsedAt.UTC().Truncate(time.Second), ExpiresAt: certs[0].NotAfter.UTC()}, nil
}

// closed says why an enrolment is good no more.
func (h *handler) closed(ctx context.Context, e *records.Enrolment) error {
	what := "The enrolment token"
	if e.Kind == records.EnrolRenewal {
		what = "The administrator's consent"
	}
	why := fmt.Sprintf("%s expired at %s", what, e.ExpiresAt.UTC().Format(time.RFC3339))
	switch h.enrolmentOf(e).State {
	case mainapi.EnrolmentStateUsed:
		why = what + " was used already"
	case mainapi.EnrolmentStateRevoked:
		why = what + " was taken back"
	case mainapi.EnrolmentStateLocked:
		why = what + " had too many failed attempts"
	}
	return h.failed(ctx, e, why)
}

// renewFor is how long after a person's decision a certificate is renewed by its holder.
func (h *handler) renewFor() time.Duration { return cmp.Or(h.cfg.RenewFor, ca.DefaultRenewFor) }

// maxOwnRenewals is how often a certificate's holder may renew it within one lifetime. Each
// renewal adds to a record that is never cut.
const maxOwnRenewals = 10

// RenewOwnCertificate implements mainapi.StrictServerInterface.
func (h *handler) RenewOwnCertificate(ctx context.Context, r mainapi.RenewOwnCertificateRequestObject) (mainapi.RenewOwnCertificateResponseObject, error) {
	caller, _ := httpkit.CallerOf(ctx)
	if caller.Source != httpkit.ByCertificate || caller.Fingerprint == "" {
		return nil, httpkit.Errorf(httpkit.CodeAuthorization, "Only the holder of a certificate renews it: make the request with the certificate")
	}
	old, err := h.find(ctx, caller.Fingerprint)
	if err == nil {
		err = checkCSR(r.Body.Csr, old.Name)
	}
	if err != nil {
		return nil, err
	}
	client, err := h.cfg.Store.Client(ctx, old.Name)
	if err != nil && !errors.Is(err, records.ErrNotFound) {
		return nil, err
	}
	c, err := h.signOwn(ctx, &old, r.Body.Csr)
	if err != nil {
		return nil, err
	}
	h.noteIssued(ctx, eventSelfRenewed, client, &c)
	return mainapi.RenewOwnCertificate201JSONResponse(c.answer), nil
}

// signOwn looks whether a certificate may be renewed by its holder, and issues the successor.
func (h *handler) signOwn(ctx context.Context, old *ca.Issued, request string) (signed, error) {
	names, ips, err := ca.ParseHosts(old.Hosts)
	if err != nil {
		return signed{}, err
	}
	h.admin.Lock()
	defer h.admin.Unlock()
	if err := h.notRevoked(old.Fingerprint); err != nil {
		return signed{}, err
	}
	now, until := h.now(), old.RenewableUntil()
	if old.RenewUntil.IsZero() {
		until = old.IssuedAt.Add(h.renewFor())
	}
	if !now.Before(until) {
		return signed{}, httpkit.Errorf(httpkit.CodeConflict, "This certificate could be renewed by its holder until %s; an administrator must renew it or make a new enrolment token", until.UTC().Format(time.DateOnly))
	}
	life := max(old.NotAfter.Sub(old.IssuedAt).Round(time.Second), ca.MinValid)
	history, err := h.cfg.Authority.HistoryOf(old.Name)
	if err != nil {
		return signed{}, err
	}
	history = slices.DeleteFunc(history, func(c ca.Issued) bool { return c.Source != ca.SourceRenewal || now.Sub(c.IssuedAt) >= life })
	if len(history) >= maxOwnRenewals {
		wait := life - now.Sub(history[0].IssuedAt)
		return signed{}, &httpkit.Error{Code: httpkit.CodeRateLimitExceeded, RetryAfter: wait,
			Message: fmt.Sprintf("The certificate was renewed %d times within its lifetime, which is the limit", len(history))}
	}
	return h.sign(ctx, ca.Request{Name: old.Name, Role: old.Role, Domain: cmp.Or(old.Domain, records.DefaultDomain), DNSNames: names, IPs: ips, CSR: []byte(request),
		Valid: min(life, h.end().Sub(now).Truncate(time.Second)), RenewUntil: until, Successor: true, Source: ca.SourceRenewal})
}

// ConsentToRenewal implements mainapi.StrictServerInterface.
func (h *handler) ConsentToRenewal(ctx context.Context, r mainapi.ConsentToRenewalRequestObject) (mainapi.ConsentToRenewalResponseObject, error) {
	old, err := h.find(ctx, r.Fingerprint)
	if err == nil && old.Role != sealmq.RoleClient {
		err = h.confirmed(ctx)
	}
	if err != nil {
		return nil, err
	}
	switch h.certificate(&old).Status {
	case certRevoked:
		return nil, errRevokedRenewal
	case certActive:
		return nil, httpkit.Errorf(httpkit.CodeConflict, "The certificate has not expired, so its holder needs no consent")
	}
	e := h.newEnrolment(ctx, records.EnrolRenewal, cmp.Or(time.Duration(r.Body.ExpiresIn)*time.Second, defaultConsentTime))
	e.Fingerprint, e.Client, e.Role, e.Domain, e.Hosts = old.Fingerprint, old.Name, string(old.Role), cmp.Or(old.Domain, records.DefaultDomain), old.Hosts
	e.Lifetime = max(old.NotAfter.Sub(old.IssuedAt).Round(time.Second), ca.MinValid)
	if err := h.addEnrolment(ctx, e, eventRenewalConsent); err != nil {
		return nil, err
	}
	return mainapi.ConsentToRenewal201JSONResponse(h.enrolmentOf(&e)), nil
}

// RenewExpiredCertificate implements mainapi.StrictServerInterface.
func (h *handler) RenewExpiredCertificate(ctx context.Context, r mainapi.RenewExpiredCertificateRequestObject) (mainapi.RenewExpiredCertificateResponseObject, error) {
	b := r.Body
	e, err := h.cfg.Store.RenewalConsent(ctx, b.Fingerprint)
	if errors.Is(err, records.ErrNotFound) {
		return nil, h.failed(ctx, &records.Enrolment{}, "The certificate has expired: an administrator must consent to its renewal")
	}
	if err != nil {
		return nil, err
	}
	old, err := h.find(ctx, b.Fingerprint)
	if err != nil {
		return nil, err
	}
	proof, err := ca.ParseCSR([]byte(b.Proof))
	if err != nil || ca.KeyHash(proof.Public) != old.Key || proof.CommonName != digest(b.Csr) {
		// It is not counted: strangers know fingerprints, and must not end the consent.
		return nil, h.failed(ctx, &records.Enrolment{}, "The proof is not made with the key of the expired certificate")
	}
	answer, err := h.useEnrolment(ctx, &e, b.Csr, ca.SourceRenewal)
	return mainapi.RenewExpiredCertificate201JSONResponse(answer), err
}
