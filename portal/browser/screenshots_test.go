package browser

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/sealmq/sealmq/internal/testing/mariadb"
	"github.com/sealmq/sealmq/portal"
)

// looks are the ways in which every page is looked at.
var looks = []struct {
	name          string
	width, height int64
	colours       string
}{{"light", 1280, 800, "light"}, {"dark", 1280, 800, "dark"}, {"phone", 360, 740, "light"}}

// notPages are rows of the portal's table that are no pages to look at.
var notPages = []string{"/admin/authority/{file}"} // a file to save

// TestEveryPage opens every page of a site with data as an administrator, in each look: none is
// wider than its window, logs an error, asks another host or has something else to show than
// it should. With SCREENSHOTS it writes pictures.
func TestEveryPage(t *testing.T) {
	s := start(t)
	b := newTab(t, s)
	folder := os.Getenv("SCREENSHOTS")
	p, err := portal.New(portal.Config{API: nowhere{}})
	if err != nil {
		t.Fatal(err)
	}
	s.setUp()
	examples := s.furnish()
	visit := func(paths []string) {
		for _, path := range paths {
			address := cmp.Or(examples[path], path)
			if slices.Contains(notPages, path) {
				continue
			}
			if strings.Contains(address, "{") {
				t.Errorf("furnish returns no example for the page %s", path)
				continue
			}
			b.look(folder, path, address)
			if status := evaluate[int](b, `performance.getEntriesByType("navigation")[0].responseStatus`); status != http.StatusOK {
				t.Errorf("%s has the status %d\n%s", address, status, b.text())
			}
		}
	}
	open, others := p.Paths()
	visit(open)
	b.look(folder, "/nothing", "/nothing")
	b.logIn(adminEmail, adminPassword)
	visit(others)
	b.look(folder, "/missing", "/missing")

	user := newTab(t, s)
	user.logIn(userEmail, userPassword)
	for _, path := range []string{"/dashboard", "/messages", examples["/messages/{client}/{id}"], "/admin/users"} {
		user.look(folder, "user"+strings.ReplaceAll(path, "/messages/acme-01", "/message"), path)
	}
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
