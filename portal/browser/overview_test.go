package browser

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// sendMessages lets a client submit messages.
func (s *site) sendMessages(n int) {
	s.t.Helper()
	for i := range n {
		s.run("submit", "--as", "acme-01", "--sender", "+4915200000000", "--message", fmt.Sprint("hello ", i))
	}
}

// until waits until a script is true.
func (b *tab) until(script string) {
	b.t.Helper()
	for end := time.Now().Add(stepTimeout); !evaluate[bool](b, script); <-time.After(100 * time.Millisecond) {
		if time.Now().After(end) {
			b.t.Fatalf("%s is not true\n%s", script, b.text())
		}
	}
}

// TestLiveOverview: the overview explains itself while nothing was sent; then figures and chart
// move by themselves.
func TestLiveOverview(t *testing.T) {
	s := start(t)
	s.run("cert", "issue", "acme-01")
	b := s.administrator(t)
	b.open("/admin/dashboard")
	b.see("First steps", "Send a message")
	b.until(`document.querySelector("[data-live-state]").textContent === "Live"`)
	b.until(`document.querySelector(".uplot canvas") !== null`)
	picture := `document.querySelector(".uplot canvas").toDataURL()`
	before := evaluate[string](b, picture)
	s.sendMessages(3)
	b.until(`document.querySelector('[data-live="figure-accepted"]').textContent.startsWith("3")`)
	b.until(`document.querySelector('[data-live="figure-delivered"]').textContent.startsWith("3")`)
	if strings.Contains(b.text(), "First steps") {
		t.Error("the first steps are there after a message was delivered")
	}
	if after := evaluate[string](b, picture); after == before {
		t.Errorf("the chart did not move: %s", evaluate[string](b, `document.querySelector("[data-live-state]").textContent`))
	}
	if folder := os.Getenv("SCREENSHOTS"); folder != "" {
		for _, l := range looks {
			b.size(l.width, l.height)
			b.colours(l.colours)
			b.shot(filepath.Join(folder, "overview-live."+l.name+".png"))
		}
	}
}
