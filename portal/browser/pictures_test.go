package browser

import (
	"database/sql"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	_ "modernc.org/sqlite"
)

// TestPictures takes the pictures of docs/portal.md, if PICTURES names a folder for them.
func TestPictures(t *testing.T) {
	folder := os.Getenv("PICTURES")
	if folder == "" {
		t.Skip("PICTURES names no folder")
	}
	s := start(t)
	b := s.administrator(t)
	s.furnish()
	s.rememberMessages()
	b.size(1080, 680)
	b.colours("light")
	b.open("/admin/dashboard")
	b.see("Needs attention")
	b.until(`document.querySelector(".uplot canvas") !== null`)
	b.picture(folder, "overview")
	b.open("/messages")
	b.picture(folder, "messages")
	b.open("/messages?status=failed")
	b.follow("main tbody a.row-link")
	b.picture(folder, "message")
	b.open("/admin/certificates?client=acme-01")
	b.follow("main tbody a.row-link")
	b.click(`main a[href$="/revoke"]`)
	b.see("Cuts off")
	b.picture(folder, "revoke")
}

// rememberMessages gives the overview an hour of history, as another main server would have.
func (s *site) rememberMessages() {
	s.t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(s.Data, "pipeline", "records.db")+"?_pragma=busy_timeout(10000)")
	if err != nil {
		s.t.Fatal(err)
	}
	defer db.Close()
	now := time.Now().Unix() / 60
	for i := range int64(58) {
		n := 180 + int64(60*math.Sin(float64(i)/7)) + i%5*6
		if _, err := db.Exec("INSERT INTO message_minutes (minute, server, accepted, delivered, failed, waiting, dead) VALUES (?, 'another', ?, ?, 0, ?, 0)", now-i-1, n, n-i%3, i%4); err != nil {
			s.t.Fatal(err)
		}
	}
}

// picture writes what the window shows to a small file.
func (b *tab) picture(folder, name string) {
	b.t.Helper()
	quality := int64(80)
	r, err := chromedp.Call(b.ctx, page.CaptureScreenshot, page.CaptureScreenshotParams{Format: page.CaptureScreenshotFormatWebp, Quality: &quality})
	if err == nil {
		err = os.MkdirAll(folder, 0o755)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(folder, name+".webp"), r.Data, 0o644)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}
