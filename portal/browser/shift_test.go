package browser

import (
	"fmt"
	"testing"

	"github.com/sealmq/sealmq/pipeline"
)

// watchShifts adds up how far what is on the page moves by itself, from its beginning on.
const watchShifts = `window.shifted = 0; window.shifts = [];
	new PerformanceObserver((list) => { for (const e of list.getEntries()) if (!e.hadRecentInput) {
		window.shifted += e.value;
		window.shifts.push(e.value.toFixed(4) + " " + e.sources.map((s) => s.node && (s.node.outerHTML || s.node.textContent).slice(0, 120)).join(" | "));
	} }).observe({ type: "layout-shift", buffered: true }); true`

// maxShift is how much of a window may move by itself in all.
const maxShift = 0.02

// TestNothingShifts: pages stay where they are while they are loaded, and while news arrives.
func TestNothingShifts(t *testing.T) {
	s := start(t)
	s.run("cert", "issue", "acme-01")
	id := s.submitAs("acme-01", "+4915200000001", "Your results are ready.")
	s.settled(pipeline.Delivered, 1)
	b, stranger := newTab(t, s), newTab(t, s)
	s.setUp()
	b.logIn(adminEmail, adminPassword)
	frames := func(b *tab) { // what has moved is reported after the frame in which it did
		t.Helper()
		evaluate[bool](b, "window.framed = false; requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(() => { window.framed = true; }))); true")
		b.until("window.framed")
	}
	sent := 1
	for _, size := range []struct{ width, height int64 }{{1280, 800}, {360, 740}} {
		still := func(b *tab, path string, wait func()) {
			t.Helper()
			b.size(size.width, size.height)
			b.open(path)
			evaluate[bool](b, watchShifts)
			wait()
			frames(b)
			if got := evaluate[float64](b, "window.shifted"); got >= maxShift {
				t.Errorf("%s at %d: %.3f of the window moves:\n%s", path, size.width, got, evaluate[string](b, `window.shifts.join("\n")`))
			}
		}
		news := func() {
			t.Helper()
			s.submitAs("acme-01", "+4915200000001", "Your results are ready.")
			sent++
			b.until(fmt.Sprintf(`document.querySelector('[data-live="figure-delivered"]').textContent.startsWith("%d")`, sent))
		}
		still(stranger, "/login", func() {})
		still(b, "/admin/dashboard", news)
		still(b, "/messages", func() {})
		still(b, "/messages/acme-01/"+id, func() {})
		still(b, "/admin/queues", func() {
			b.until(`performance.getEntriesByType("resource").some((e) => e.initiatorType === "xmlhttprequest")`)
		})
	}
	// The measure itself: a box that comes late pushes the form down.
	evaluate[bool](stranger, `document.querySelector("main").insertAdjacentHTML("afterbegin", "<p><br><br><br><br><br><br></p>"); true`)
	frames(stranger)
	stranger.until(fmt.Sprint("window.shifted >= ", maxShift))
}
