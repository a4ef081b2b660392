package browser

import (
	"testing"

	"github.com/sealmq/sealmq/internal/brokerproc"
)

// TestMainServerAway: a portal in a process of its own says that the main server is away, and
// shows the page by itself when it is back.
func TestMainServerAway(t *testing.T) {
	s := start(t)
	s.setUp()
	portal, err := brokerproc.Start(t.Context(), brokerproc.Config{Exe: s.exe, Data: s.Data, Roles: []string{"portal"}, Env: []string{"SEALMQ_PIPELINE_MAIN=https://" + s.MainAddr}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(portal.Kill)
	s.URL = "https://" + portal.PortalAddr
	b := newTab(t, s)
	b.logIn(adminEmail, adminPassword)
	b.open("/profile")
	b.see("Administrator", "Healthy")
	s.Kill()
	b.open("/profile")
	b.see("The main server cannot be reached", "It has not answered since")
	node, err := brokerproc.Start(t.Context(), brokerproc.Config{Exe: s.exe, Data: s.Data, Addr: s.Addr, Roles: []string{"broker", "proxy", "worker", "main"}, Env: []string{"SEALMQ_MAIN_ADDR=" + s.MainAddr}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(node.Kill)
	b.see("Administrator", adminEmail)
	b.at("/profile")
}
