package portal

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/api/mainapi"
)

const enrolments = "GET /api/v1/enrolment/tokens"

func TestEnrolmentPages(t *testing.T) {
	w := withCertificates(t)
	w.on(enrolments, http.StatusOK, mainapi.EnrolmentList{Items: []mainapi.Enrolment{}})
	want(t, w.browse(operator, "/admin/enrolment", nil), http.StatusOK, "No enrolment token", "sealmq cert token acme-01")
	want(t, w.browse(operator, "/admin/certificates", nil), http.StatusOK, `href="/admin/enrolment"`)
	open := mainapi.Enrolment{ID: "3f9a0c55d2e84b17", Kind: "token", ClientID: "acme-09", Role: sealmq.RoleClient, State: mainapi.EnrolmentStateOpen, CreatedBy: "anna@example.com", CreatedAt: testNow, ExpiresAt: testNow}
	var list []mainapi.Enrolment
	for s := range enrolmentStates {
		e := open
		e.State = s
		list = append(list, e)
	}
	list[0].Fingerprint = testFingerprint
	w.on(enrolments, http.StatusOK, mainapi.EnrolmentList{Items: list})
	rec := w.browse(admin, "/admin/enrolment", nil)
	want(t, rec, http.StatusOK, "Open", "Used", "Expired", "Taken back", "Too many failed attempts", "anna@example.com", certificatePath(testFingerprint), `action="/admin/enrolment/3f9a0c55d2e84b17/delete"`)
	if n := strings.Count(rec.Body.String(), "/delete"); n != 1 {
		t.Errorf("%d can be taken back", n)
	}
	if rec := w.browse(operator, "/admin/enrolment", nil); strings.Contains(rec.Body.String(), "/delete") || strings.Contains(rec.Body.String(), "/enrolment/new") {
		t.Error("an operator is offered what it may not do")
	}
	w.on("DELETE /api/v1/enrolment/tokens/"+open.ID, http.StatusNoContent, nil)
	wantRedirect(t, w.browse(admin, "/admin/enrolment/"+open.ID+"/delete", url.Values{}), "/admin/enrolment")
	want(t, w.browse(admin, "/admin/enrolment/0000000000000000/delete", url.Values{}), http.StatusNotFound, "There is nothing to take back")
	want(t, w.browse(operator, "/admin/enrolment/"+open.ID+"/delete", url.Values{}), http.StatusForbidden)
}

// TestTokenIsShownOnce: what a form asks for, and that the answer alone has the token.
func TestTokenIsShownOnce(t *testing.T) {
	w := withCertificates(t)
	want(t, w.browse(admin, "/admin/enrolment/new?client=acme-09", nil), http.StatusOK, `value="acme-09"`, "sealmq cert token acme-09", `<option value="3600" selected>`)
	want(t, w.browse(admin, "/admin/enrolment/new?client=%3Ci%3E", nil), http.StatusOK, "sealmq cert token acme-01")
	want(t, w.browse(operator, "/admin/enrolment/new", nil), http.StatusForbidden)
	form := url.Values{"client_id": {"proxy-9"}, "role": {"proxy"}, "expires_in": {"900"}, "validity_days": {"30"}, "server": {"https://mq.example.org:8000/"}, "sans": {"a.example, b.example"}, "replace": {"true"}}
	token := mainapi.EnrolmentToken{ID: "3f9a0c55d2e84b17", Token: "smqe_secret", ClientID: "proxy-9", Role: sealmq.RoleProxy, Server: "https://mq.example.org:8000", ExpiresAt: testNow}
	w.on("POST /api/v1/enrolment/tokens", http.StatusCreated, token)
	rec := w.browse(admin, "/admin/enrolment/new", form)
	want(t, rec, http.StatusOK, "<code>echo smqe_secret | sealmq cert enroll</code>", "shown only now", "https://mq.example.org:8000", "sealmq serve proxy")
	if rec.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("the token may be kept: %v", rec.Header())
	}
	for _, part := range []string{`"client_id":"proxy-9"`, `"expires_in":900`, `"lifetime":2592000`, `"role":"proxy"`, `"server":"https://mq.example.org:8000"`, `"sans":["a.example","b.example"]`, `"replace":true`} {
		if last := w.last(); !strings.Contains(last, part) {
			t.Errorf("asked %s, without %s", last, part)
		}
	}
	token.Role, token.ClientID = sealmq.RoleClient, "acme-09"
	w.on("POST /api/v1/enrolment/tokens", http.StatusCreated, token)
	want(t, w.browse(admin, "/admin/enrolment/new", form), http.StatusOK, "sealmq cert renew acme-09 --watch")
	w.refuse("POST /api/v1/enrolment/tokens", http.StatusForbidden, "confirmation_required", "")
	want(t, w.browse(admin, "/admin/enrolment/new", form), http.StatusOK, "Confirm that it is you", `<input type="hidden" name="client_id" value="proxy-9">`)
	w.refuse("POST /api/v1/enrolment/tokens", http.StatusConflict, "conflict", "The client has an active certificate")
	want(t, w.browse(admin, "/admin/enrolment/new", form), http.StatusUnprocessableEntity, "The client has an active certificate", `value="30"`)
	form.Set("validity_days", "x")
	want(t, w.browse(admin, "/admin/enrolment/new", form), http.StatusUnprocessableEntity, "Give a number of days")
}

// TestConsentToRenewal: an expired certificate has a button, on its page and on its client's.
func TestConsentToRenewal(t *testing.T) {
	c := certificateOf("acme-01", -3)
	c.Status, c.Role = mainapi.CertificateStatusExpired, sealmq.RoleProxy
	w := withCertificates(t, c)
	w.on("GET /api/v1/clients/acme-01", http.StatusOK, mainapi.ClientInfo{ClientID: "acme-01", Status: mainapi.ClientStatusExpired, Fingerprint: testFingerprint})
	path := certificatePath(testFingerprint) + "/consent"
	for _, page := range []string{certificatePath(testFingerprint), "/admin/clients/acme-01"} {
		want(t, w.browse(admin, page, nil), http.StatusOK, `<form method="post" action="`+path+`">`)
		if rec := w.browse(operator, page, nil); strings.Contains(rec.Body.String(), path) {
			t.Errorf("%s: an operator is offered what it may not do", page)
		}
	}
	want(t, w.browse(admin, certificatePath(testFingerprint), nil), http.StatusOK, "sealmq cert allow-renewal acme-01")
	api := "POST /api/v1/certificates/" + testFingerprint + "/renewal-consent"
	w.refuse(api, http.StatusForbidden, "confirmation_required", "")
	want(t, w.browse(admin, path, url.Values{}), http.StatusOK, "Confirm that it is you", `action="`+path+`"`)
	w.on(api, http.StatusCreated, mainapi.Enrolment{ID: "3f9a0c55d2e84b17", ExpiresAt: testNow})
	wantRedirect(t, w.browse(admin, path, url.Values{}), certificatePath(testFingerprint))
	w.refuse(api, http.StatusConflict, "conflict", "A revoked certificate is not renewed")
	rec := w.browse(admin, path, url.Values{}, "Referer", "https://portal.example"+certificatePath(testFingerprint))
	wantRedirect(t, rec, certificatePath(testFingerprint)) // with what the main server says
}
