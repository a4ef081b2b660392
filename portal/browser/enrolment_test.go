package browser

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// TestEnrolledInThePortal: a token is made without scripts, the command that the page shows gives
// a machine its certificate, and the machine sends until it is revoked.
func TestEnrolledInThePortal(t *testing.T) {
	s := start(t)
	b := s.administrator(t)
	b.open("/admin/certificates")
	b.withoutScripts()
	b.follow(`main a[href$="/admin/enrolment"]`)
	b.follow(`main a[href$="/admin/enrolment/new"]`)
	b.click("main details summary")
	b.send("client_id", "laptop-9", "server", "https://"+s.MainAddr)
	if title := b.title(); !strings.Contains(title, "The token of laptop-9") {
		t.Fatalf("the page is %s", title)
	}
	command, err := chromedp.Run(b.ctx, chromedp.Text(chromedp.CSS("main .notice code")))
	if err != nil {
		t.Fatal(err)
	}
	machine := t.TempDir()
	run := func(command string) (string, error) {
		cmd := exec.Command("sh", "-c", command)
		cmd.Dir = machine
		cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(s.exe)+":"+os.Getenv("PATH"), "SEALMQ_DATA="+filepath.Join(machine, "data"), "SEALMQ_IDENTITIES="+machine)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := run(command); err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
	submit := "sealmq submit --as laptop-9 --proxy-url https://" + s.ProxyAddr + " --sender +4915200000009 --message Hello"
	if out, err := run(submit); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}

	b = newTab(t, s)
	b.logIn(adminEmail, adminPassword)
	b.open("/admin/enrolment")
	b.see("laptop-9", "Used", "anna@example.com")
	b.open("/admin/clients/laptop-9")
	b.click(`main a[href$="/revoke"]`)
	b.see("Cuts off")
	b.fill("name", "laptop-9")
	b.follow("dialog button[type=submit]")
	b.see("The certificate of laptop-9 is revoked.", "to a machine with an enrolment token")
	for _, command := range []string{submit, "sealmq cert renew laptop-9"} {
		if out, err := run(command); err == nil || !strings.Contains(out, "revoked") {
			t.Errorf("%s, after the revocation: %v\n%s", command, err, out)
		}
	}
	b.open("/admin/audit?client=laptop-9")
	b.see("Made an enrolment token", "A client got its first certificate", "Revoked a certificate")

	s.run("cert", "token", "laptop-10", "--server", "https://"+s.MainAddr)
	b.open("/admin/enrolment")
	b.follow(`main form[action$="/delete"] button`)
	b.see("It is good no more.", "Taken back")
}
