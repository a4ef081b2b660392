package portal

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/sealmq/sealmq/api/mainapi"
)

var searchPages = []page{{path: "/search", title: "Search", who: everybody, show: (*visit).search, do: (*visit).searchFor}}

// searchFor takes what was typed into the box. What may be a number is answered here;
// everything else gets an address that can be sent to a colleague.
func (v *visit) searchFor() error {
	q := strings.TrimSpace(v.r.PostFormValue("q"))
	if looksLikeNumber.MatchString(q) {
		return v.find(q, true)
	}
	return v.redirect("/search?q=" + url.QueryEscape(q))
}

func (v *visit) search() error {
	return v.find(strings.TrimSpace(v.r.URL.Query().Get("q")), false)
}

// foundView is what a search found, by kind.
type foundView struct {
	Query  string
	Number bool
	Groups []foundGroup
	Empty  empty
}

type foundGroup struct {
	Title string
	Rows  []foundRow
	// More leads to the rest of the kind.
	More *link
}

type foundRow struct {
	Path, Name, Note, State string
	At                      time.Time
}

// find shows what is found, or leads to it if it is one thing.
func (v *visit) find(q string, number bool) error {
	if q == "" {
		return v.render("found", foundView{Empty: empty{Title: "Search for anything", Text: "A sender's whole number with its country code, a message id or its beginning, a client's own key, a client, a queue, or a certificate's serial number or fingerprint."}})
	}
	if len(q) > maxQuery {
		return &pageError{http.StatusUnprocessableEntity, "The text to search for is too long", "It has up to 256 bytes."}
	}
	asked, understood := q, ""
	if number {
		asked, understood = v.numberSearched(q)
	}
	r, err := v.api.SearchWithResponse(v.ctx, mainapi.SearchJSONRequestBody{Q: asked})
	if err != nil {
		return err
	}
	groups, only := groupsOf(r.JSON200)
	switch {
	case only != "":
		return v.redirect(only)
	case r.JSON200.NumberToken != "" && len(groups) == 1: // messages of one number
		return v.redirect("/messages?number_token=" + url.QueryEscape(r.JSON200.NumberToken))
	}
	view := foundView{Query: q, Number: number, Groups: groups}
	if len(groups) == 0 {
		view.Empty = empty{Title: "Nothing was found", Text: "Clients' own keys are compared as a whole; of ids, names, serial numbers and fingerprints the beginning is enough, with four characters or more. " + numberAdvice}
		if number {
			view.Empty.Text = understood
		}
	}
	return v.render("found", view)
}

// numberSearched is what to search for if something was typed that may be a number, and how it was
// understood. What is no number may be a serial number or an id: it stays as it is.
func (v *visit) numberSearched(q string) (asked, understood string) {
	number, advice := internationalNumber(q)
	if advice != "" {
		return q, advice
	}
	understood = "This was searched for as a number with its country code, as an id, and as a serial number. " + numberAdvice
	if strings.ContainsAny(q, "+(/") || strings.HasPrefix(q, "00") {
		return number, understood
	}
	return q, understood
}

// maxQuery is the API's bound.
const maxQuery = 256

// groupsOf sorts what was found. only is the path of the one thing that is meant: the one that
// matches as a whole, or else the only one.
func groupsOf(f *mainapi.Found) (groups []foundGroup, only string) {
	rows := map[mainapi.FoundKind][]foundRow{}
	for i := range f.Messages {
		m := &f.Messages[i]
		rows[mainapi.FoundKindMessages] = append(rows[mainapi.FoundKindMessages], foundRow{Path: "/messages/" + url.PathEscape(m.ClientID) + "/" + url.PathEscape(m.MessageID),
			Name: m.MessageID, Note: joinText(" · ", m.SenderNumberMasked, m.ClientID), State: stateOf(messageStates, m.Status).Text, At: m.CreatedAt})
	}
	for _, c := range f.Clients {
		rows[mainapi.FoundKindClients] = append(rows[mainapi.FoundKindClients], foundRow{Path: "/admin/clients/" + url.PathEscape(c.ClientID),
			Name: c.ClientID, Note: joinText(" · ", string(c.Role), c.Domain), State: stateOf(clientStates, c.Status).Text, At: c.CreatedAt})
	}
	for i := range f.Certificates {
		c := &f.Certificates[i]
		rows[mainapi.FoundKindCertificates] = append(rows[mainapi.FoundKindCertificates], foundRow{Path: certificatePath(c.Fingerprint),
			Name: c.ClientID, Note: joinText(" · ", string(c.Role), c.Serial), State: stateOf(certificateStates, c.Status).Text, At: c.IssuedAt})
	}
	for _, q := range f.Queues {
		rows[mainapi.FoundKindQueues] = append(rows[mainapi.FoundKindQueues], foundRow{Path: "/admin/queues/show?" + url.Values{"name": {q}}.Encode(), Name: q})
	}
	count := 0
	for _, kind := range foundKinds {
		list := rows[kind.kind]
		if count += len(list); len(list) == 0 {
			continue
		}
		group := foundGroup{Title: kind.title, Rows: list}
		if slices.Contains(f.More, kind.kind) {
			group.More = kind.all
		}
		groups = append(groups, group)
	}
	switch {
	case len(f.Exact) == 1: // it stands first among its kind
		only = rows[f.Exact[0]][0].Path
	case count == 1 && len(f.More) == 0:
		only = groups[0].Rows[0].Path
	}
	return groups, only
}

// foundKinds are the kinds in the order in which they stand, and where all of them are.
var foundKinds = []struct {
	kind  mainapi.FoundKind
	title string
	all   *link
}{
	{mainapi.FoundKindMessages, "Messages", &link{"All messages", "/messages"}},
	{mainapi.FoundKindClients, "Clients", &link{"All clients", "/admin/clients"}},
	{mainapi.FoundKindCertificates, "Certificates", &link{"All certificates", certificatesPath + "?status=all"}},
	{mainapi.FoundKindQueues, "Queues", &link{"All queues", "/admin/queues"}},
}
