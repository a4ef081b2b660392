package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func TestInitTwiceAndWithAnotherHost(t *testing.T) {
	t.Chdir(t.TempDir())
	out, err := runCLI(t, "init")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"made     sealmq-data/ca/root.key", "sealmq-data/certs/server.crt", "for localhost"} {
		if !strings.Contains(filepath.ToSlash(out), want) {
			t.Errorf("the first run does not say %q:\n%s", want, out)
		}
	}
	if out, err = runCLI(t, "init"); err != nil || !strings.HasPrefix(out, "Nothing to do") {
		t.Errorf("the second run: %v\n%s", err, out)
	}
	out, err = runCLI(t, "init", "--host", "mq.example.org,10.0.0.5")
	if err != nil || !strings.Contains(out, "renewed") || !strings.Contains(out, "mq.example.org") || !strings.Contains(out, "10.0.0.5") {
		t.Errorf("with hosts: %v\n%s", err, out)
	}
	_, err = runCLI(t, "init", "--host", "http://x")
	if got, want := printed(err), "sealmq: error: \"http://x\" is neither a host name nor an IP address\n"; got != want {
		t.Errorf("bad host: %q", got)
	}
}

func TestInitSaysWhichKeyIsOpen(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("rights are inherited from the folder here")
	}
	t.Chdir(t.TempDir())
	if _, err := runCLI(t, "init"); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod("sealmq-data/certs/server.key", 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := runCLI(t, "init")
	want := "sealmq: error: key file \"sealmq-data/certs/server.key\" is open to other users (mode 0644)\n" +
		"sealmq: hint: run: chmod 600 sealmq-data/certs/server.key\n"
	if got := printed(err); got != want {
		t.Errorf("got:\n%swant:\n%s", got, want)
	}
}

func TestCertIssueAndShow(t *testing.T) {
	t.Chdir(t.TempDir())
	_, err := runCLI(t, "cert", "issue", "alice")
	if got := printed(err); !strings.Contains(got, "there is no authority") || !strings.Contains(got, "sealmq init") {
		t.Errorf("before init: %q", got)
	}
	if _, err := runCLI(t, "init"); err != nil {
		t.Fatal(err)
	}
	out, err := runCLI(t, "cert", "issue", "alice", "--out", "keys", "--days", "3", "--key-type", "rsa")
	if err != nil || !strings.Contains(out, filepath.Join("keys", "alice.key")) {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err = runCLI(t, "cert", "show", filepath.Join("keys", "alice.crt"), "--json"); err != nil {
		t.Fatal(err)
	}
	var infos []certInfo
	if err := json.Unmarshal([]byte(out), &infos); err != nil || len(infos) != 2 {
		t.Fatalf("%v\n%s", err, out)
	}
	if c := infos[0]; c.Client != "alice" || c.Role != "client" || c.Key != "RSA 3072" || c.Authority || c.Expired {
		t.Errorf("certificate %+v", c)
	}
	if !infos[1].Authority {
		t.Errorf("issuer %+v", infos[1])
	}
	if out, err = runCLI(t, "cert", "show", filepath.Join("sealmq-data", "certs", "admin.crt")); err != nil || !strings.Contains(out, "role       admin") {
		t.Errorf("%v\n%s", err, out)
	}
	for _, tc := range []struct {
		args  string
		usage bool
		want  string
	}{
		{"cert issue", true, "wrong number of arguments (0)"},
		{"cert issue a --days 0", true, "--days: 0 is not between 1 and 3650"},
		{"cert issue a --key-type dsa", true, `--key-type: "dsa" is neither ecdsa nor rsa`},
		{"cert issue a --role king", true, `--role: "king" is not one of client, admin`},
		{"cert issue admin-7", false, "add --role admin"},
		{"cert issue alice --out keys", false, "--replace"},
		{"cert issue a/b", false, `name "a/b"`},
		{"cert issue a --host x.example", false, "cannot have host names"},
		{"cert show nothing.crt", false, "nothing.crt"},
	} {
		_, err := runCLI(t, strings.Fields(tc.args)...)
		if got := printed(err); !strings.Contains(got, tc.want) || (exitCode(err) == 2) != tc.usage {
			t.Errorf("%s: exit %d, %q", tc.args, exitCode(err), got)
		}
	}
	if out, err = runCLI(t, "cert", "issue", "alice", "--out", "keys", "--replace"); err != nil {
		t.Errorf("replace: %v\n%s", err, out)
	}
}

func TestShownCertificateCannotWriteToTheTerminal(t *testing.T) {
	if got := printable("a\x1b[2Jb\n"); strings.ContainsAny(got, "\x1b\n") {
		t.Errorf("%q", got)
	}
}
