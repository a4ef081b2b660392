package portal

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/sealmq/sealmq/api/mainapi"
)

// The pages about clients.
var clientPages = []page{
	{path: "/admin/clients", title: "Clients", nav: "Clients", who: staff, show: (*visit).clients},
	{path: "/admin/clients/{client}", title: "Client", up: &link{"Clients", "/admin/clients"}, who: staff, show: blank((*visit).showClient)},
	{path: "/admin/clients/{client}/domain", title: "Client", up: &link{"Clients", "/admin/clients"}, who: admins, do: (*visit).changeClient},
}

type clientRow struct {
	mainapi.ClientInfo
	Path  string
	State state
}

var clientStates = map[mainapi.ClientStatus]state{
	mainapi.ClientStatusActive:  {"good", "Active"},
	mainapi.ClientStatusRevoked: {"bad", "Revoked"},
	mainapi.ClientStatusExpired: {"warn", "Expired"},
}

func (v *visit) clients() error {
	q := v.r.URL.Query()
	here := v.portal.url("/admin/clients")
	view := listView[clientRow]{Filters: filters{Action: here, Fields: []field{
		{Name: "status", Label: "State", Kind: "select", Options: options(q.Get("status"), "", "Any", "active", "Active", "expired", "Expired", "revoked", "Revoked")},
		{Name: "domain", Label: "Domain", Value: q.Get("domain"), Max: 255, Autocomplete: "off"}}}}
	r, err := v.api.ListClientsWithResponse(v.ctx, &mainapi.ListClientsParams{Status: mainapi.ClientStatus(q.Get("status")), Domain: strings.TrimSpace(q.Get("domain")), Limit: pageSize, Cursor: q.Get("cursor")})
	if err != nil {
		return err
	}
	view.Pager = pagerOf(q, r.JSON200.NextCursor)
	view.Rows = rows(r.JSON200.Items, func(c *mainapi.ClientInfo) clientRow {
		return clientRow{*c, v.portal.url("/admin/clients", c.ClientID), stateOf(clientStates, c.Status)}
	})
	view.Empty = empty{Title: "No client has sent yet", Text: "A client appears here with its first message, or when its certificate is issued in the portal.", Link: &link{"Certificates", certificatesPath}}
	if q.Get("status") != "" || q.Get("domain") != "" {
		view.Filters.Clear = here
		view.Empty = empty{Title: "No client matches", Text: "Take filters away to see more.", Link: &link{"Show all clients", "/admin/clients"}}
	}
	return v.render("clients", view)
}

type clientView struct {
	mainapi.ClientInfo
	State                   state
	Messages, Failed, Certs string // addresses
	Revoke                  string // empty if there is nothing to revoke, and for those who may not
	Consent                 string // empty if the certificate has not expired, and for those who may not
	Count                   int64
	Form                    *form
}

func (v *visit) showClient(problems fieldErrors) error {
	name := v.r.PathValue("client")
	r, err := v.api.GetClientWithResponse(v.ctx, name)
	if hasStatus(err, http.StatusUnprocessableEntity) || hasStatus(err, http.StatusNotFound) {
		return v.unknownClient(name)
	}
	if err != nil {
		return err
	}
	c := r.JSON200
	v.title = name
	of := url.Values{"client_id": {name}}
	view := clientView{ClientInfo: *c, State: stateOf(clientStates, c.Status), Count: c.Messages, Messages: v.portal.url("/messages") + with(of, "", ""),
		Failed: v.portal.url("/messages") + with(of, "status", "failed"), Certs: v.portal.url(certificatesPath) + with(everyCertificate(name), "", "")}
	if v.may(admins) {
		f := form{Action: v.portal.url("/admin/clients", name, "domain"), Submit: "Change the domain", Fields: []field{
			{Name: "domain", Label: "Domain", Value: c.Domain, Max: 255, Autocomplete: "off", Required: true, Hint: "Messages of this client may name this domain. Messages that are there keep theirs."}}}.with(problems)
		view.Form = &f
		certificates, err := v.api.ListCertificatesWithResponse(v.ctx, &mainapi.ListCertificatesParams{ClientID: name, Status: mainapi.CertificateStatusActive, Limit: 1})
		if err == nil && len(certificates.JSON200.Items) > 0 {
			view.Revoke = v.portal.url(certificatePath(certificates.JSON200.Items[0].Fingerprint)) + "/revoke"
		}
		if c.Status == mainapi.ClientStatusExpired && c.Fingerprint != "" {
			view.Consent = v.portal.url(certificatePath(c.Fingerprint)) + "/consent"
		}
	}
	return v.renderStatus(formStatus(problems), "client", view)
}

// unknownClient leads to the certificates of a client that has not sent yet; without one there is
// no such client.
func (v *visit) unknownClient(name string) error {
	r, err := v.api.ListCertificatesWithResponse(v.ctx, &mainapi.ListCertificatesParams{ClientID: name, Limit: 1})
	if err == nil && len(r.JSON200.Items) > 0 {
		return v.redirect(certificatesPath + with(everyCertificate(name), "", ""))
	}
	return &pageError{http.StatusNotFound, "There is no such client", "A client has a page from its first message on."}
}

// everyCertificate is the query for a client's certificates, in whatever state.
func everyCertificate(client string) url.Values {
	return url.Values{"client": {client}, "status": {"all"}}
}

// changeClient changes a client's domain.
func (v *visit) changeClient() error {
	name := v.r.PathValue("client")
	_, err := v.api.UpdateClientWithResponse(v.ctx, name, mainapi.ClientUpdate{Domain: strings.TrimSpace(v.r.PostFormValue("domain"))})
	if err != nil {
		return refused(err, v.showClient)
	}
	return v.done(localPath("/admin/clients", name), "The domain is changed.")
}
