package portal

import (
	"archive/zip"
	"bytes"
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/api/mainapi"
)

// A private key that is made here leaves once: in a zip that answers the form itself. It is in
// no page, so the browser has no copy in its history, and a reload asks for the form again. The
// form has a number, by which a second press is recognised.

// issueView is the form for a certificate, and what it leads to.
type issueView struct {
	Form form
	// Sent is the address that says whether the form was answered, for a script.
	Sent     string
	Commands []string
}

// newCertificate is the form for a new certificate.
func (v *visit) newCertificate() error {
	if id := v.r.URL.Query().Get("sent"); id != "" {
		return v.answered(id)
	}
	return v.showIssue(mainapi.CertificateRequest{ClientID: v.r.URL.Query().Get("client"), ValidityDays: defaultDays}, newFormID(), nil)
}

// defaultDays is the validity that is offered.
const defaultDays = 365

func (v *visit) showIssue(r mainapi.CertificateRequest, id string, problems fieldErrors) error {
	path := certificatesPath + "/new"
	f := form{Action: v.portal.url(path), Files: true, Submit: "Issue and download", Cancel: v.portal.url(certificatesPath), Fields: []field{
		{Name: "client_id", Label: "Client", Value: r.ClientID, Max: 64, Required: true, Focus: true, Code: true, Autocomplete: "off", Hint: "A letter or digit, then letters, digits, dots, underscores and hyphens"},
		{Name: "domain", Label: "Domain", Value: r.Domain, Max: 64, Placeholder: "default", Autocomplete: "off", Hint: "A label for the client and its messages"},
		{Name: "validity_days", Label: "Valid for days", Kind: "number", Value: strconv.Itoa(r.ValidityDays), Required: true, Hint: "1 to 3,650"},
	}}
	f.MoreText = "Role, host names, own key"
	f.More = append([]field{
		{Name: "role", Label: "Role", Kind: "select", Options: options(string(r.Role), rolePairs...), Hint: "Every role but client needs your password"},
		{Name: "sans", Label: "Host names and addresses", Value: strings.Join(r.Sans, ", "), Max: 2048, Autocomplete: "off", Hint: "For a proxy, worker or server that others connect to; with commas between them"},
		{Name: "replace", Kind: "check", Label: "Also if the client has an active certificate", Checked: r.Replace, Hint: "The old one stays valid until it expires or is revoked"},
	}, ownKeyFields(r.Csr, id)...)
	name := cmp.Or(r.ClientID, "acme-01")
	view := issueView{Form: f.with(problems), Sent: v.sentPath(id), Commands: []string{"sealmq cert issue " + name, "sealmq cert sign " + name + " " + name + ".csr"}}
	if v.safeName(name) != name {
		view.Commands = nil
	}
	return v.renderStatus(formStatus(problems), "issue", view)
}

// ownKeyFields let a client bring the public half of a key of its own.
func ownKeyFields(csr, id string) []field {
	return []field{
		{Name: "csr", Label: "Signing request", Kind: "textarea", Value: csr, Code: true, Placeholder: "-----BEGIN CERTIFICATE REQUEST-----",
			Hint: "Only if the client has a key of its own. Otherwise a key is made, and is in the download only."},
		{Name: "csr_file", Label: "… or its file", Kind: "file"},
		{Name: "form", Kind: "hidden", Value: id},
	}
}

// issueCertificate issues a certificate and answers with a zip.
func (v *visit) issueCertificate() error {
	r := mainapi.CertificateRequest{ClientID: strings.TrimSpace(v.r.PostFormValue("client_id")), Domain: strings.TrimSpace(v.r.PostFormValue("domain")),
		Role: sealmq.Role(v.r.PostFormValue("role")), Replace: v.r.PostFormValue("replace") != "", Sans: hostList(v.r.PostFormValue("sans"))}
	problems := make(fieldErrors)
	r.ValidityDays = v.validityAsked(problems)
	r.Csr = v.csrAsked(problems)
	id := v.r.PostFormValue("form")
	if len(problems) > 0 {
		return v.showIssue(r, id, problems)
	}
	return v.handOut(id, func() (*mainapi.IssuedCertificate, error) {
		answer, err := v.api.IssueCertificateWithResponse(v.ctx, r)
		if err != nil {
			return nil, err
		}
		return answer.JSON201, nil
	}, func(problems fieldErrors) error { return v.showIssue(r, newFormID(), problems) })
}

// validityAsked is the validity in a form, in days.
func (v *visit) validityAsked(problems fieldErrors) int {
	n, err := strconv.Atoi(strings.TrimSpace(v.r.PostFormValue("validity_days")))
	if err != nil {
		problems["validity_days"] = "Give a number of days, 1 to 3650"
	}
	return n
}

// maxCSR is the API's bound.
const maxCSR = 16 << 10

// csrAsked is the signing request in a form, pasted or in a file.
func (v *visit) csrAsked(problems fieldErrors) string {
	pasted := strings.TrimSpace(v.r.PostFormValue("csr"))
	file, _, err := v.r.FormFile("csr_file")
	if errors.Is(err, http.ErrMissingFile) || errors.Is(err, http.ErrNotMultipart) {
		return pasted
	}
	var data []byte
	if err == nil {
		defer file.Close()
		data, err = io.ReadAll(io.LimitReader(file, maxCSR+1))
	}
	switch {
	case err != nil || len(data) > maxCSR || bytes.ContainsRune(data, 0):
		problems["csr_file"] = "This is no signing request in PEM"
	case len(bytes.TrimSpace(data)) > 0 && pasted != "":
		problems["csr_file"] = "Give the text or the file, not both"
	case len(data) > 0:
		pasted = strings.TrimSpace(string(data))
		v.r.PostForm.Set("csr", pasted) // for a confirmation, which cannot keep a file
	}
	return pasted
}

func hostList(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' || r == ';' || r == '\n' || r == '\r' || r == '\t' })
}

// renewal is the form for a successor.
func (v *visit) renewal() error {
	c, err := v.certificateAsked()
	if err != nil {
		return err
	}
	return v.showRenewal(c, mainapi.RenewRequest{ValidityDays: defaultDays}, newFormID(), nil)
}

func (v *visit) showRenewal(c *mainapi.Certificate, r mainapi.RenewRequest, id string, problems fieldErrors) error {
	v.title, v.crumb = "Renew", &link{c.ClientID, certificatePath(c.Fingerprint)}
	f := form{Action: v.portal.url(certificatePath(c.Fingerprint) + "/renew"), Files: true, Submit: "Renew and download", Cancel: v.portal.url(certificatePath(c.Fingerprint)),
		Fields: []field{{Name: "validity_days", Label: "Valid for days", Kind: "number", Value: strconv.Itoa(r.ValidityDays), Required: true, Hint: "1 to 3,650, from now"}},
		More:   ownKeyFields(r.Csr, id), MoreText: "Own key"}
	f.Fields = append(f.Fields, field{Name: "revoke_old", Kind: "check", Label: "Revoke the old certificate at once", Checked: r.RevokeOld,
		Hint: "Otherwise both are valid, so that the client can change over without a pause"})
	if c.Status == mainapi.CertificateStatusExpired {
		f.Fields = append(f.Fields, field{Name: "expired", Kind: "check", Label: "Renew although it has expired", Checked: r.Expired, Required: true})
	}
	return v.renderStatus(formStatus(problems), "issue", issueView{Form: f.with(problems), Sent: v.sentPath(id), Commands: []string{"sealmq cert renew " + c.ClientID}})
}

func (v *visit) renewCertificate() error {
	c, err := v.certificateAsked()
	if err != nil {
		return err
	}
	r := mainapi.RenewRequest{RevokeOld: v.r.PostFormValue("revoke_old") != "", Expired: v.r.PostFormValue("expired") != ""}
	problems := make(fieldErrors)
	r.ValidityDays = v.validityAsked(problems)
	r.Csr = v.csrAsked(problems)
	id := v.r.PostFormValue("form")
	if len(problems) > 0 {
		return v.showRenewal(c, r, id, problems)
	}
	return v.handOut(id, func() (*mainapi.IssuedCertificate, error) {
		answer, err := v.api.RenewCertificateWithResponse(v.ctx, c.Fingerprint, r)
		if err != nil {
			return nil, err
		}
		return answer.JSON201, nil
	}, func(problems fieldErrors) error { return v.showRenewal(c, r, newFormID(), problems) })
}

// handOut answers a form with a certificate, once. again shows the form with what is wrong.
func (v *visit) handOut(id string, issue func() (*mainapi.IssuedCertificate, error), again func(fieldErrors) error) error {
	if !formID.MatchString(id) {
		return again(fieldErrors{"": "The form was not complete. Nothing was issued; send it again."})
	}
	if before, known := v.given(id); known {
		return v.givenAlready(before)
	}
	if before, first := v.portal.handouts.begin(id, v.portal.cfg.Now()); !first {
		return v.givenAlready(before)
	}
	c, err := issue()
	if err != nil {
		v.portal.handouts.forget(id)
		return refused(err, again)
	}
	done := handout{Form: id, Path: certificatePath(c.Fingerprint), Client: c.ClientID, At: v.portal.cfg.Now()}
	v.portal.handouts.end(id, done)
	v.keep(givenCookie, done, keepHandout)
	data, err := v.pack(c)
	if err != nil {
		return err
	}
	v.file(v.safeName(c.ClientID)+".zip", "application/zip", data)
	return nil
}

// givenAlready says that a form was answered before.
func (v *visit) givenAlready(h handout) error {
	v.title = "This was given once"
	view := givenView{Text: []string{"The form is being answered right now. Nothing was issued twice."}}
	if h.Path != "" {
		view.Path = h.Path
		view.Text = []string{"The certificate of " + h.Client + " was issued, and its key went with the download. The key is kept nowhere, so it cannot be shown again.",
			"If the download is lost, revoke the certificate and issue another one."}
	}
	return v.renderStatus(http.StatusConflict, "given", view)
}

type givenView struct {
	Text []string
	Path string
}

// answered tells a script whether a form was answered, and leads to the certificate then.
func (v *visit) answered(id string) error {
	if h, _ := v.given(id); h.Path != "" {
		return v.done(h.Path, "Issued. The key was in the download and is kept nowhere else.")
	}
	if !v.partial() {
		return v.redirect(certificatesPath)
	}
	return v.render("sent", v.sentPath(id))
}

// given is what a form led to, as this portal knows it, or as the browser kept it from another one.
func (v *visit) given(id string) (h handout, known bool) {
	if h, known = v.portal.handouts.find(id); known {
		return h, true
	}
	if !v.kept(givenCookie, &h) || h.Form != id || v.portal.local(h.Path) != h.Path {
		return handout{}, false
	}
	return h, true
}

// sentPath is the address that tells a script whether a form was answered; empty if id is none.
func (v *visit) sentPath(id string) string {
	if !formID.MatchString(id) {
		return ""
	}
	return v.portal.url(certificatesPath) + "/new?sent=" + id
}

// formID is the number of a form.
var formID = regexp.MustCompile("^[0-9a-f]{32}$")

func newFormID() string {
	var b [16]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// handouts remember which forms were answered. They hold no key.
type handouts struct {
	mu   sync.Mutex
	list map[string]handout
}

// handout is what a form led to; Path is empty while it is being answered.
type handout struct {
	Form, Path, Client string
	At                 time.Time
}

const (
	keepHandout = 24 * time.Hour
	maxHandouts = 10_000
)

// begin notes that a form is being answered. first is false if it was sent before.
func (h *handouts) begin(id string, now time.Time) (before handout, first bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if before, known := h.list[id]; known {
		return before, false
	}
	if h.list == nil {
		h.list = make(map[string]handout)
	}
	if len(h.list) >= maxHandouts {
		for other, o := range h.list {
			if now.Sub(o.At) > keepHandout {
				delete(h.list, other)
			}
		}
		for other := range h.list { // of any, if all are new
			if len(h.list) < maxHandouts {
				break
			}
			delete(h.list, other)
		}
	}
	h.list[id] = handout{At: now}
	return handout{}, true
}

func (h *handouts) end(id string, to handout) { h.mu.Lock(); defer h.mu.Unlock(); h.list[id] = to }
func (h *handouts) forget(id string)          { h.mu.Lock(); defer h.mu.Unlock(); delete(h.list, id) }

func (h *handouts) find(id string) (handout, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	found, ok := h.list[id]
	return found, ok
}

// safeName is the name of a certificate, which can be part of a file's name and of a command.
func (v *visit) safeName(name string) string {
	if !certificateName.MatchString(name) {
		return "certificate"
	}
	return name
}

var certificateName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// pack puts a certificate into a zip: what its program needs, and how to use it.
func (v *visit) pack(c *mainapi.IssuedCertificate) ([]byte, error) {
	name := v.safeName(c.ClientID)
	files := []struct {
		name, content string
		mode          uint32
	}{
		{name + ".key", c.PrivateKey, 0o600},
		{name + ".crt", c.Certificate, 0o644},
		{"ca.crt", c.CaCertificate, 0o644},
		{"README.txt", v.readme(name, c), 0o644},
	}
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, f := range files {
		if f.content == "" {
			continue
		}
		head := &zip.FileHeader{Name: f.name, Method: zip.Deflate, Modified: v.portal.cfg.Now()}
		head.ExternalAttrs = f.mode << 16
		head.CreatorVersion = 3 << 8 // Unix, so that the mode counts
		w, err := z.CreateHeader(head)
		if err == nil {
			_, err = io.WriteString(w, f.content)
		}
		if err != nil {
			return nil, err
		}
	}
	err := z.Close()
	return b.Bytes(), err
}

// readme says what is in a zip and how it is used.
func (v *visit) readme(name string, c *mainapi.IssuedCertificate) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Certificate of %s, role %s, domain %s\nValid until %s\nSHA-256 %s\n\n", c.ClientID, c.Role, c.Domain, utcTime(c.ExpiresAt), c.Fingerprint)
	if c.PrivateKey != "" {
		fmt.Fprintf(&b, "%-16s the private key. Nobody else has it, and it cannot be fetched again:\n%-16s keep it secret, and readable for its program only.\n", name+".key", "")
	}
	fmt.Fprintf(&b, "%-16s the certificate, with the authorities above it\n%-16s the authority: believe servers of it only\n\n", name+".crt", "ca.crt")
	if c.Role != sealmq.RoleClient {
		fmt.Fprintf(&b, "A %s of SealMQ has these files as certs/%s.crt, certs/%s.key and certs/ca.crt in its data folder.\ndocs/tls-and-identity.md has more.\n", c.Role, c.Role, c.Role)
		return b.String()
	}
	key := name + ".key"
	if c.PrivateKey == "" {
		key = "YOUR.key"
	}
	host := "https://" + net.JoinHostPort(v.host(), "8001")
	fmt.Fprintf(&b, `Send a message, if the proxy is at %s:

    curl --cert %s.crt --key %s --cacert ca.crt %s/submit -H "Content-Type: application/json" -d '{"sender_number": "+4915200000000", "message_body": "Hello"}'

    sealmq submit --cert %s.crt --cert-key %s --ca ca.crt --proxy-url %s --sender +4915200000000 --message Hello
`, host, name, key, host, name, key, host)
	return b.String()
}

// host is the name under which the reader's browser knows this machine.
func (v *visit) host() string {
	host := v.r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if host = strings.Trim(host, "[]"); len(host) > 253 || !hostName.MatchString(host) {
		return "localhost"
	}
	return host
}

var hostName = regexp.MustCompile(`^[A-Za-z0-9.:-]+$`)
