package portal

import (
	"archive/zip"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/api/mainapi"
	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/mtls"
)

const testFingerprint = "00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee"

// certificateOf is a certificate as the main server describes it.
func certificateOf(client string, daysLeft int) mainapi.Certificate {
	return mainapi.Certificate{Fingerprint: testFingerprint, Serial: "c0ffee1234", ClientID: client, Domain: "default", Role: sealmq.RoleClient, Status: mainapi.CertificateStatusActive,
		IssuedAt: testNow.AddDate(0, 0, daysLeft-365), ExpiresAt: testNow.AddDate(0, 0, daysLeft), DaysRemaining: daysLeft, IssuedBy: "anna@example.com", Source: "api"}
}

// withCertificates plays a main server that has some.
func withCertificates(t *testing.T, list ...mainapi.Certificate) *world {
	t.Helper()
	w := newWorld(t, Config{})
	total := mainapi.Total{Count: int64(len(list)), Exact: true}
	w.on("GET /api/v1/certificates", http.StatusOK, mainapi.CertificatePage{Items: list, Total: total})
	w.on("GET /api/v1/certificates/expiring", http.StatusOK, mainapi.CertificatePage{Items: []mainapi.Certificate{}, Total: total})
	w.on("GET /api/v1/revocations", http.StatusOK, mainapi.RevocationState{Version: 17, Entries: 3, Problems: []string{},
		Crl:       mainapi.RevocationListState{Number: "17", Entries: 3, IssuedAt: testNow, NextUpdate: testNow.AddDate(0, 0, 7)},
		Followers: []mainapi.RevocationFollower{{ClientID: "proxy-2", Role: sealmq.RoleProxy, Version: 15, Behind: 2, AskedAt: testNow, Status: mainapi.RevocationFollowerStatusBehind}}})
	for i := range list {
		path := "/api/v1/certificates/" + list[i].Fingerprint
		w.on("GET "+path, http.StatusOK, list[i])
		preview := mainapi.RevocationPreview{ClientID: list[i].ClientID, Certificates: 1, Connections: 3, Complete: true, Listeners: []mainapi.RevocationPreviewListener{{Component: "broker", Connections: 3}},
			Roles: []mainapi.RevocationPreviewRole{{Role: sealmq.RoleProxy, Certificates: 1, Connected: 1}}}
		w.on("GET "+path+"/revoke/preview", http.StatusOK, preview)
		preview.Certificates, preview.Connections, preview.Complete = 2, 5, false
		w.on("GET /api/v1/clients/"+list[i].ClientID+"/revoke/preview", http.StatusOK, preview)
	}
	return w
}

func TestCertificateList(t *testing.T) {
	w := withCertificates(t, certificateOf("acme-01", 6), certificateOf("acme-02", 14), certificateOf("acme-03", 200))
	rec := w.browse(operator, "/admin/certificates?status=all&within=30&serial=C0:FF", nil)
	want(t, rec, http.StatusOK, `<span class="badge bad">6 days left</span>`, `<span class="badge warn">14 days left</span>`, "3 found", "acme-03", "2 changes behind", "Download ca.crt")
	if strings.Contains(rec.Body.String(), "Issue a certificate") {
		t.Error("an operator is offered what it may not do")
	}
	want(t, w.browse(admin, "/admin/certificates", nil), http.StatusOK, "Issue a certificate", "3 certificates expire within 30 days")
	w.on("GET /api/v1/ca.crt", http.StatusOK, map[string]string{"a": "root"})
	if rec := w.browse(operator, "/admin/authority/ca.crt", nil); rec.Code != http.StatusOK || rec.Header().Get("Content-Disposition") != `attachment; filename="ca.crt"` || !strings.Contains(rec.Body.String(), "root") {
		t.Errorf("%d %v %s", rec.Code, rec.Header(), rec.Body)
	}
	want(t, w.browse(operator, "/admin/authority/key.pem", nil), http.StatusNotFound, "There is no such file")
	w = withCertificates(t)
	want(t, w.browse(admin, "/admin/certificates", nil), http.StatusOK, "No certificate is active", "sealmq cert issue acme-01")
	want(t, w.browse(admin, "/admin/certificates?client=x", nil), http.StatusOK, "No certificate matches")
}

// TestShortLives: what a machine renews by itself is marked in the last third of its life only.
func TestShortLives(t *testing.T) {
	early, late := certificateOf("early", 0), certificateOf("late", 0)
	early.IssuedAt, early.ExpiresAt = testNow.Add(-12*time.Hour), testNow.Add(12*time.Hour)
	late.IssuedAt, late.ExpiresAt = testNow.Add(-20*time.Hour), testNow.Add(4*time.Hour)
	rec := withCertificates(t, early, late).browse(admin, "/admin/certificates", nil)
	if n := strings.Count(rec.Body.String(), "less than a day left"); rec.Code != http.StatusOK || n != 1 {
		t.Errorf("%d, and %d certificates are marked, want 1", rec.Code, n)
	}
}

// TestCertificatePageSaysWhatIs shows nasty names as they are, and nothing that is a script.
func TestCertificatePageSaysWhatIs(t *testing.T) {
	c := certificateOf(`<script>alert("مرحبا 👩‍🔬")</script>`+strings.Repeat("long", 60), 6)
	c.RevocationReason, c.RevokedAt, c.Status, c.IssuedBy = `"><img src=x onerror=alert(1)>`, testNow, mainapi.CertificateStatusRevoked, "<b>"
	c.Chain = []mainapi.Issuer{{Subject: "CN=<i>root</i>", Fingerprint: testFingerprint, ExpiresAt: testNow}}
	c.ReplacedBy = testFingerprint
	w := withCertificates(t, c)
	rec := w.browse(admin, certificatePath(testFingerprint), nil)
	want(t, rec, http.StatusOK, "Revoked", "&lt;script&gt;", testFingerprint)
	for _, bad := range []string{"<script>alert", "<img src=x", "<b>", "<i>root", "/renew"} {
		if strings.Contains(rec.Body.String(), bad) {
			t.Errorf("the page has %s", bad)
		}
	}
	w.refuse("GET /api/v1/certificates/xyz", http.StatusUnprocessableEntity, "validation_error", "")
	want(t, w.browse(admin, "/admin/certificates/xyz", nil), http.StatusNotFound, "There is no such certificate")
}

func TestRevoke(t *testing.T) {
	w := withCertificates(t, certificateOf("acme-01", 6))
	path := certificatePath(testFingerprint) + "/revoke"
	want(t, w.browse(admin, path, nil), http.StatusOK, "Cuts off 3 open connections and 1 proxy now (3 to the broker).", "Revoke all 2 active certificates of acme-01", "at least 5 open connections", `data-match="acme-01"`)
	want(t, w.browse(admin, path, url.Values{"name": {"acme-1"}, "reason": {"keyCompromise"}}), http.StatusUnprocessableEntity, "Nothing was revoked")
	w.on("POST /api/v1/certificates/"+testFingerprint+"/revoke", http.StatusOK, mainapi.Revoked{ClientID: "acme-01", RevokedAt: testNow, Certificates: 1})
	w.on("POST /api/v1/clients/acme-01/revoke", http.StatusOK, mainapi.Revoked{ClientID: "acme-01", RevokedAt: testNow, Certificates: 2})
	wantRedirect(t, w.browse(admin, path, url.Values{"name": {"acme-01"}, "reason": {""}, "note": {"stolen in Bonn"}}), certificatePath(testFingerprint))
	if last := w.last(); !strings.Contains(last, "POST /api/v1/certificates/") || !strings.Contains(last, "stolen in Bonn") {
		t.Errorf("asked %s", last)
	}
	wantRedirect(t, w.browse(admin, path, url.Values{"name": {"acme-01"}, "reason": {"keyCompromise"}, "all": {"true"}}), certificatePath(testFingerprint))
	if last := w.last(); !strings.Contains(last, "POST /api/v1/clients/acme-01/revoke") || !strings.Contains(last, "keyCompromise") {
		t.Errorf("asked %s", last)
	}
	w.refuse("POST /api/v1/certificates/"+testFingerprint+"/revoke", http.StatusConflict, "conflict", "It is revoked already")
	want(t, w.browse(admin, path, url.Values{"name": {"acme-01"}, "reason": {"keyCompromise"}}), http.StatusUnprocessableEntity, "It is revoked already")
}

// last is the last call that changed something.
func (w *world) last() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := len(w.asked) - 1; i >= 0; i-- {
		if strings.HasPrefix(w.asked[i], "POST") {
			return w.asked[i]
		}
	}
	return ""
}

// issued is a real certificate as the main server answers with it.
func issued(t *testing.T, authority *ca.Authority, name string) mainapi.IssuedCertificate {
	t.Helper()
	c, err := authority.Issue(ca.Request{Name: name, Role: sealmq.RoleClient})
	if err != nil {
		t.Fatal(err)
	}
	root := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: authority.Root().Raw})
	return mainapi.IssuedCertificate{ClientID: name, Domain: "default", Role: sealmq.RoleClient, Certificate: string(c.CertPEM), PrivateKey: string(c.KeyPEM), CaCertificate: string(root),
		Fingerprint: mtls.Fingerprint(c.Leaf), Serial: mtls.Serial(c.Leaf), IssuedAt: testNow, ExpiresAt: c.Leaf.NotAfter}
}

// unzip is the content of a download by name.
func unzip(t *testing.T, rec *httptest.ResponseRecorder) map[string]string {
	t.Helper()
	if rec.Code != http.StatusOK || rec.Header().Get("Content-Type") != "application/zip" || rec.Header().Get("Cache-Control") != "no-store" {
		t.Fatalf("status %d, headers %v\n%s", rec.Code, rec.Header(), rec.Body)
	}
	data := rec.Body.Bytes()
	z, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	files := make(map[string]string)
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		files[f.Name] = string(content)
		if private := strings.HasSuffix(f.Name, ".key"); private != (f.Mode().Perm() == 0o600) {
			t.Errorf("%s has the mode %v", f.Name, f.Mode())
		}
	}
	return files
}

// TestIssueGivesTheKeyOnce: the zip is good for mutual TLS, a second press shows nothing, and no
// page has the key.
func TestIssueGivesTheKeyOnce(t *testing.T) {
	made, err := ca.Setup(t.TempDir(), nil, ca.Options{})
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, Config{})
	c := issued(t, made.Authority, "acme-09")
	w.on("POST /api/v1/certificates", http.StatusCreated, c)
	rec := w.browse(admin, "/admin/certificates/new?client=acme-09", nil)
	want(t, rec, http.StatusOK, `value="acme-09"`)
	_, id, _ := strings.Cut(rec.Body.String(), `name="form" value="`)
	form := url.Values{"client_id": {" acme-09 "}, "validity_days": {"30"}, "role": {"client"}, "form": {id[:32]}}
	sent := "/admin/certificates/new?sent=" + id[:32]
	want(t, w.browse(admin, sent, nil, "HX-Request", "true"), http.StatusOK, "is being made")
	files := unzip(t, w.browse(admin, "/admin/certificates/new", form, "Host", "portal.example"))
	if len(files) != 4 || files["acme-09.key"] != c.PrivateKey || !strings.Contains(files["README.txt"], "curl --cert acme-09.crt --key acme-09.key --cacert ca.crt https://portal.example:8001/submit") {
		t.Errorf("%v", files)
	}
	handshake(t, made.Authority, files, "acme-09")

	again := w.browse(admin, "/admin/certificates/new", form)
	want(t, again, http.StatusConflict, "This was given once", "cannot be shown again", certificatePath(c.Fingerprint))
	if to := w.browse(admin, sent, nil, "HX-Request", "true").Header().Get("Hx-Redirect"); to != certificatePath(c.Fingerprint) {
		t.Errorf("after the download a script leads to %q", to)
	}
	if posts := strings.Count(strings.Join(w.asked, "\n"), "POST /api/v1/certificates"); posts != 1 {
		t.Errorf("%d certificates were asked for", posts)
	}
	if strings.Contains(again.Body.String(), "PRIVATE KEY") {
		t.Error("a page has the key")
	}
}

// handshake shows the certificate in a download to a listener that wants one.
func handshake(t *testing.T, authority *ca.Authority, files map[string]string, name string) {
	t.Helper()
	client, err := tls.X509KeyPair([]byte(files[name+".crt"]), []byte(files[name+".key"]))
	if err != nil {
		t.Fatal(err)
	}
	s, err := authority.Issue(ca.Request{Name: "server", Role: sealmq.RoleServer, DNSNames: []string{"localhost"}})
	if err != nil {
		t.Fatal(err)
	}
	server, err := tls.X509KeyPair(s.CertPEM, s.KeyPEM)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(files["ca.crt"]))
	a, b := net.Pipe()
	listener := tls.Server(a, &tls.Config{Certificates: []tls.Certificate{server}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert})
	done := make(chan error, 1)
	go func() { done <- listener.HandshakeContext(t.Context()) }()
	dialer := tls.Client(b, &tls.Config{Certificates: []tls.Certificate{client}, RootCAs: pool, ServerName: "localhost"})
	if err := dialer.HandshakeContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	id, err := mtls.NewIdentifier(authority.Root()).Identify(listener.ConnectionState())
	if err != nil || id.ID != name || id.Role != sealmq.RoleClient {
		t.Errorf("%+v, error %v", id, err)
	}
}

// TestIssueRefused keeps what was filled in, and the form can be sent again.
func TestIssueRefused(t *testing.T) {
	w := newWorld(t, Config{})
	form := func() url.Values {
		return url.Values{"client_id": {"acme-09"}, "domain": {"shop"}, "validity_days": {"30"}, "role": {"client"}, "form": {newFormID()}}
	}
	w.on("POST /api/v1/certificates", 422, mainapi.Problem{Code: "validation_error", Errors: []mainapi.FieldProblem{{Type: "value_error", Loc: []any{"body", "client_id"}, Msg: "This name is bad"}}})
	want(t, w.browse(admin, "/admin/certificates/new", form()), http.StatusUnprocessableEntity, "This name is bad", `value="shop"`)
	w.refuse("POST /api/v1/certificates", http.StatusConflict, "conflict", "The client has an active certificate")
	want(t, w.browse(admin, "/admin/certificates/new", form()), http.StatusUnprocessableEntity, "The client has an active certificate")
	for name, value := range map[string]string{"validity_days": "a year", "form": "forged"} {
		f := form()
		f.Set(name, value)
		asked := len(w.asked)
		want(t, w.browse(admin, "/admin/certificates/new", f), http.StatusUnprocessableEntity)
		if strings.Contains(strings.Join(w.asked[asked:], "\n"), "POST") {
			t.Errorf("%s=%s was sent on", name, value)
		}
	}
}

// TestGuardedAct: the password is asked for, the form is kept, and goes on from there.
func TestGuardedAct(t *testing.T) {
	made, err := ca.Setup(t.TempDir(), nil, ca.Options{})
	if err != nil {
		t.Fatal(err)
	}
	const confirmCall = "POST /api/v1/sessions/current/confirm"
	w := newWorld(t, Config{})
	w.refuse("POST /api/v1/certificates", http.StatusForbidden, "confirmation_required", "")
	form := url.Values{"client_id": {"proxy-2"}, "validity_days": {"30"}, "role": {"proxy"}, "sans": {"p2.example"}, "form": {newFormID()}}
	rec := w.browse(admin, "/admin/certificates/new", form)
	want(t, rec, http.StatusOK, "Confirm that it is you", `<input type="hidden" name="client_id" value="proxy-2">`, `<input type="hidden" name="sans" value="p2.example">`, `action="/admin/certificates/new"`)

	me := account(admin)
	me.SecondFactor = true
	w.on("GET /api/v1/me", http.StatusOK, me)
	form.Set("form", newFormID())
	want(t, w.browse(admin, "/admin/certificates/new", form), http.StatusOK, "confirm_password", "confirm_code")
	delete(w.answers, "GET /api/v1/me")
	form.Set("confirm_password", "s3cr3t-word")
	w.refuse(confirmCall, http.StatusUnauthorized, "invalid_credentials", "")
	rec = w.browse(admin, "/admin/certificates/new", form)
	want(t, rec, http.StatusUnprocessableEntity, "The password is wrong", `name="client_id" value="proxy-2"`)
	if strings.Contains(rec.Body.String(), "s3cr3t-word") {
		t.Error("the page has the password")
	}
	want(t, rec, http.StatusUnprocessableEntity, `hx-get="/admin/certificates/new?sent=`+form.Get("form"))
	w.refuse(confirmCall, http.StatusUnauthorized, "second_factor_required", "")
	want(t, w.browse(admin, "/admin/certificates/new", form), http.StatusUnprocessableEntity, "confirm_code")

	w.on(confirmCall, http.StatusNoContent, nil)
	w.on("POST /api/v1/certificates", http.StatusCreated, issued(t, made.Authority, "proxy-2"))
	form.Set("confirm_code", "123 456")
	unzip(t, w.browse(admin, "/admin/certificates/new", form))
	want(t, w.browse(operator, "/admin/certificates/new", form), http.StatusForbidden)

	w = newWorld(t, Config{Prefix: "/mq"})
	w.refuse("POST /api/v1/certificates", http.StatusForbidden, "confirmation_required", "")
	form.Del("confirm_password")
	want(t, w.browse(admin, "/mq/admin/certificates/new", form), http.StatusOK, `action="/mq/admin/certificates/new"`)

	w.refuse("POST /api/v1/users", http.StatusForbidden, "confirmation_required", "")
	rec = w.browse(admin, "/mq/admin/users/create", url.Values{"email": {"bob@example.com"}, "role": {"admin"}, "password": {"s3cr3t-word"}})
	want(t, rec, http.StatusOK, "Confirm that it is you", `name="email" value="bob@example.com"`, "The new password again", `name="password"`)
	if strings.Contains(rec.Body.String(), "s3cr3t-word") {
		t.Error("the page has the new password")
	}
}

func TestSearchBox(t *testing.T) {
	w := newWorld(t, Config{})
	message := mainapi.Message{MessageID: "m-1", ClientID: "acme/01", Status: "failed", CreatedAt: testNow}
	client := mainapi.ClientInfo{ClientID: "acme-01", Role: sealmq.RoleClient, Status: mainapi.ClientStatusActive, CreatedAt: testNow}
	found := func(f mainapi.Found) { w.on("POST /api/v1/search", http.StatusOK, f) }
	number := url.Values{"q": {"+49 1520 0000000"}}

	wantRedirect(t, w.browse(user, "/search", url.Values{"q": {"acme & co"}}), "/search?q=acme+%26+co")
	found(mainapi.Found{Messages: []mainapi.Message{message}})
	wantRedirect(t, w.browse(user, "/search", number), "/messages/acme%2F01/m-1")
	found(mainapi.Found{Clients: []mainapi.ClientInfo{client, client}, Exact: []mainapi.FoundKind{"clients"}})
	wantRedirect(t, w.browse(admin, "/search?q=acme-01", nil), "/admin/clients/acme-01")
	found(mainapi.Found{Messages: []mainapi.Message{message, message}, Exact: []mainapi.FoundKind{"messages", "messages"}, NumberToken: "to+ken"})
	wantRedirect(t, w.browse(admin, "/search", number), "/messages?number_token=to%2Bken")
	found(mainapi.Found{Messages: []mainapi.Message{message, message}, Clients: []mainapi.ClientInfo{client}, Queues: []string{"<q>"}, More: []mainapi.FoundKind{"clients"}})
	want(t, w.browse(admin, "/search?q=%3Cb%3E", nil), http.StatusOK, "Found for <bdi>&lt;b&gt;</bdi>", "/messages/acme%2F01/m-1", "All clients", "&lt;q&gt;", "/admin/queues/show?name=%3Cq%3E")
	rec := w.browse(admin, "/search", number)
	want(t, rec, http.StatusOK, "Found for the number that you typed")
	if strings.Contains(rec.Body.String(), "0000000") {
		t.Error("the page repeats the number")
	}
	found(mainapi.Found{})
	want(t, w.browse(admin, "/search?q=nothing", nil), http.StatusOK, "Nothing was found")
	want(t, w.browse(admin, "/search", nil), http.StatusOK, "Search for anything")
	want(t, w.browse(admin, "/search?q="+strings.Repeat("x", 257), nil), http.StatusUnprocessableEntity, "too long")
}

// TestCertificatePages compares the pages with the HTML that is known to be right.
func TestCertificatePages(t *testing.T) {
	revoked := certificateOf("acme-02", 200)
	revoked.Status, revoked.RevokedAt, revoked.RevocationReason, revoked.Fingerprint = mainapi.CertificateStatusRevoked, testNow, hostile, strings.Repeat("b", 64)
	one := certificateOf("acme-01", 6)
	one.Hosts, one.Replaces = []string{"a.example", "10.0.0.1"}, []string{revoked.Fingerprint}
	one.Chain = []mainapi.Issuer{{Subject: "CN=SealMQ root", Fingerprint: testFingerprint, ExpiresAt: testNow}}
	w := withCertificates(t, one, revoked)
	w.on("POST /api/v1/search", http.StatusOK, mainapi.Found{Certificates: []mainapi.Certificate{one, revoked}, Queues: []string{hostile}, More: []mainapi.FoundKind{"queues"}})
	var got bytes.Buffer
	for _, path := range []string{certificatesPath, certificatePath(one.Fingerprint), certificatePath(revoked.Fingerprint), certificatePath(one.Fingerprint) + "/revoke",
		"/search?q=acme", "/search?q="} {
		fmt.Fprintf(&got, "<!-- %s -->\n%s\n\n", path, w.browse(admin, path, nil, "HX-Request", "true").Body)
	}
	compare(t, "certificates.html", got.Bytes())
}
