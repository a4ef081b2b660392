package browser

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sealmq/sealmq/internal/brokerproc"
	"github.com/sealmq/sealmq/internal/testing/server"
)

// TestMainServerAway: a portal in a process of its own says that the main server is away, shows
// its pages by themselves when it is back, and keeps a form that was filled in meanwhile.
func TestMainServerAway(t *testing.T) {
	port, err := server.Port() // it stays free while the main server is away
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, fmt.Sprint("SEALMQ_MAIN_ADDR=127.0.0.1:", port))
	s.setUp()
	portal, err := brokerproc.Start(t.Context(), brokerproc.Config{Exe: s.exe, Data: s.Data, Roles: []string{"portal"}, Env: []string{"SEALMQ_PIPELINE_MAIN=https://" + s.MainAddr}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(portal.Kill)
	s.URL = "https://" + portal.PortalAddr
	node := s.Process
	restart := func() {
		t.Helper()
		node, err = brokerproc.Start(t.Context(), brokerproc.Config{Exe: s.exe, Data: s.Data, Roles: []string{"broker", "proxy", "worker", "main"}, Env: []string{"SEALMQ_MAIN_ADDR=" + s.MainAddr}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(node.Kill)
	}
	b := newTab(t, s)
	b.logIn(adminEmail, adminPassword)
	b.open("/profile")
	b.see("Administrator", "Healthy")
	node.Kill()
	b.open("/profile")
	b.see("The main server cannot be reached", "It has not answered since")
	restart()
	b.see("Administrator", adminEmail)
	b.at("/profile")

	live := `document.querySelector("[data-live-state]").textContent === "Live"`
	b.open("/admin/dashboard")
	b.until(live)
	evaluate[bool](b, "window.sameDocument = true")
	node.Kill()
	b.see("Not live: the main server does not answer")
	b.until(`document.body.hasAttribute("data-stale")`)
	restart()
	b.until(live)
	b.until(`!document.body.hasAttribute("data-stale") && window.sameDocument`)

	b.open("/admin/users/create")
	b.fill("email", "bob@example.com", "name", "Bob", "password", "violet kettle drum")
	node.Kill()
	b.follow("main form.form button[type=submit]")
	b.see("The main server cannot be reached", "What you have filled in is kept")
	b.send("password", "violet kettle drum") // it is still away
	if page := evaluate[string](b, "document.documentElement.outerHTML"); strings.Contains(page, "violet kettle") || !strings.Contains(page, "bob@example.com") {
		t.Error("the page has the password, or lacks the address")
	}
	restart()
	b.send("password", "violet kettle drum")
	b.see("bob@example.com", "Bob")
	if !strings.HasPrefix(evaluate[string](b, "location.pathname"), "/admin/users/") {
		t.Error(b.text())
	}
}
