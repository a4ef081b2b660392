package browser

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// maxClicks is how many clicks from the overview whatever people come for may take.
const maxClicks = 4

// A walker counts the clicks in a tab. A search with the box counts as one.
type walker struct {
	*tab
	clicks int
}

func (w *walker) follow(selector string) { w.clicks++; w.tab.follow(selector) }
func (w *walker) click(selector string)  { w.clicks++; w.tab.click(selector) }
func (w *walker) find(q string)          { w.clicks++; w.tab.find(q) }

// choose chooses a value of a filter, which is applied.
func (w *walker) choose(selector, value string) {
	w.clicks++
	w.load(selector, chromedp.SetValue(chromedp.CSS(selector), value))
}

// on presses a link of the navigation.
func (w *walker) on(path string) { w.follow(fmt.Sprintf(`nav .nav a[href$=%q]`, path)) }

// TestTasks does the things of docs/portal.md that people come for, each from the overview, and
// counts the clicks.
func TestTasks(t *testing.T) {
	s := start(t)
	b := s.administrator(t)
	s.furnish()
	s.tryAs("stolen")
	folder := b.downloads()
	for _, task := range []struct {
		name   string
		clicks int
		walk   func(*walker)
	}{
		{"why did +44 20 7000 0001 not arrive", 1, func(w *walker) {
			w.find("+44 20 7000 0001")
			w.see("Failed", "main server answered 503")
		}},
		{"cut off a stolen laptop", 3, func(w *walker) {
			w.find("acme-01")
			w.click(`main a[href$="/revoke"]`)
			w.see("Cuts off")
			w.fill("name", "acme-01")
			w.follow("dialog button[type=submit]")
			w.see("The certificate of acme-01 is revoked.")
		}},
		{"a queue grows: why", 2, func(w *walker) {
			w.on("/admin/queues")
			w.follow(`main a.row-link[href$="name=message_queue"]`)
			w.see("Paused", "Nothing is delivered until it is resumed.")
		}},
		{"give a colleague access", 3, func(w *walker) {
			w.on("/admin/users")
			w.follow(`main a[href$="/admin/users/create"]`)
			w.fill("email", "carl@example.com", "password", "first password")
			w.follow("main form.form button[type=submit]")
			w.see("The account is made.")
		}},
		{"renew a certificate that ends soon", 4, func(w *walker) {
			w.on("/admin/certificates")
			w.follow("main tbody a.row-link") // the first to end
			w.follow(`main a[href$="/renew"]`)
			w.click("main form.form button[type=submit]")
			w.unpacked(filepath.Join(folder, "lab-03.zip"))
		}},
		{"deliver again what failed", 3, func(w *walker) {
			w.follow(`.attention a[href*="status=failed"]`)
			w.click(`main a[href*="/messages/retry"]`)
			w.see("3 failed messages will be queued again")
			w.follow("dialog button[type=submit]")
			w.see("Looked at")
		}},
		{"who changed what since yesterday", 2, func(w *walker) {
			w.on("/admin/audit")
			w.choose("main input[name=from]", "2020-01-01")
			w.see("Created an account", "carl@example.com", "Revoked a certificate", adminEmail)
		}},
		{"how much was delivered this month", 1, func(w *walker) {
			w.follow(`.ranges a[href$="/admin/statistics"]`)
			w.see("30 days", "Success rate", "Mean time to delivery")
		}},
		{"who paused this queue", 2, func(w *walker) {
			w.on("/admin/audit")
			w.choose("main select[name=event_type]", "broker_queue_paused")
			w.see("Paused a queue", "admin", "message_queue")
		}},
		{"why was this client refused", 2, func(w *walker) {
			w.see("Last refused", "stolen", "has been revoked")
			w.on("/admin/audit")
			w.choose("main select[name=event_type]", "auth_denied")
			w.see("Was refused", "stolen", "has been revoked")
		}},
		{"which worker delivered this message, and how often", 2, func(w *walker) {
			w.find("+49 152 0000 0003")
			w.follow("main tbody a.row-link")
			w.see("Delivered by worker", "Once. If a worker brings this id again")
		}},
		{"what expires within a month", 2, func(w *walker) {
			w.on("/admin/certificates")
			w.choose("main select[name=within]", "30")
			w.see("1 found", "lab-03")
		}},
		{"is the database full soon", 1, func(w *walker) {
			w.on("/admin/database")
			w.see("Size", "Free on its disk")
		}},
		{"which client sends most", 1, func(w *walker) {
			w.on("/admin/clients")
			w.see("Messages, 24 h")
			if rows := evaluate[string](w.tab, `[...document.querySelectorAll("main tbody tr")].map((r) => r.cells[0].innerText + " " + r.cells[r.cells.length - 1].innerText).join("\n")`); !strings.Contains(rows, "clinic-7 7") {
				w.t.Errorf("the clients are\n%s", rows)
			}
		}},
		{"end somebody's session", 3, func(w *walker) {
			w.on("/admin/users")
			w.follow(fmt.Sprintf(`main tr:has(td[data-label="E-mail"] a):nth-child(%d) a.row-link`, 1+evaluate[int](w.tab, `[...document.querySelectorAll("main tbody tr")].findIndex((r) => r.innerText.includes("`+userEmail+`"))`)))
			w.follow(`form[action$="/sign-out"] button`)
			w.see("sessions")
		}},
		{"make and download a backup", 3, func(w *walker) {
			w.on("/admin/backups")
			w.see("Complete", "Next", "every Sunday at 02:00", "The keys are in no backup")
			w.follow(`form[action$="/admin/db/backup"] button`)
			w.see("A backup is being made", "Back up now") // once it is done
			name := evaluate[string](w.tab, `document.querySelector("#made td a[download]").innerText`)
			w.click("#made td a[download]")
			if _, err := w.saved(filepath.Join(folder, name)).Open("manifest.json"); err != nil {
				w.t.Error(err)
			}
		}},
	} {
		w := &walker{tab: b}
		b.open("/admin/dashboard")
		task.walk(w)
		if w.clicks != task.clicks || w.clicks > maxClicks {
			t.Errorf("%s: %d clicks, want %d", task.name, w.clicks, task.clicks)
		}
	}
}
