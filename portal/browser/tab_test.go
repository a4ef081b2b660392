package browser

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/sealmq/sealmq/internal/testing/server"
)

// chromium is the one browser of all tests. Each tab has its own cookies.
var chromium struct {
	once sync.Once
	ctx  context.Context
	end  func()
	err  error
}

var errNoBrowser = errors.New("chromium is not installed")

func startChromium() {
	path := ""
	for _, name := range []string{"chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"} {
		if p, err := exec.LookPath(name); err == nil {
			path = p
			break
		}
	}
	if path == "" {
		chromium.err = errNoBrowser
		return
	}
	options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]), chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.WSURLReadTimeout(3*time.Minute),
		// The authority of a test is nobody's; certificates have tests of their own.
		chromedp.Flag("ignore-certificate-errors", true), chromedp.Flag("lang", "en-GB"), chromedp.Flag("hide-scrollbars", true))
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, end := chromedp.NewContext(allocator)
	chromium.ctx, chromium.end = ctx, func() { end(); stop() }
	chromium.err = chromedp.Do(ctx)
}

// stepTimeout bounds what one step in a tab may take.
const stepTimeout = time.Minute

// A tab is a browser window with cookies of its own. A test fails if one of its pages logs an
// error, breaks the content security policy or asks another host.
type tab struct {
	t    *testing.T
	site *site
	ctx  context.Context

	mu       sync.Mutex
	problems []string
}

// needChromium starts Chromium, or skips the test if there is none.
func needChromium(t *testing.T) {
	t.Helper()
	chromium.once.Do(startChromium)
	if errors.Is(chromium.err, errNoBrowser) && !server.Required() {
		t.Skipf("%v; with %s=1 this is a failure", chromium.err, server.RequireEnv)
	}
	if chromium.err != nil {
		t.Fatal(chromium.err)
	}
}

// newTab opens a tab.
func newTab(t *testing.T, s *site) *tab {
	t.Helper()
	b := &tab{t: t, site: s}
	ctx, cancel := chromedp.NewContext(chromium.ctx, chromedp.WithNewBrowserContext())
	t.Cleanup(cancel)
	b.ctx = ctx
	host := ""
	if u, err := url.Parse(s.URL); err == nil {
		host = u.Host
	}
	if err := chromedp.Listen(ctx, func(event any) { b.watch(host, event) }); err != nil {
		t.Fatal(err)
	}
	b.size(1280, 800)
	t.Cleanup(func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, p := range b.problems {
			t.Error(p)
		}
		if t.Failed() {
			b.keepFailure()
		}
	})
	return b
}

// watch takes down what no page may do.
func (b *tab) watch(host string, event any) {
	problem := ""
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		problem = "a script failed: " + e.ExceptionDetails.Text
		if e.ExceptionDetails.Exception != nil {
			problem += " " + e.ExceptionDetails.Exception.Description
		}
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError || e.Type == runtime.ConsoleAPICalledTypeWarning {
			problem = fmt.Sprintf("a script logged: %s", e.Args[0].Value)
		}
	case *log.EventEntryAdded:
		// Statuses such as 404 are logged as errors of the network: tests look at them by themselves.
		if e.Entry.Source != log.EntrySourceNetwork && e.Entry.Level != log.EntryLevelVerbose && e.Entry.Level != log.EntryLevelInfo {
			problem = fmt.Sprintf("the browser logged: %s (%s)", e.Entry.Text, e.Entry.URL)
		}
	case *network.EventRequestWillBeSent:
		if u, err := url.Parse(e.Request.URL); err == nil && u.Host != host && u.Scheme != "data" && u.Scheme != "chrome" && u.Scheme != "about" {
			problem = "a page asked another host: " + e.Request.URL
		}
	}
	if problem != "" {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.problems = append(b.problems, problem)
	}
}

// do runs steps and fails the test if one does not succeed.
func (b *tab) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, stepTimeout)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		b.t.Fatalf("%v\n%s", err, b.text())
	}
}

// evaluate runs a script.
func evaluate[T any](b *tab, script string) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, stepTimeout)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](script))
	if err != nil {
		b.t.Fatalf("%s: %v", script, err)
	}
	return v
}

// open goes to a path of the portal.
func (b *tab) open(path string) {
	b.t.Helper()
	address := path
	if !strings.Contains(path, "://") {
		address = b.site.URL + path
	}
	b.do(chromedp.Navigate(address))
}

// click presses an element, which stays on the page.
func (b *tab) click(selector string) {
	b.t.Helper()
	b.do(chromedp.Click(chromedp.CSS(selector), chromedp.NodeVisible))
}

// follow presses an element that leads to another page, and waits for that.
func (b *tab) follow(selector string) {
	b.t.Helper()
	b.load(selector, chromedp.Click(chromedp.CSS(selector), chromedp.NodeVisible))
}

// load does a step with an element that leads to another page, and waits for that.
func (b *tab) load(selector string, step chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, stepTimeout)
	defer cancel()
	if _, err := chromedp.Run(ctx, chromedp.WaitEvent(page.LoadEventFired, nil, step)); err != nil {
		b.t.Fatalf("%s: %v\n%s", selector, err, b.text())
	}
}

// fill types into the fields of a form, given as pairs of name and value.
func (b *tab) fill(pairs ...string) {
	b.t.Helper()
	for i := 0; i+1 < len(pairs); i += 2 {
		field := chromedp.CSS(fmt.Sprintf("main [name=%q], dialog [name=%q]", pairs[i], pairs[i]))
		b.do(chromedp.Clear(field), chromedp.SendKeys(field, pairs[i+1]))
	}
}

// send fills the form of the page and sends it.
func (b *tab) send(pairs ...string) {
	b.t.Helper()
	b.fill(pairs...)
	b.follow("main form.form button[type=submit]")
}

// text is what can be read on the page.
func (b *tab) text() string {
	ctx, cancel := context.WithTimeout(b.ctx, stepTimeout)
	defer cancel()
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string](`document.body ? document.title + "\n" + location.pathname + location.search + "\n" + document.body.innerText : ""`))
	if err != nil {
		return err.Error()
	}
	return text
}

// see waits until the page shows texts.
func (b *tab) see(texts ...string) {
	b.t.Helper()
	deadline := time.Now().Add(stepTimeout)
	for _, want := range texts {
		for {
			got := b.text()
			if strings.Contains(got, want) {
				break
			}
			if time.Now().After(deadline) {
				b.t.Fatalf("the page does not show %q:\n%s", want, got)
			}
			b.do(chromedp.Sleep(50 * time.Millisecond))
		}
	}
}

// at fails unless the page is at a path.
func (b *tab) at(path string) {
	b.t.Helper()
	if got := evaluate[string](b, "location.pathname + location.search"); got != path {
		b.t.Fatalf("the page is %s, want %s\n%s", got, path, b.text())
	}
}

// size sets the window's size, scrolling bars left out.
func (b *tab) size(width, height int64) {
	b.t.Helper()
	b.do(chromedp.EmulateViewport(width, height))
}

// colours is light or dark, as the system would say. They change at once.
func (b *tab) colours(scheme string) {
	b.t.Helper()
	_, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"}}})
	if err != nil {
		b.t.Fatal(err)
	}
}

// withoutScripts turns scripts off for the pages that come.
func (b *tab) withoutScripts() {
	b.t.Helper()
	if _, err := chromedp.Call(b.ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true}); err != nil {
		b.t.Fatal(err)
	}
}

// fits fails if the page is wider than the window.
func (b *tab) fits() {
	b.t.Helper()
	if over := evaluate[int](b, "document.documentElement.scrollWidth - document.documentElement.clientWidth"); over > 0 {
		b.t.Errorf("%s is %d px wider than the window", evaluate[string](b, "location.pathname"), over)
	}
}

// shot writes a picture of the page to a file.
func (b *tab) shot(file string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, stepTimeout)
	defer cancel()
	data, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	if err == nil {
		err = os.MkdirAll(filepath.Dir(file), 0o755)
	}
	if err == nil {
		err = os.WriteFile(file, data, 0o644)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// keepFailure says what the page of a failed test showed.
func (b *tab) keepFailure() { b.t.Logf("the last page:\n%s", b.text()) }
