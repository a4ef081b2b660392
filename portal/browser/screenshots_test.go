package browser

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/api/mainapi"
	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/internal/testing/mariadb"
	"github.com/sealmq/sealmq/portal"
)

// looks are the ways in which every page is looked at.
var looks = []struct {
	name          string
	width, height int64
	colours       string
}{{"light", 1280, 800, "light"}, {"dark", 1280, 800, "dark"}, {"phone", 360, 740, "light"}}

// examples are addresses for pages whose paths have names in braces. A page without one is
// left out.
func (s *site) examples() map[string]string {
	s.t.Helper()
	list, err := s.API.ListCertificatesWithResponse(s.t.Context(), &mainapi.ListCertificatesParams{ClientID: ca.AdminName, Role: sealmq.RoleAdmin, Status: mainapi.CertificateStatusActive, Limit: 1})
	if err != nil || list.JSON200 == nil || len(list.JSON200.Items) == 0 {
		s.t.Fatalf("no certificate: %v", err)
	}
	certificate := "/admin/certificates/" + list.JSON200.Items[0].Fingerprint
	return map[string]string{
		"/admin/certificates/{fingerprint}":        certificate,
		"/admin/certificates/{fingerprint}/renew":  certificate + "/renew",
		"/admin/certificates/{fingerprint}/revoke": certificate + "/revoke",
	}
}

// TestEveryPage opens every page as an administrator, in each look: none is wider than its
// window, logs an error or asks another host. With SCREENSHOTS it writes pictures.
func TestEveryPage(t *testing.T) {
	s := start(t)
	b := newTab(t, s)
	folder := os.Getenv("SCREENSHOTS")
	p, err := portal.New(portal.Config{API: nowhere{}})
	if err != nil {
		t.Fatal(err)
	}
	open, others := p.Paths()
	examples := s.examples()
	visit := func(paths []string) {
		for _, path := range paths {
			address := path
			if strings.Contains(path, "{") {
				if address = examples[path]; address == "" {
					continue
				}
			}
			b.look(folder, path, address)
		}
	}
	visit(open)
	b.look(folder, "/nothing", "/nothing")
	s.setUp()
	b.logIn(adminEmail, adminPassword)
	visit(others)
	b.look(folder, "/missing", "/missing")
}

// look opens a page in each look.
func (b *tab) look(folder, name, address string) {
	b.t.Helper()
	for _, l := range looks {
		b.size(l.width, l.height)
		b.colours(l.colours)
		b.open(address)
		b.fits()
		b.accessible()
		if folder != "" {
			file := strings.Trim(strings.NewReplacer("/", "-", "{", "", "}", "").Replace(name), "-")
			b.shot(filepath.Join(folder, file+"."+l.name+".png"))
		}
	}
}

// axeScript is axe-core, which CI fetches and AXE names.
var axeScript = sync.OnceValues(func() (string, error) {
	text, err := os.ReadFile(os.Getenv("AXE"))
	return string(text), err
})

// accessible fails if axe-core finds something serious on the page.
func (b *tab) accessible() {
	b.t.Helper()
	if os.Getenv("AXE") == "" {
		if os.Getenv(mariadb.RequireEnv) == "1" {
			b.t.Fatal("AXE names no axe.min.js; .ci/axe FOLDER fetches it")
		}
		return
	}
	script, err := axeScript()
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(b.ctx, stepTimeout)
	defer cancel()
	found, err := chromedp.Run(ctx, chromedp.Evaluate[string](script+`;
		axe.run(document, {resultTypes: ["violations"]}).then((r) => r.violations.filter((v) => v.impact === "serious" || v.impact === "critical")
			.map((v) => v.id + ": " + v.help + "\n" + v.nodes.map((n) => "  " + n.html + "\n  " + n.failureSummary).join("\n")).join("\n"))`, chromedp.EvalAwaitPromise))
	if err != nil {
		b.t.Fatalf("axe: %v", err)
	}
	if found != "" {
		b.t.Errorf("%s: axe found\n%s", evaluate[string](b, "location.pathname"), found)
	}
}

// nowhere is no main server.
type nowhere struct{}

func (nowhere) RoundTrip(*http.Request) (*http.Response, error) { return nil, errors.New("nowhere") }
