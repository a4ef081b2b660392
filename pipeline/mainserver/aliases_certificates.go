package mainserver

import (
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/api/mainapi"
	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/internal/httpkit"
	"github.com/sealmq/sealmq/trust"
)

func (a *aliases) addCertificates() {
	a.handle(administrators, 0, a.generate, "POST /generate_cert", "POST /admin/certificates/generate")
	a.handle(administrators, 0, a.revoke, "POST /revoke_cert", "POST /admin/certificates/revoke")
	a.handle(administrators, 0, a.renew, "POST /admin/certificates/renew")
	a.handle(administrators, 0, a.verify, "POST /admin/certificates/verify")
	a.handle(administrators, 0, a.listAll, "GET /admin/certificates/list")
	a.handle(administrators, 0, a.listPaged, "GET /admin/certificates")
	a.handle(administrators, 0, a.expiring, "GET /admin/certificates/expiring")
	a.handle(administrators, 0, a.one, "GET /admin/certificates/{client_id}")
	public := httpkit.Options{Access: httpkit.Public, Style: httpkit.Plain}
	a.rt.Handle("GET /ca.crt", public, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer, err := a.h.GetAuthority(r.Context(), mainapi.GetAuthorityRequestObject{})
		if err == nil {
			err = answer.VisitGetAuthorityResponse(w)
		}
		if err != nil {
			httpkit.WriteError(w, r, err)
		}
	}))
	for _, path := range []string{"/crl", "/crl/revoked.crl"} {
		a.rt.Handle("GET "+path, public, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			answer, err := a.h.GetRevocationList(withRequest(r.Context(), w, r), mainapi.GetRevocationListRequestObject{})
			if err == nil {
				err = answer.VisitGetRevocationListResponse(w)
			}
			if err != nil {
				httpkit.WriteError(w, r, err)
			}
		}))
	}
}

// named are the fields of a body whose client has one of its names.
func named(r *http.Request) *fields {
	f := bodyOf(r)
	for _, name := range []string{"client_name", "cn", "CN"} {
		if v, ok := f.o[name]; ok && f.o["client_id"] == nil {
			f.o["client_id"] = v
		}
		delete(f.o, name)
	}
	return f
}

type issuedAnswer struct {
	Status        string            `json:"status"`
	Message       string            `json:"message"`
	ClientID      string            `json:"client_id"`
	Domain        string            `json:"domain"`
	Role          sealmq.Role       `json:"role"`
	Certificate   string            `json:"certificate"`
	PrivateKey    string            `json:"private_key,omitempty"`
	CACertificate string            `json:"ca_certificate"`
	Fingerprint   string            `json:"fingerprint"`
	Serial        string            `json:"serial"`
	IssuedAt      time.Time         `json:"issued_at"`
	ExpiresAt     time.Time         `json:"expires_at"`
	Files         map[string]string `json:"files,omitempty"`
}

func issuedOf(c *mainapi.IssuedCertificate) issuedAnswer {
	return issuedAnswer{Status: "success", Message: "Certificate generated for " + c.ClientID, ClientID: c.ClientID, Domain: c.Domain, Role: c.Role, Certificate: c.Certificate,
		PrivateKey: c.PrivateKey, CACertificate: c.CaCertificate, Fingerprint: "SHA256:" + c.Fingerprint, Serial: c.Serial, IssuedAt: c.IssuedAt, ExpiresAt: c.ExpiresAt}
}

func (a *aliases) generate(r *http.Request) (any, error) {
	f := named(r)
	if f.failed != nil {
		return nil, f.failed
	}
	var request mainapi.CertificateRequest
	if err := bind("CertificateRequest", f.o, &request); err != nil {
		return nil, err
	}
	c, err := a.h.issue(r.Context(), request)
	if err != nil {
		return nil, err
	}
	return issuedOf(&c), nil
}

type revokedAnswer struct {
	Status            string    `json:"status"`
	Message           string    `json:"message"`
	ClientID          string    `json:"client_id"`
	RevokedAt         time.Time `json:"revoked_at"`
	RevocationVersion int64     `json:"revocation_version"`
	CertificateStatus string    `json:"certificate_status"`
}

func (a *aliases) revoke(r *http.Request) (any, error) {
	f := named(r)
	request := ca.Revocation{Name: f.text("client_id", 255, true), Reason: f.text("reason", trust.MaxReasonBytes, false),
		Serial: trust.SerialForm(f.text("serial", 128, false)), Fingerprint: trust.HexForm(f.text("fingerprint", 128, false))}
	if request.Serial != "" && request.Fingerprint != "" {
		f.wrong("value_error", "serial", "Give either serial or fingerprint")
	}
	if err := f.err(); err != nil {
		return nil, err
	}
	if err := a.h.knowClient(r.Context(), request.Name); err != nil {
		return nil, err
	}
	answer, err := a.h.revoke(r.Context(), request)
	if errors.Is(err, ca.ErrAlreadyRevoked) {
		return nil, &httpkit.Error{Code: httpkit.CodeConflict, Status: http.StatusBadRequest, Message: "Certificate already revoked for " + clipped(request.Name)}
	}
	if err != nil {
		return nil, err
	}
	return revokedAnswer{"success", "Certificate revoked for " + answer.ClientID, answer.ClientID, answer.RevokedAt, answer.RevocationVersion, "revoked"}, nil
}

func (a *aliases) renew(r *http.Request) (any, error) {
	f := named(r)
	name := f.text("client_id", 64, true)
	if err := f.err(); err != nil {
		return nil, err
	}
	delete(f.o, "client_id")
	var request mainapi.RenewRequest
	if err := bind("RenewRequest", f.o, &request); err != nil {
		return nil, err
	}
	history, err := a.h.cfg.Authority.HistoryOf(name)
	if err != nil {
		return nil, err
	}
	if len(history) == 0 {
		return nil, httpkit.Errorf(httpkit.CodeNotFound, "There is no certificate of this client")
	}
	c, err := a.h.renew(r.Context(), history[len(history)-1], request)
	if err != nil {
		return nil, err
	}
	return issuedOf(&c), nil
}

func (a *aliases) verify(r *http.Request) (any, error) {
	f := bodyOf(r)
	text := f.text("certificate", 64<<10, true)
	if err := f.err(); err != nil {
		return nil, err
	}
	return a.h.verify(text)
}

type listedAnswer struct {
	ClientID    string      `json:"client_id"`
	Domain      string      `json:"domain"`
	Status      string      `json:"status"`
	IssuedAt    time.Time   `json:"issued_at"`
	ExpiresAt   time.Time   `json:"expires_at"`
	RevokedAt   *time.Time  `json:"revoked_at"`
	IsValid     bool        `json:"is_valid"`
	Fingerprint string      `json:"fingerprint"`
	Serial      string      `json:"serial"`
	Role        sealmq.Role `json:"role"`
	Reason      string      `json:"revocation_reason,omitempty"`
}

func listed(list []mainapi.Certificate) []listedAnswer {
	out := make([]listedAnswer, len(list))
	for i, c := range list {
		out[i] = listedAnswer{ClientID: c.ClientID, Domain: c.Domain, Status: string(c.Status), IssuedAt: c.IssuedAt, ExpiresAt: c.ExpiresAt, IsValid: c.Status == certActive,
			Fingerprint: c.Fingerprint, Serial: c.Serial, Role: c.Role, Reason: c.RevocationReason}
		if !c.RevokedAt.IsZero() {
			out[i].RevokedAt = &c.RevokedAt
		}
	}
	return out
}

// maxListed bounds the list that has no pages.
const maxListed = 10_000

func (a *aliases) listAll(*http.Request) (any, error) {
	list, err := a.h.certificates(certificateFilter{})
	return listed(list[:min(len(list), maxListed)]), err
}

type pagination struct {
	Page    int `json:"page"`
	PerPage int `json:"per_page"`
	Total   int `json:"total"`
	Pages   int `json:"pages"`
}

// pageOf is which part of a list is asked for by numbers.
func pageOf(r *http.Request) (p pagination, err error) {
	if p.Page, err = queryInt(r, "page", 1, 1<<20, 1); err == nil {
		p.PerPage, err = queryInt(r, "per_page", 1, 100, 50)
	}
	return p, err
}

func (a *aliases) listPaged(r *http.Request) (any, error) {
	p, err := pageOf(r)
	if err != nil {
		return nil, err
	}
	filter := certificateFilter{status: certActive, domain: r.URL.Query().Get("domain")}
	switch status := r.URL.Query().Get("status"); status {
	case "", "active":
	case "all":
		filter.status = ""
	case "revoked", "expired":
		filter.status = mainapi.CertificateStatus(status)
	default:
		return nil, httpkit.Invalid(httpkit.Field{Type: "enum", Loc: []any{"query", "status"}, Msg: "The value must be one of active, revoked, expired and all"})
	}
	list, err := a.h.certificates(filter)
	p.Total, p.Pages = len(list), (len(list)+p.PerPage-1)/p.PerPage
	from := min((p.Page-1)*p.PerPage, len(list))
	return map[string]any{"certificates": listed(list[from:min(from+p.PerPage, len(list))]), "pagination": p}, err
}

type expiringAnswer struct {
	ClientID      string    `json:"client_id"`
	Domain        string    `json:"domain"`
	ExpiresAt     time.Time `json:"expires_at"`
	DaysRemaining int       `json:"days_remaining"`
}

func (a *aliases) expiring(r *http.Request) (any, error) {
	days, err := queryInt(r, "days", 0, ca.MaxDays, 30)
	if err != nil {
		return nil, err
	}
	list, err := a.h.expiring(days)
	out := make([]expiringAnswer, 0, len(list))
	for _, c := range list[:min(len(list), maxListed)] {
		out = append(out, expiringAnswer{c.ClientID, c.Domain, c.ExpiresAt, c.DaysRemaining})
	}
	return out, err
}

// one shows the newest certificate of a client.
func (a *aliases) one(r *http.Request) (any, error) {
	history, err := a.h.cfg.Authority.HistoryOf(r.PathValue("client_id"))
	if err != nil {
		return nil, err
	}
	if len(history) == 0 {
		return nil, httpkit.Errorf(httpkit.CodeNotFound, "There is no certificate of this client")
	}
	slices.Reverse(history)
	return listed([]mainapi.Certificate{a.h.certificate(&history[0])})[0], nil
}
