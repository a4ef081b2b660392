package portal

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/api/mainapi"
)

// The pages about machines that get their certificates by themselves.
var enrolmentPages = []page{
	{path: enrolmentPath, title: "Enrolment", up: &link{"Certificates", certificatesPath}, who: staff, show: (*visit).enrolments},
	{path: enrolmentPath + "/new", title: "Enroll a machine", up: &link{"Enrolment", enrolmentPath}, who: admins, show: (*visit).newEnrolment, do: (*visit).makeEnrolment},
	{path: enrolmentPath + "/{id}/delete", title: "Enrolment", who: admins, do: (*visit).deleteEnrolment},
	{path: oneCertificate + "/consent", title: "Enrolment", who: admins, do: (*visit).consentToRenewal},
}

const enrolmentPath = "/admin/enrolment"

type enrolmentsView struct {
	MayMake bool
	Rows    []enrolmentRow
	Empty   empty
}

// enrolmentRow is a token, or a consent to the renewal of a certificate.
type enrolmentRow struct {
	mainapi.Enrolment
	Shown   state
	Consent string // the certificate that may be renewed, or empty
	Delete  string // empty if there is nothing to take back, and for those who may not
}

// enrolmentStates are the states of enrolments in words.
var enrolmentStates = map[mainapi.EnrolmentState]state{
	mainapi.EnrolmentStateOpen:    {"good", "Open"},
	mainapi.EnrolmentStateUsed:    {"", "Used"},
	mainapi.EnrolmentStateExpired: {"", "Expired"},
	mainapi.EnrolmentStateRevoked: {"", "Taken back"},
	mainapi.EnrolmentStateLocked:  {"bad", "Too many failed attempts"},
}

func (v *visit) enrolments() error {
	r, err := v.api.ListEnrolmentsWithResponse(v.ctx)
	if err != nil {
		return err
	}
	view := enrolmentsView{MayMake: v.may(admins), Empty: empty{Title: "No enrolment token",
		Text: "With a token a machine makes its own key, which never leaves it, and gets its certificate. Make one here, or on the server:", Command: "sealmq cert token acme-01"}}
	for _, e := range r.JSON200.Items {
		row := enrolmentRow{Enrolment: e, Shown: stateOf(enrolmentStates, e.State)}
		if e.Fingerprint != "" {
			row.Consent = certificatePath(e.Fingerprint)
		}
		if view.MayMake && e.State == mainapi.EnrolmentStateOpen {
			row.Delete = v.portal.url(enrolmentPath, e.ID, "delete")
		}
		view.Rows = append(view.Rows, row)
	}
	return v.render("enrolments", view)
}

// newEnrolmentView is the form for a token, and the same as a command.
type newEnrolmentView struct {
	Form    form
	Command string
}

func (v *visit) newEnrolment() error {
	return v.showNewEnrolment(mainapi.EnrolmentTokenRequest{ClientID: v.r.URL.Query().Get("client"), ExpiresIn: 3600}, strconv.Itoa(defaultDays), nil)
}

func (v *visit) showNewEnrolment(r mainapi.EnrolmentTokenRequest, days string, problems fieldErrors) error {
	if text := problems["lifetime"]; text != "" {
		problems["validity_days"] = text
	}
	f := form{Action: v.portal.url(enrolmentPath, "new"), Submit: "Make a token", Cancel: v.portal.url(enrolmentPath), Fields: []field{
		{Name: "client_id", Label: "Name", Value: r.ClientID, Max: 64, Required: true, Focus: true, Code: true, Autocomplete: "off", Hint: "A letter or digit, then letters, digits, dots, underscores and hyphens"},
		{Name: "role", Label: "Role", Kind: "select", Options: options(string(r.Role), rolePairs...), Hint: "Every role but client needs your password"},
		{Name: "expires_in", Label: "The token is good for", Kind: "select", Options: options(strconv.Itoa(r.ExpiresIn), "900", "15 minutes", "3600", "an hour", "86400", "a day", "604800", "a week")},
		{Name: "validity_days", Label: "The certificate is valid for days", Kind: "number", Value: days, Required: true, Hint: "1 to 3,650. The machine renews it in time, for as long again."},
	}, MoreText: "Address, domain, host names", More: []field{
		{Name: "server", Label: "Address of the main server", Value: r.Server, Max: 255, Code: true, Placeholder: "https://mq.example.org:8000", Autocomplete: "off", Hint: "Where the machine reaches it; empty is the address that it knows of itself"},
		{Name: "domain", Label: "Domain", Value: r.Domain, Max: 64, Placeholder: "default", Autocomplete: "off", Hint: "A label for the client and its messages"},
		{Name: "sans", Label: "Host names and addresses", Value: strings.Join(r.Sans, ", "), Max: 2048, Autocomplete: "off", Hint: "For a proxy, worker or server that others connect to; with commas between them"},
		{Name: "replace", Kind: "check", Label: "Also if the name has an active certificate", Checked: r.Replace, Hint: "The old one stays valid until it expires or is revoked"},
	}}
	name := r.ClientID
	if v.safeName(name) != name {
		name = "acme-01"
	}
	return v.renderStatus(formStatus(problems), "enroll", newEnrolmentView{f.with(problems), "sealmq cert token " + name})
}

type madeEnrolmentView struct {
	mainapi.EnrolmentToken
	// Command is what the machine runs. It is the same in all shells, and keeps the token out of
	// the list of processes.
	Command, Renew string
}

// makeEnrolment answers with the token, which is shown this once.
func (v *visit) makeEnrolment() error {
	value := func(name string) string { return strings.TrimSpace(v.r.PostFormValue(name)) }
	r := mainapi.EnrolmentTokenRequest{ClientID: value("client_id"), Role: sealmq.Role(value("role")), Server: strings.TrimSuffix(value("server"), "/"), Domain: value("domain"),
		Sans: hostList(value("sans")), Replace: value("replace") != ""}
	r.ExpiresIn, _ = strconv.Atoi(value("expires_in"))
	problems := make(fieldErrors)
	r.Lifetime = int64(v.validityAsked(problems)) * int64(24*time.Hour/time.Second)
	again := func(problems fieldErrors) error { return v.showNewEnrolment(r, value("validity_days"), problems) }
	if len(problems) > 0 {
		return again(problems)
	}
	made, err := v.api.MakeEnrolmentTokenWithResponse(v.ctx, r)
	if err != nil {
		return refused(err, again)
	}
	v.title = "The token of " + made.JSON201.ClientID
	view := madeEnrolmentView{EnrolmentToken: *made.JSON201, Command: "echo " + made.JSON201.Token + " | sealmq cert enroll"}
	switch view.Role {
	case sealmq.RoleProxy, sealmq.RoleWorker:
		view.Renew = "sealmq serve " + string(view.Role)
	default:
		view.Renew = "sealmq cert renew " + view.ClientID + " --watch"
	}
	return v.render("enrolment-token", view)
}

func (v *visit) deleteEnrolment() error {
	_, err := v.api.RevokeEnrolmentWithResponse(v.ctx, v.r.PathValue("id"))
	if hasStatus(err, http.StatusNotFound) || hasStatus(err, http.StatusUnprocessableEntity) {
		return &pageError{http.StatusNotFound, "There is nothing to take back", "The token was used, has expired or was taken back already."}
	}
	return v.doneUnless(err, enrolmentPath, "It is good no more.")
}

// consentToRenewal lets the holder of an expired certificate renew it once.
func (v *visit) consentToRenewal() error {
	fingerprint := v.r.PathValue("fingerprint")
	r, err := v.api.ConsentToRenewalWithResponse(v.ctx, fingerprint, mainapi.ConsentRequest{})
	if err != nil {
		return err
	}
	return v.done(certificatePath(fingerprint), "The holder may renew it once until "+utcTime(r.JSON201.ExpiresAt)+".")
}
