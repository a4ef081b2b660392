package portal

import (
	"strings"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/api/mainapi"
)

// What revoking asks. An empty reason is one in the reader's own words.
var reasonPairs = []string{"keyCompromise", "Lost or stolen: others may know the key", "cessationOfOperation", "No longer needed",
	"affiliationChanged", "The owner has changed", "", "Another reason"}

// revocation is the page that says what revoking will cut off.
func (v *visit) revocation() error {
	c, err := v.certificateAsked()
	if err != nil {
		return err
	}
	return v.showRevocation(c, "keyCompromise", nil)
}

func (v *visit) showRevocation(c *mainapi.Certificate, reason string, problems fieldErrors) error {
	one, err := v.api.PreviewCertificateRevocationWithResponse(v.ctx, c.Fingerprint)
	if err != nil {
		return err
	}
	all, err := v.api.PreviewClientRevocationWithResponse(v.ctx, c.ClientID)
	if err != nil {
		return err
	}
	v.title, v.crumb = "Revoke", &link{c.ClientID, certificatePath(c.Fingerprint)}
	view := dangerView{Title: "Revoke the certificate of " + c.ClientID, Text: append(cutsOff(one.JSON200), "It cannot be taken back. "+c.ClientID+" can get a new certificate.")}
	fields := []field{
		{Name: "reason", Label: "Reason", Kind: "select", Options: options(reason, reasonPairs...)},
		{Name: "note", Label: "Another reason", Value: v.r.PostFormValue("note"), Max: 500, Hint: "In your own words, if none of these fits"},
	}
	if all.JSON200.Certificates > one.JSON200.Certificates {
		fields = append(fields, field{Name: "all", Kind: "check", Label: "Revoke all " + plural(all.JSON200.Certificates, "active certificate") + " of " + c.ClientID,
			Hint: strings.Join(cutsOff(all.JSON200), " "), Checked: v.r.PostFormValue("all") != ""})
	}
	fields = append(fields, field{Name: "name", Label: "Type " + c.ClientID + " to confirm", Match: c.ClientID, Max: 255, Required: true, Code: true, Autocomplete: "off"})
	view.Form = form{Action: v.portal.url(certificatePath(c.Fingerprint) + "/revoke"), Fields: fields, Submit: "Revoke", Danger: true,
		Cancel: v.portal.url(certificatePath(c.Fingerprint))}.with(problems)
	return v.renderStatus(formStatus(problems), "danger", view)
}

// cutsOff says in figures what a revocation does now.
func cutsOff(p *mainapi.RevocationPreview) []string {
	what := "no open connection"
	switch {
	case p.Connections > 0:
		what = plural(p.Connections, "open connection")
	case !p.Complete:
		what = "no connection that is known here"
	}
	if !p.Complete && p.Connections > 0 {
		what = "at least " + what
	}
	for _, r := range p.Roles {
		if word := roleStops[r.Role]; word != "" {
			what += " and " + plural(r.Certificates, word)
		}
	}
	text := []string{"Cuts off " + what + " now" + where(p) + "."}
	if !p.Complete {
		text = append(text, "Components on other machines follow within a second; what is open to them is not counted.")
	}
	if p.Remaining > 0 {
		text = append(text, plural(p.Remaining, "other active certificate of "+p.ClientID+" stays valid.", "other active certificates of "+p.ClientID+" stay valid."))
	}
	if p.Own {
		text = append(text, "This is the certificate of the main server itself: clients will refuse to talk to it.")
	}
	return text
}

// roleStops are the roles whose holders stop their work without a certificate.
var roleStops = map[sealmq.Role]string{sealmq.RoleProxy: "proxy", sealmq.RoleWorker: "worker", sealmq.RoleServer: "server", sealmq.RoleAdmin: "administrator", sealmq.RoleMonitor: "monitor"}

// where are the components that connections are open to, if there are several.
func where(p *mainapi.RevocationPreview) string {
	if len(p.Listeners) == 0 {
		return ""
	}
	var parts []string
	for _, l := range p.Listeners {
		name := string(l.Component)
		if name == "main" {
			name = "main server"
		}
		parts = append(parts, number(l.Connections)+" to the "+name)
	}
	return " (" + strings.Join(parts, ", ") + ")"
}

// revokeCertificate revokes one certificate, or all of its client's.
func (v *visit) revokeCertificate() error {
	c, err := v.certificateAsked()
	if err != nil {
		return err
	}
	reason := v.r.PostFormValue("reason")
	if v.r.PostFormValue("name") != c.ClientID {
		return v.showRevocation(c, reason, fieldErrors{"name": "This is not the name. Nothing was revoked."})
	}
	request := mainapi.RevokeRequest{Reason: reason}
	if reason == "" {
		request.Reason = strings.TrimSpace(v.r.PostFormValue("note"))
	}
	what := "The certificate of " + c.ClientID + " is revoked."
	if v.r.PostFormValue("all") != "" {
		what = "All certificates of " + c.ClientID + " are revoked."
		_, err = v.api.RevokeClientWithResponse(v.ctx, c.ClientID, request)
	} else {
		_, err = v.api.RevokeCertificateWithResponse(v.ctx, c.Fingerprint, request)
	}
	if err != nil {
		return refused(err, func(problems fieldErrors) error {
			problems["note"] = problems["reason"]
			return v.showRevocation(c, reason, problems)
		})
	}
	return v.done(certificatePath(c.Fingerprint), what+" What was open is being closed.")
}
