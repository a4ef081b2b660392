// Package browser drives the portal of a real node with Chromium.
//
// A test starts a node and opens a tab:
//
//	s := start(t)
//	b := s.administrator(t)
//	b.open("/messages")
//	b.see("No message yet")
//
// The tab fails the test if a page logs an error, breaks the content security policy or asks
// another host. SCREENSHOTS names a folder for pictures of every page.
package browser

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sealmq/sealmq/api/mainapi"
	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/internal/brokerproc"
	"github.com/sealmq/sealmq/internal/testing/program"
	"github.com/sealmq/sealmq/mtls"
)

func TestMain(m *testing.M) {
	status := m.Run()
	if chromium.end != nil {
		chromium.end()
	}
	program.Remove()
	os.Exit(status)
}

// A site is a node with all roles.
type site struct {
	t *testing.T
	*brokerproc.Process
	// URL is the portal's address with its prefix, without a slash at the end.
	URL string
	// API calls the main server as the administrator of the data folder.
	API *mainapi.ClientWithResponses
	exe string
}

// The first administrator of a site.
const (
	adminEmail    = "anna@example.com"
	adminPassword = "correct horse battery"
)

// start runs a node, beside those of other tests, or skips the test if there is no Chromium. env
// are further variables of its environment.
func start(t *testing.T, env ...string) *site {
	t.Helper()
	if testing.Short() {
		t.Skip("browsers are not driven with -short")
	}
	t.Parallel()
	needChromium(t)
	dir := t.TempDir()
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, exe: program.Path(t)}
	s.Process, err = brokerproc.Start(t.Context(), brokerproc.Config{Exe: s.exe, Data: filepath.Join(dir, "data"),
		Roles: []string{"broker", "proxy", "worker", "main", "portal"}, Log: log, Env: env})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Kill()
		log.Close()
		if text, err := os.ReadFile(log.Name()); t.Failed() && err == nil {
			t.Logf("the node's log:\n%s", tail(text, 4000))
		}
	})
	s.URL = "https://" + s.PortalAddr
	for _, e := range env {
		if prefix, ok := strings.CutPrefix(e, "SEALMQ_PORTAL_PREFIX="); ok {
			s.URL += prefix
		}
	}
	s.API = s.apiAs(ca.AdminName)
	return s
}

func tail(text []byte, n int) []byte { return text[max(0, len(text)-n):] }

// apiAs calls the main server with a certificate of the data folder.
func (s *site) apiAs(name string) *mainapi.ClientWithResponses {
	s.t.Helper()
	p := ca.In(s.Data)
	client, err := httpsClient(mtls.Files{Cert: p.Cert(name), Key: p.Key(name), CA: p.CA})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(client.CloseIdleConnections)
	api, err := mainapi.NewClientWithResponses("https://"+s.MainAddr, mainapi.WithHTTPClient(client))
	if err != nil {
		s.t.Fatal(err)
	}
	return api
}

// run runs a command of the program with the site's data folder.
func (s *site) run(args ...string) string {
	s.t.Helper()
	cmd := exec.Command(s.exe, append(args, "--data", s.Data)...)
	cmd.Env = append(os.Environ(), "SEALMQ_MAIN_ADDR="+s.MainAddr, "SEALMQ_PROXY_ADDR="+s.ProxyAddr, "SEALMQ_SERVER_ADDR="+s.Addr, "SEALMQ_PORTAL_ADDR="+s.PortalAddr)
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problems
	if err := cmd.Run(); err != nil {
		s.t.Fatalf("sealmq %s: %v\n%s%s", strings.Join(args, " "), err, &out, &problems)
	}
	return out.String()
}

// setupLink makes a setup link.
func (s *site) setupLink() (token string) {
	s.t.Helper()
	link, err := s.API.MakeSetupLinkWithResponse(s.t.Context())
	if err != nil || link.JSON201 == nil {
		s.t.Fatalf("no setup link: %v %s", err, link.Body)
	}
	return link.JSON201.Token
}

// setupPage is the path of the page that a new setup link leads to.
func (s *site) setupPage() string { s.t.Helper(); return "/setup?token=" + s.setupLink() }

// setUp makes the first administrator.
func (s *site) setUp() *mainapi.OpenedSession {
	s.t.Helper()
	opened, err := s.API.SetUpWithResponse(s.t.Context(), mainapi.Setup{Token: s.setupLink(), Email: adminEmail, Name: "Anna", Password: adminPassword})
	if err != nil || opened.JSON201 == nil {
		s.t.Fatalf("no administrator: %v %s", err, opened.Body)
	}
	return opened.JSON201
}

// administrator opens a tab in which the first administrator is logged in.
func (s *site) administrator(t *testing.T) *tab {
	t.Helper()
	b := newTab(t, s)
	s.setUp()
	b.logIn(adminEmail, adminPassword)
	return b
}

// logIn logs in with the form.
func (b *tab) logIn(email, password string) {
	b.t.Helper()
	b.open("/login")
	b.send("email", email, "password", password)
}
