package browser

import (
	"archive/zip"
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	cdpbrowser "github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
)

// downloads lets a tab save files, and returns the folder.
func (b *tab) downloads() string {
	b.t.Helper()
	folder := b.t.TempDir()
	var id cdp.BrowserContextID
	if c := chromedp.FromContext(b.ctx); c != nil {
		id = c.BrowserContextID
	}
	_, err := chromedp.Call(b.ctx, cdpbrowser.SetDownloadBehavior, cdpbrowser.SetDownloadBehaviorParams{
		Behavior: cdpbrowser.SetDownloadBehaviorBehaviorAllow, BrowserContextID: id, DownloadPath: folder})
	if err != nil {
		b.t.Fatal(err)
	}
	return folder
}

// unpacked waits for a download and unpacks it beside itself.
func (b *tab) unpacked(file string) string {
	b.t.Helper()
	for _, f := range b.saved(file).File {
		b.save(filepath.Join(filepath.Dir(file), f.Name), f)
	}
	return filepath.Dir(file)
}

// saved waits for a zip that the browser saves.
func (b *tab) saved(file string) *zip.Reader {
	b.t.Helper()
	for deadline := time.Now().Add(stepTimeout); ; {
		if data, err := os.ReadFile(file); err == nil {
			if z, err := zip.NewReader(bytes.NewReader(data), int64(len(data))); err == nil {
				return z
			}
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("%s was not saved\n%s", file, b.text())
		}
		b.do(chromedp.Sleep(50 * time.Millisecond))
	}
}

func (b *tab) save(name string, f *zip.File) {
	b.t.Helper()
	r, err := f.Open()
	if err != nil {
		b.t.Fatal(err)
	}
	content, err := io.ReadAll(r)
	if err == nil {
		err = os.WriteFile(name, content, f.Mode().Perm())
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// submit runs the command that the README of a download has, against the real proxy.
func (s *site) submit(folder string) (string, error) {
	s.t.Helper()
	text, err := os.ReadFile(filepath.Join(folder, "README.txt"))
	if err != nil {
		s.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		if len(words) == 0 || words[0] != "sealmq" {
			continue
		}
		for i, w := range words {
			if strings.HasPrefix(w, "https://") {
				words[i] = "https://" + s.ProxyAddr
			}
		}
		cmd := exec.Command(s.exe, words[1:]...)
		cmd.Dir = folder
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	s.t.Fatalf("the README has no command:\n%s", text)
	return "", nil
}

// TestCertificateLife: issue, download, use, revoke, and then it is refused.
func TestCertificateLife(t *testing.T) {
	s := start(t)
	b := s.administrator(t)
	folder := b.downloads()
	b.open("/admin/certificates")
	b.follow(`main a[href$="/admin/certificates/new"]`)
	b.fill("client_id", "laptop-7", "domain", "shop")
	b.click("main form.form button[type=submit]")
	b.unpacked(filepath.Join(folder, "laptop-7.zip"))
	b.see("Issued. The key was in the download", "laptop-7", "Active", "by anna@example.com")
	if out, err := s.submit(folder); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if page := evaluate[string](b, "document.documentElement.outerHTML"); strings.Contains(page, "PRIVATE KEY") {
		t.Error("the page has a key")
	}

	b.click(`main a[href$="/revoke"]`)
	b.see("Cuts off")
	b.until(`document.querySelector("dialog button[type=submit]").disabled`) // the name is not typed yet
	b.fill("name", "laptop-7")
	b.follow("dialog button[type=submit]")
	b.see("The certificate of laptop-7 is revoked.", "lost or stolen")
	if out, err := s.submit(folder); err == nil || !strings.Contains(out, "revoked") {
		t.Errorf("after the revocation: %v\n%s", err, out)
	}
	b.open("/admin/certificates?status=revoked")
	b.see("laptop-7", "1 found")
	b.open("/admin/dashboard")
	b.see("Last refused", "laptop-7", "Client certificate has been revoked")
}

// TestKeyIsGivenOnce without scripts: a second press of the same form shows nothing.
func TestKeyIsGivenOnce(t *testing.T) {
	s := start(t)
	b := s.administrator(t)
	folder := b.downloads()
	b.withoutScripts()
	b.open("/admin/certificates/new?client=laptop-8")
	b.click("main form.form button[type=submit]")
	b.unpacked(filepath.Join(folder, "laptop-8.zip"))
	b.follow("main form.form button[type=submit]")
	if title := b.title(); !strings.Contains(title, "This was given once") {
		t.Errorf("after the second press: %s", title)
	}
	if files, err := filepath.Glob(filepath.Join(folder, "*.zip")); err != nil || len(files) != 1 {
		t.Errorf("%v, error %v", files, err)
	}
}

// title is that of the page, which is there without scripts.
func (b *tab) title() string {
	b.t.Helper()
	title, err := chromedp.Run(b.ctx, chromedp.Title())
	if err != nil {
		b.t.Fatal(err)
	}
	return title
}

// TestGuardedAct: a role other than client wants the password, and what was filled in is kept.
func TestGuardedAct(t *testing.T) {
	s := start(t)
	b := s.administrator(t)
	folder := b.downloads()
	b.open("/admin/certificates/new?client=proxy-7")
	b.click("main details summary")
	b.do(chromedp.SetValue(chromedp.CSS("main select[name=role]"), "proxy"))
	b.fill("sans", "proxy-7.example")
	b.send()
	b.see("Confirm that it is you")
	b.send("confirm_password", "wrong")
	b.see("The password is wrong.")
	b.fill("confirm_password", adminPassword)
	b.click("main form.form button[type=submit]")
	b.unpacked(filepath.Join(folder, "proxy-7.zip"))
	b.see("Issued.", "proxy")
	b.click("main details summary")
	b.see("proxy-7.example")
}

// TestSearchLeadsToTheThing: to one thing at once, and a number stands in no address.
func TestSearchLeadsToTheThing(t *testing.T) {
	s := start(t)
	b := s.administrator(t)
	s.run("cert", "issue", "acme-77")
	b.open("/admin/certificates?client=acme-77")
	serial := evaluate[string](b, `document.querySelector("main tbody td.mono").textContent`)
	b.find(strings.ToUpper(serial))
	b.see("acme-77", "Fingerprint")
	b.find("+4915200000077")
	b.see("Nothing was found")
	b.at("/search")
	b.find("<b>مرحبا</b>")
	b.see("Nothing was found")
	b.fits()
}

// find types into the search box.
func (b *tab) find(q string) {
	b.t.Helper()
	field := chromedp.CSS("#search")
	b.do(chromedp.Clear(field))
	ctx, cancel := context.WithTimeout(b.ctx, stepTimeout)
	defer cancel()
	if _, err := chromedp.Run(ctx, chromedp.WaitEvent(page.LoadEventFired, nil, chromedp.SendKeys(field, q+"\r"))); err != nil {
		b.t.Fatalf("%v\n%s", err, b.text())
	}
}
