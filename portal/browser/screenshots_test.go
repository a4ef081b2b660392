package browser

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/sealmq/sealmq/internal/testing/server"
	"github.com/sealmq/sealmq/internal/testing/smtpserver"
	"github.com/sealmq/sealmq/portal"
)

// A look is a way in which pages are looked at, and what axe-core looks for: one rule, or all.
type look struct {
	name          string
	width, height int64
	colours       string
	rule          string
}

var (
	light = look{"light", 1280, 800, "light", ""}
	dark  = look{"dark", 1280, 800, "dark", "color-contrast"} // the rest is as in light
	phone = look{"phone", 360, 740, "light", ""}
	looks = []look{light, dark, phone}
)

// notPages are rows of the portal's table that are no pages to look at.
var notPages = []string{
	"/setup",                                               // which is there before the first account only
	"/admin/authority/{file}", "/admin/backups/{filename}", // files to save
}

// TestEveryPage opens every page of a site with data as an administrator, in each look: none is
// wider than its window, logs an error, asks another host or has something else to show than
// it should. With SCREENSHOTS it writes pictures.
func TestEveryPage(t *testing.T) {
	mails := smtpserver.Start(t, nil)
	s := start(t, withMail(mails)...)
	b := newTab(t, s)
	folder := os.Getenv("SCREENSHOTS")
	b.look(folder, "/setup", s.setupPage(), looks...) // which is good while there is no administrator
	s.setUp()
	examples := s.furnish()
	examples["/reset-password"] = s.resetPage(mails, userEmail)
	visit := func(paths, addresses []string) {
		for i, path := range paths {
			b.look(folder, path, addresses[i], looks...)
			if status := evaluate[int](b, `performance.getEntriesByType("navigation")[0].responseStatus`); status != http.StatusOK {
				t.Errorf("%s has the status %d\n%s", addresses[i], status, b.text())
			}
		}
	}
	open, others := pages(t)
	visit(open, addresses(t, open, examples))
	b.look(folder, "/nothing", "/nothing", looks...)
	b.logIn(adminEmail, adminPassword)
	visit(others, addresses(t, others, examples))
	b.look(folder, "/missing", "/missing", looks...)

	user := newTab(t, s)
	user.logIn(userEmail, userPassword)
	for _, path := range []string{"/dashboard", "/messages", examples["/messages/{client}/{id}"], "/admin/users"} {
		user.look(folder, "user"+strings.ReplaceAll(path, "/messages/acme-01", "/message"), path, looks...)
	}
}

// pages are the paths of the portal's pages, of those for everybody and of the others.
func pages(t *testing.T) (open, others []string) {
	t.Helper()
	p, err := portal.New(portal.Config{API: nowhere{}})
	if err != nil {
		t.Fatal(err)
	}
	open, others = p.Paths()
	notPage := func(path string) bool { return slices.Contains(notPages, path) }
	return slices.DeleteFunc(open, notPage), slices.DeleteFunc(others, notPage)
}

// addresses are pages of a site that furnish has filled.
func addresses(t *testing.T, pages []string, examples map[string]string) (list []string) {
	t.Helper()
	for _, path := range pages {
		address := cmp.Or(examples[path], path)
		if strings.Contains(address, "{") {
			t.Errorf("furnish returns no example for the page %s", path)
			address = "/"
		}
		list = append(list, address)
	}
	return list
}

// look opens a page and looks at it in each look.
func (b *tab) look(folder, name, address string, looks ...look) {
	b.t.Helper()
	for i, l := range looks {
		b.size(l.width, l.height)
		b.colours(l.colours)
		if i == 0 {
			b.open(address)
		}
		b.fits()
		b.accessible(l.rule)
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

// accessible fails if axe-core finds something serious on the page with the rule, or with all.
func (b *tab) accessible(rule string) {
	b.t.Helper()
	if os.Getenv("AXE") == "" {
		if server.Required() {
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
	options := `{resultTypes: ["violations"]}`
	if rule != "" {
		options = fmt.Sprintf(`{resultTypes: ["violations"], runOnly: [%q]}`, rule)
	}
	if evaluate[bool](b, "!window.axe") {
		evaluate[bool](b, script+"; true")
	}
	found, err := chromedp.Run(ctx, chromedp.Evaluate[string](`
		axe.run(document, `+options+`).then((r) => r.violations.filter((v) => v.impact === "serious" || v.impact === "critical")
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
