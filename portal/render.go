package portal

import (
	"bytes"
	"compress/gzip"
	"embed"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"regexp"

	"github.com/sealmq/sealmq/internal/httpkit"
)

//go:embed templates
var templateFiles embed.FS

// parseTemplates reads all templates into one set: each has a name of its own.
func (p *Portal) parseTemplates() (*template.Template, error) {
	t := template.New("").Funcs(p.functions())
	err := fs.WalkDir(templateFiles, "templates", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := templateFiles.ReadFile(path)
		if err == nil {
			_, err = t.Parse(string(data))
		}
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		return nil
	})
	return t, err
}

// frameView is what surrounds a page.
type frameView struct {
	Title   string
	Crumb   *link
	Theme   string
	Content template.HTML
	Toast   toast
	// Reload asks for the page again after so many seconds, at the address ReloadPath.
	Reload     int
	ReloadPath string

	// The rest is there if somebody is logged in.
	Email, Role string
	Nav         navigation
	Health      healthView
	Query       string // what was searched for
	SearchFor   string // what can be searched for
	Version     string
}

// render answers with a page: the template shows the view within the frame.
func (v *visit) render(name string, view any) error {
	return v.renderStatus(http.StatusOK, name, view)
}

func (v *visit) renderStatus(status int, name string, view any) error {
	var b bytes.Buffer
	if err := v.portal.templates.ExecuteTemplate(&b, name, view); err != nil {
		return err
	}
	if !v.partial() {
		f := frameView{Title: v.title, Crumb: v.crumb, Theme: v.theme(), Toast: v.takeFlash(), Version: v.portal.cfg.Version,
			Content: template.HTML(b.String())} //nolint:gosec // a template has made it
		if p, ok := view.(problemView); ok && p.Retry {
			f.Reload, f.ReloadPath = reloadAfter, v.again()
		}
		frame := "plain"
		if v.account != nil && !v.account.MustChangePassword {
			frame = "frame"
			f.Email, f.Role = string(v.account.Email), roleName(v.role())
			f.Nav = v.portal.navigation(v.role(), v.page)
			f.Health = v.portal.health.view(v)
			if f.SearchFor = "Number or id"; v.may(staff) {
				f.SearchFor = "Number, id, client, queue, serial"
			}
			if v.page.path == "/search" {
				f.Query = v.r.URL.Query().Get("q")
			}
		}
		b.Reset()
		if err := v.portal.templates.ExecuteTemplate(&b, frame, f); err != nil {
			return err
		}
	}
	content := b.Bytes()
	if v.account != nil {
		content = forAccount(content, v.account.ID)
	}
	v.write(status, content)
	return nil
}

// accountField is the field of a form that says for whose eyes its page was made. In another tab
// somebody else may have logged in since then.
const accountField = "for_account"

// postForm begins a form that is posted. Only templates begin one: what people typed stands
// escaped in a page.
var postForm = regexp.MustCompile(`<form [^>]*method="post"[^>]*>`)

// forAccount puts accountField into each form of a page.
func forAccount(page []byte, id int64) []byte {
	return postForm.ReplaceAll(page, fmt.Appendf(nil, `$0<input type="hidden" name="%s" value="%d">`, accountField, id))
}

// again is the address that shows this page once more.
func (v *visit) again() string {
	if v.r.Method == http.MethodGet {
		return v.portal.url(v.portal.local(v.r.URL.RequestURI()))
	}
	return v.portal.url(v.back())
}

// minCompressed is the size from which compressing a page is worth its time.
const minCompressed = 1024

func (v *visit) write(status int, page []byte) {
	h := v.w.Header()
	h.Set("Vary", "Accept-Encoding, HX-Request")
	if len(page) >= minCompressed && acceptsGzip(v.r) {
		h.Set("Content-Encoding", "gzip")
		page = compressed(page, gzip.BestSpeed)
	}
	httpkit.WriteBytes(v.w, "text/html; charset=utf-8", status, page)
}

// functions are what templates can call.
func (p *Portal) functions() template.FuncMap {
	return template.FuncMap{
		"url":    p.url,
		"asset":  func(name string) string { return p.url("/static", p.assets.version, name) },
		"icon":   iconOf,
		"ago":    p.ago,
		"clock":  clockTime,
		"iso":    isoTime,
		"utc":    utcTime,
		"number": number,
		"bytes":  byteSize,
		"took":   took,
		"plural": plural,
		"reason": reasonText,
	}
}
