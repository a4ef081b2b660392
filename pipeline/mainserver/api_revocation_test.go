package mainserver_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/api/mainapi"
	"github.com/sealmq/sealmq/internal/httpkit"
	"github.com/sealmq/sealmq/mtls"
	"github.com/sealmq/sealmq/pipeline/mainserver"
)

// newWatchedServer is a server whose own connections can be seen.
func newWatchedServer(t *testing.T) *server {
	t.Helper()
	return newServer(t, func(s *server, c *mainserver.HandlerConfig) {
		c.Live = func(context.Context, string) (list []mainserver.LiveConnection, complete bool) {
			router, _ := s.handler.(*httpkit.Router)
			router.EachPeer(func(leaf *x509.Certificate, id sealmq.Identity) {
				list = append(list, mainserver.LiveConnection{Component: "main", Client: id.ID, Issuer: id.Issuer, Serial: mtls.Serial(leaf)})
			})
			return list, true
		}
	})
}

func decode[T any](s *server, a answer) (v T) {
	s.Helper()
	s.must(json.Unmarshal([]byte(a.body), &v))
	return v
}

// connect opens a connection with a certificate that was issued, and keeps it.
func (s *server) connect(issued answer) {
	s.Helper()
	cert, err := tls.X509KeyPair([]byte(issued.str("certificate")), []byte(issued.str("private_key")))
	s.must(err)
	c := s.with(&cert)
	if a := s.ask(c, "GET", "/api/v1/revocations", ""); a.StatusCode != http.StatusForbidden {
		s.Fatalf("%d %s", a.StatusCode, a.body)
	}
}

// TestPreviewCountsWhatIsCutOff compares a preview with connections that are open, and then with
// what the revocation does.
func TestPreviewCountsWhatIsCutOff(t *testing.T) {
	s := newWatchedServer(t)
	first := s.want(201, "POST", "/api/v1/certificates", `{"client_id":"proxy-7","role":"proxy"}`)
	second := s.want(201, "POST", "/api/v1/certificates", `{"client_id":"proxy-7","role":"proxy","replace":true}`)
	other := s.want(201, "POST", "/api/v1/certificates", `{"client_id":"acme-01"}`)
	for range 2 {
		s.connect(first)
	}
	s.connect(second)
	s.connect(other)
	preview := func(path string) mainapi.RevocationPreview {
		t.Helper()
		return decode[mainapi.RevocationPreview](s, s.want(200, "GET", path+"/revoke/preview", ""))
	}
	certificate := "/api/v1/certificates/" + first.str("fingerprint")
	one, all := preview(certificate), preview("/api/v1/clients/proxy-7")
	if one.Connections != 2 || one.Certificates != 1 || one.Remaining != 1 || !one.Complete || one.Own ||
		!slices.Equal(one.Listeners, []mainapi.RevocationPreviewListener{{Component: "main", Connections: 2}}) ||
		!slices.Equal(one.Roles, []mainapi.RevocationPreviewRole{{Role: sealmq.RoleProxy, Certificates: 1, Connected: 1}}) {
		t.Errorf("one certificate: %+v", one)
	}
	if all.Connections != 3 || all.Certificates != 2 || all.Remaining != 0 || !slices.Equal(all.Roles, []mainapi.RevocationPreviewRole{{Role: sealmq.RoleProxy, Certificates: 2, Connected: 2}}) {
		t.Errorf("all certificates: %+v", all)
	}
	if server := preview("/api/v1/clients/server"); !server.Own {
		t.Errorf("the server's own: %+v", server)
	}
	s.want(200, "POST", certificate+"/revoke", `{}`)
	router, _ := s.handler.(*httpkit.Router)
	router.Recheck() // as a node does after a change
	deadline := time.Now().Add(20 * time.Second)
	for one = preview(certificate); one.Connections != 0; one = preview(certificate) {
		if time.Now().After(deadline) {
			t.Fatalf("%d connections are left", one.Connections)
		}
	}
	if one.Certificates != 0 || one.Remaining != 1 {
		t.Errorf("after it: %+v", one)
	}
	if all = preview("/api/v1/clients/proxy-7"); all.Connections != 1 {
		t.Errorf("after it: %+v", all)
	}
}

// TestStateOfRevocations shows who follows, and how far behind. Who follows may have
// connections that a preview cannot count.
func TestStateOfRevocations(t *testing.T) {
	s := newWatchedServer(t)
	c := s.want(201, "POST", "/api/v1/certificates", `{"client_id":"acme-01"}`)
	path := "/api/v1/certificates/" + c.str("fingerprint")
	state := func() mainapi.RevocationState {
		t.Helper()
		return decode[mainapi.RevocationState](s, s.want(200, "GET", "/api/v1/revocations", ""))
	}
	before := state()
	if len(before.Followers) != 0 || len(before.Problems) != 0 || before.Crl.Stale || before.Crl.Entries != 0 {
		t.Errorf("before: %+v", before)
	}
	follow := func(since int64) {
		t.Helper()
		if a := s.ask(s.as(sealmq.RoleProxy), "GET", "/api/v1/internal/revocations?since="+toJSON(since), ""); a.StatusCode != 200 {
			t.Fatal(a.body)
		}
	}
	follow(before.Version)
	s.want(200, "POST", path+"/revoke", `{"reason":"lost"}`)
	after := state()
	if after.Version != before.Version+1 || after.Entries != 1 || after.Crl.Entries != 1 || len(after.Followers) != 1 {
		t.Fatalf("after: %+v", after)
	}
	if f := after.Followers[0]; f.ClientID != "proxy-test" || f.Role != sealmq.RoleProxy || f.Behind != 1 || f.Status != mainapi.RevocationFollowerStatusBehind {
		t.Errorf("behind: %+v", f)
	}
	follow(after.Version)
	if f := state().Followers[0]; f.Behind != 0 || f.Status != mainapi.RevocationFollowerStatusCurrent {
		t.Errorf("current: %+v", f)
	}
	if p := decode[mainapi.RevocationPreview](s, s.want(200, "GET", path+"/revoke/preview", "")); p.Complete {
		t.Errorf("there is a proxy elsewhere: %+v", p)
	}
}

func TestCertificatesAreFiltered(t *testing.T) {
	s := newServer(t, nil)
	soon := s.want(201, "POST", "/api/v1/certificates", `{"client_id":"acme-01","validity_days":3}`)
	s.want(201, "POST", "/api/v1/certificates", `{"client_id":"acme-02","domain":"shop","validity_days":30}`)
	s.want(201, "POST", "/api/v1/certificates", `{"client_id":"worker-7","role":"worker","validity_days":3000}`)
	serial := soon.str("serial")
	colons := strings.ToUpper(serial[:2] + ":" + serial[2:4] + ":" + serial[4:])
	at := func(days int) string { return url.QueryEscape(time.Now().AddDate(0, 0, days).Format(time.RFC3339)) }
	for query, want := range map[string]string{
		"serial=" + serial:                                     "acme-01",
		"serial=" + serial[:8]:                                 "acme-01",
		"serial=" + url.QueryEscape(colons):                    "acme-01",
		"serial=" + serial + "00":                              "",
		"expires_before=" + at(4):                              "acme-01",
		"expires_before=" + at(31):                             "acme-01 acme-02",
		"expires_after=" + at(2000):                            "worker-7",
		"expires_after=" + at(4) + "&expires_before=" + at(31): "acme-02",
		"role=worker&status=active":                            "worker-7 worker-test",
		"domain=shop&status=revoked":                           "",
	} {
		s.as(sealmq.RoleWorker)
		var names []string
		page := s.want(200, "GET", "/api/v1/certificates?"+query, "")
		for _, c := range page.items() {
			name, _ := c["client_id"].(string)
			if !strings.HasPrefix(name, "server") && !strings.HasPrefix(name, "admin") {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%s: %q, want %q", query, got, want)
		}
	}
	s.want(422, "GET", "/api/v1/certificates?serial=xyz", "")
	s.want(422, "GET", "/api/v1/certificates?expires_before=tomorrow", "")
}

// TestOneCertificate shows who asked for it, who signed it, and its renewals.
func TestOneCertificate(t *testing.T) {
	s := newServer(t, nil)
	first := s.want(201, "POST", "/api/v1/certificates", `{"client_id":"worker-7","role":"worker","sans":["w7.example"]}`)
	path := "/api/v1/certificates/" + first.str("fingerprint")
	second := s.want(201, "POST", path+"/renew", `{}`)
	old := decode[mainapi.Certificate](s, s.want(200, "GET", path, ""))
	renewed := decode[mainapi.Certificate](s, s.want(200, "GET", "/api/v1/certificates/"+second.str("fingerprint"), ""))
	if old.IssuedBy != "admin-test" || old.Source != "api" || !slices.Contains(old.Hosts, "w7.example") || old.ReplacedBy != renewed.Fingerprint || len(old.Replaces) != 0 {
		t.Errorf("%+v", old)
	}
	if renewed.ReplacedBy != "" || !slices.Equal(renewed.Replaces, []string{old.Fingerprint}) {
		t.Errorf("%+v", renewed)
	}
	if n := len(old.Chain); n != 2 || old.Chain[1].Fingerprint != mtls.Fingerprint(s.authority.Root()) || old.Chain[0].Fingerprint != mtls.Fingerprint(s.authority.Intermediate()) {
		t.Errorf("%+v", old.Chain)
	}
}
