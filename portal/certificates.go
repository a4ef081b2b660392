package portal

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/api/mainapi"
	"github.com/sealmq/sealmq/internal/httpkit"
)

var certificatePages = []page{
	{path: certificatesPath, title: "Certificates", nav: "Certificates", icon: "certificates", who: staff, show: (*visit).certificates},
	{path: certificatesPath + "/new", title: "Issue a certificate", up: &link{"Certificates", certificatesPath}, who: admins, show: (*visit).newCertificate, do: (*visit).issueCertificate},
	{path: "/admin/authority/{file}", title: "Authority", who: staff, show: (*visit).authority},
	{path: oneCertificate, title: "Certificate", up: &link{"Certificates", certificatesPath}, who: staff, show: (*visit).certificate},
	{path: oneCertificate + "/renew", title: "Renew", who: admins, show: (*visit).renewal, do: (*visit).renewCertificate},
	{path: oneCertificate + "/revoke", title: "Revoke", who: admins, show: (*visit).revocation, do: (*visit).revokeCertificate},
}

const (
	certificatesPath = "/admin/certificates"
	oneCertificate   = certificatesPath + "/{fingerprint}"
	// expiresSoon is how far the list of what expires looks ahead, in days. From expiresWarn
	// on a date is amber, and from expiresBad on red, but not before a third of the
	// certificate's life is left.
	expiresSoon, expiresWarn, expiresBad = 30, 14, 7
)

func certificatePath(fingerprint string) string { return certificatesPath + "/" + fingerprint }

// certificateRow is a certificate in a list, or what comes first on its own page.
type certificateRow struct {
	Path, Client, Domain, Role string
	Serial, Fingerprint        string
	State                      state
	Issued, Expires            time.Time
	// Left is how long it is still valid, if that is not for long.
	Left *state
}

var certificateStates = map[mainapi.CertificateStatus]state{
	mainapi.CertificateStatusActive:  {"good", "Active"},
	mainapi.CertificateStatusRevoked: {"bad", "Revoked"},
	mainapi.CertificateStatusExpired: {"", "Expired"},
}

func certificateRowOf(c *mainapi.Certificate, now time.Time) certificateRow {
	r := certificateRow{Path: certificatePath(c.Fingerprint), Client: c.ClientID, Domain: c.Domain, Role: string(c.Role), Serial: c.Serial, Fingerprint: c.Fingerprint,
		Issued: c.IssuedAt, Expires: c.ExpiresAt, State: stateOf(certificateStates, c.Status)}
	if c.Status == mainapi.CertificateStatusActive {
		switch d := c.DaysRemaining; {
		case c.ExpiresAt.Sub(now) >= c.ExpiresAt.Sub(c.IssuedAt)/3:
		case d <= expiresBad:
			r.Left = &state{"bad", daysLeft(d)}
		case d <= expiresWarn:
			r.Left = &state{"warn", daysLeft(d)}
		case d <= expiresSoon:
			r.Left = &state{"", daysLeft(d)}
		}
	}
	return r
}

func daysLeft(days int) string {
	if days < 1 {
		return "less than a day left"
	}
	return plural(days, "day") + " left"
}

type certificatesView struct {
	listView[certificateRow]
	MayIssue bool
	// Soon says how many expire soon, and leads to them.
	Soon    *link
	Domains bool // some have a domain that is not the default
	List    revocationView
}

// certificates is the list, and the state of the revocation list below it.
func (v *visit) certificates() error {
	q := v.r.URL.Query()
	within, status := days(q.Get("within")), cmpStatus(q.Get("status"))
	params := mainapi.ListCertificatesParams{Status: status, ClientID: q.Get("client"), Domain: q.Get("domain"), Role: sealmq.Role(q.Get("role")),
		Serial: strings.TrimSpace(q.Get("serial")), Limit: pageSize, Cursor: q.Get("cursor")}
	if within > 0 {
		params.ExpiresBefore = v.portal.cfg.Now().AddDate(0, 0, within)
	}
	found, err := v.api.ListCertificatesWithResponse(v.ctx, &params)
	problems, ok := invalid(err)
	if err != nil && !ok {
		return err
	}
	soon, err := v.api.ListExpiringCertificatesWithResponse(v.ctx, &mainapi.ListExpiringCertificatesParams{Days: expiresSoon, Limit: 1})
	if err != nil {
		return err
	}
	view := certificatesView{MayIssue: v.may(admins)}
	if n := soon.JSON200.Total.Count; n > 0 && within == 0 {
		view.Soon = &link{plural(n, "certificate expires", "certificates expire") + fmt.Sprintf(" within %d days", expiresSoon), certificatesPath + "?within=" + fmt.Sprint(expiresSoon)}
	}
	view.Filters = filters{Action: v.portal.url(certificatesPath), Fields: certificateFilters(q, problems)}
	view.Empty = empty{Title: "No certificate is active", Text: "A program needs a certificate before it can send. Issue one here, or on the server:", Command: "sealmq cert issue acme-01"}
	if len(q) > 0 && (len(q) > 1 || !q.Has("cursor")) {
		view.Filters.Clear = v.portal.url(certificatesPath)
		view.Empty = empty{Title: "No certificate matches", Text: "Choose another state, or clear the filters."}
	}
	if !ok {
		list := found.JSON200
		view.Filters.Found = number(list.Total.Count) + " found"
		for i := range list.Items {
			view.Rows = append(view.Rows, certificateRowOf(&list.Items[i], v.portal.cfg.Now()))
			view.Domains = view.Domains || list.Items[i].Domain != "default"
		}
		view.Pager = pagerOf(q, list.NextCursor)
	}
	if view.List, err = v.revocationView(); err != nil {
		return err
	}
	return v.render("certificates", view)
}

// cmpStatus is the status that is asked for. Without one the active ones are shown.
func cmpStatus(s string) mainapi.CertificateStatus {
	switch s {
	case "":
		return mainapi.CertificateStatusActive
	case "all":
		return ""
	}
	return mainapi.CertificateStatus(s)
}

// days is a number of days that a certificate can be valid, or 0.
func days(s string) (n int) {
	if _, err := fmt.Sscanf(s, "%d", &n); err != nil || n < 1 || n > 3650 {
		return 0
	}
	return n
}

func certificateFilters(q url.Values, problems fieldErrors) []field {
	return []field{
		{Name: "client", Label: "Client", Value: q.Get("client"), Max: 255, Error: problems["client_id"]},
		{Name: "serial", Label: "Serial number", Value: q.Get("serial"), Max: 64, Code: true, Error: problems["serial"]},
		{Name: "status", Label: "State", Kind: "select", Error: problems["status"],
			Options: options(q.Get("status"), "", "Active", "revoked", "Revoked", "expired", "Expired", "all", "All")},
		{Name: "within", Label: "Expires", Kind: "select",
			Options: options(q.Get("within"), "", "At any time", "7", "Within 7 days", "14", "Within 14 days", "30", "Within 30 days", "90", "Within 90 days")},
		{Name: "role", Label: "Role", Kind: "select", Error: problems["role"], Options: options(q.Get("role"), append([]string{"", "Every role"}, rolePairs...)...)},
		{Name: "domain", Label: "Domain", Value: q.Get("domain"), Max: 255, Error: problems["domain"]},
	}
}

// rolePairs are the roles of certificates, and what they are for.
var rolePairs = []string{"client", "Client", "proxy", "Proxy", "worker", "Worker", "server", "Server", "admin", "Administrator", "monitor", "Monitor"}

// revocationView is the state of the revocation list.
type revocationView struct {
	mainapi.RevocationState
	// Tone and Text say whether it is as it should be.
	State     state
	HasCRL    bool
	Followers []followerRow
}

type followerRow struct {
	Name, Role string
	State      state
	Asked      time.Time
}

func (v *visit) revocationView() (revocationView, error) {
	r, err := v.api.GetRevocationStateWithResponse(v.ctx)
	if err != nil {
		return revocationView{}, err
	}
	view := revocationView{RevocationState: *r.JSON200, State: state{"good", "Current"}, HasCRL: r.JSON200.Crl.Number != ""}
	if len(view.Problems) > 0 {
		view.State = state{"warn", "Needs attention"}
	}
	if view.HasCRL && view.Crl.Stale {
		view.State = state{"bad", "Overdue"}
	}
	for _, f := range view.RevocationState.Followers {
		row := followerRow{Name: f.ClientID, Role: string(f.Role), Asked: f.AskedAt, State: state{"good", "Current"}}
		switch f.Status {
		case mainapi.RevocationFollowerStatusBehind:
			row.State = state{"warn", plural(f.Behind, "change") + " behind"}
		case mainapi.RevocationFollowerStatusSilent:
			row.State = state{"bad", "Silent"}
		}
		view.Followers = append(view.Followers, row)
	}
	return view, nil
}

// authority hands out the root's certificate, or the CRL.
func (v *visit) authority() error {
	var data []byte
	name := v.r.PathValue("file")
	switch name {
	case "ca.crt":
		r, err := v.api.GetAuthorityWithResponse(v.ctx)
		if err != nil {
			return err
		}
		data = r.Body
	case "crl.pem":
		r, err := v.api.GetRevocationListWithResponse(v.ctx)
		if err != nil {
			return err
		}
		data = r.Body
	default:
		return &pageError{http.StatusNotFound, "There is no such file", "The authority has ca.crt and crl.pem."}
	}
	v.file(name, "application/x-pem-file", data)
	return nil
}

// file answers with a file to be saved. Its name is our own, or a name of a certificate.
func (v *visit) file(name, kind string, data []byte) {
	v.w.Header().Set("Content-Disposition", `attachment; filename="`+name+`"`)
	httpkit.WriteBytes(v.w, kind, http.StatusOK, data)
}

type certificateView struct {
	certificateRow
	Certificate mainapi.Certificate
	// What happened to it.
	Revoked     bool
	Active      bool
	Expired     bool
	MayChange   bool
	Replaces    []relatedCertificate
	ReplacedBy  []relatedCertificate
	Chain       []mainapi.Issuer
	Commands    []string
	Hosts, From string
}

type relatedCertificate struct{ Path, Short string }

// issuedFrom says how certificates were issued.
var issuedFrom = map[string]string{"cli": "on the command line", "csr": "for a key of the client's own, on the command line",
	"api": "over the API or this portal", "token": "to a machine with an enrolment token", "renewal": "to its holder, as a renewal"}

// certificate is the page of one certificate.
func (v *visit) certificate() error {
	c, err := v.certificateAsked()
	if err != nil {
		return err
	}
	v.title = c.ClientID
	view := certificateView{certificateRow: certificateRowOf(c, v.portal.cfg.Now()), Certificate: *c, Revoked: c.Status == mainapi.CertificateStatusRevoked,
		Active: c.Status == mainapi.CertificateStatusActive, Expired: c.Status == mainapi.CertificateStatusExpired, MayChange: v.may(admins), Chain: c.Chain, Hosts: strings.Join(c.Hosts, ", "), From: issuedFrom[c.Source]}
	for _, fp := range c.Replaces {
		view.Replaces = append(view.Replaces, related(fp))
	}
	if c.ReplacedBy != "" {
		view.ReplacedBy = []relatedCertificate{related(c.ReplacedBy)}
	}
	if view.Expired {
		view.Commands = []string{"sealmq cert allow-renewal " + c.ClientID}
	}
	if view.Active {
		view.Commands = []string{"sealmq cert renew " + c.ClientID, "sealmq cert revoke " + c.ClientID + " --serial " + c.Serial}
	}
	return v.render("certificate", view)
}

// shortFingerprint is how many digits of a fingerprint tell one from another for a reader.
const shortFingerprint = 16

func related(fingerprint string) relatedCertificate {
	return relatedCertificate{certificatePath(fingerprint), fingerprint[:min(shortFingerprint, len(fingerprint))]}
}

// certificateAsked is the certificate that the address names.
func (v *visit) certificateAsked() (*mainapi.Certificate, error) {
	r, err := v.api.GetCertificateWithResponse(v.ctx, v.r.PathValue("fingerprint"))
	if hasStatus(err, http.StatusUnprocessableEntity) {
		return nil, &pageError{http.StatusNotFound, "There is no such certificate", "A certificate's address ends with its fingerprint, 64 hexadecimal digits."}
	}
	if err != nil {
		return nil, err
	}
	return r.JSON200, nil
}
