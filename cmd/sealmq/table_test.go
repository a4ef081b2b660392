package main

import (
	"encoding/base64"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/internal/testing/testca"
)

func TestTable(t *testing.T) {
	tab := table{head: []string{"NAME", ">COUNT", "NOTE"}}
	var out strings.Builder
	if err := tab.print(&out, "nothing"); err != nil || out.String() != "nothing\n" {
		t.Errorf("%q, %v", out.String(), err)
	}
	tab.add("a", 5, "")
	tab.add("größe", 12345, "x")
	out.Reset()
	want := "NAME   COUNT  NOTE\n" +
		"a          5\n" +
		"größe  12345  x\n"
	if err := tab.print(&out, ""); err != nil || out.String() != want {
		t.Errorf("%v\n%s", err, out.String())
	}
}

// What a stranger has written into a message, or a broker into an answer, does nothing to
// the terminal, and begins no line that looks like another row.
func TestStrangersTextStaysText(t *testing.T) {
	b64 := func(n int) string { return base64.StdEncoding.EncodeToString(make([]byte, n)) }
	forged := []byte(`{"message_id":"m","receiver_client_id":"lab\u001b[2J\nid-2  bob\u202e","enc_session_key":"` + b64(80) +
		`","nonce":"` + b64(12) + `","ciphertext":"` + b64(20) + `"}`)
	row := newPeekedRow(sealmq.PeekedMessage{Body: forged})
	if row.Sealed == nil {
		t.Fatal("it is not taken for an envelope")
	}
	_, _, to := row.cells()
	tab := table{head: []string{"SEALED FOR"}}
	tab.add(to)
	var out strings.Builder
	if err := tab.print(&out, ""); err != nil || strings.Count(out.String(), "\n") != 2 || strings.ContainsAny(out.String(), "\x1b\u202e") {
		t.Errorf("%q, %v", out.String(), err)
	}
	out.Reset()
	tab = table{}
	tab.add("a\u3164b\u202e")
	_ = tab.print(&out, "")
	_ = printJSON(&out, "a\ufe0fb")
	_ = call{out: &out, cmd: new(cobra.Command)}.report(nil, nil, "made queue %s", "a\u2800b")
	if want := `a\u3164b\u202e` + "\n" + `"a\ufe0fb"` + "\n" + `made queue a\u2800b` + "\n"; out.String() != want {
		t.Errorf("%s", out.String())
	}
	out.Reset()
	printError(&out, withHint(errors.New("record 1 resets a key of lab\x1b[2J"), "ask \x1b[2J"))
	if want := "sealmq: error: record 1 resets a key of lab\ufffd[2J\nsealmq: hint: ask \ufffd[2J\n"; out.String() != want {
		t.Errorf("%q", out.String())
	}
	out.Reset()
	var cmd cobra.Command
	cmd.SetErr(&out)
	show := addPinsFlags(addConnectFlags(&cmd)).notice
	show("key of lab\x1b[2J\nbob")
	slog.New(&noteHandler{w: &out}).Warn("the connection is lost", "err", errors.New("alert\x1b[2J"))
	if want := "sealmq: key of lab\ufffd[2J; bob\nsealmq: the connection is lost, err alert\ufffd[2J\n"; out.String() != want {
		t.Errorf("%q", out.String())
	}
}

func TestTextsForPeople(t *testing.T) {
	for got, want := range map[string]string{
		bytesText(0):                 "0 B",
		bytesText(1023):              "1023 B",
		bytesText(1024):              "1.0 KiB",
		bytesText(int64(5 << 30)):    "5.0 GiB",
		plural(1, "message"):         "1 message",
		plural(uint64(0), "message"): "0 messages",
		orDash(""):                   "-",
		stampText(time.Time{}):       "-",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestExpiredCertificatesAreNamed(t *testing.T) {
	authority := testca.New(t)
	dir := t.TempDir()
	certs := filepath.Dir(ca.In(dir).CA)
	if err := os.Mkdir(certs, 0o700); err != nil {
		t.Fatal(err)
	}
	testca.WriteFile(t, filepath.Join(certs, "README.crt"), []byte("no certificate"))
	for name, left := range map[string]time.Duration{"alice": -time.Hour, "bob": time.Hour} {
		template := authority.Template(name, sealmq.RoleClient)
		template.NotBefore, template.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(left)
		testca.WriteLeaf(t, certs, name, authority.Issue(template))
	}
	var out strings.Builder
	if err := printExpired(&out, dir); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, `alice.crt on `) || !strings.HasSuffix(got, "renew it with \"sealmq cert issue alice --replace\"\n") {
		t.Errorf("%q", got)
	}
}

func TestPaceFollowsTheLastSeconds(t *testing.T) {
	at := time.Unix(0, 0)
	var p pace
	rate := 0.0
	for i := range uint64(100) { // 10 s with 1000 a second
		rate = p.add(at.Add(time.Duration(i)*100*time.Millisecond), i*100)
	}
	if rate < 990 || rate > 1010 {
		t.Errorf("%.0f a second, want 1000", rate)
	}
	for i := range uint64(60) { // and 6 s with nothing
		rate = p.add(at.Add(10*time.Second+time.Duration(i)*100*time.Millisecond), 9900)
	}
	if rate > 1 {
		t.Errorf("%.0f a second after a long pause, want 0", rate)
	}
}

// TestEveryListCanBeWatched: whatever is called a list has --json and --watch.
func TestEveryListCanBeWatched(t *testing.T) {
	lists := 0
	var look func(*cobra.Command)
	look = func(c *cobra.Command) {
		for _, sub := range c.Commands() {
			look(sub)
		}
		if c.Name() != "list" {
			return
		}
		lists++
		for _, flag := range []string{"json", "watch"} {
			if c.Flag(flag) == nil {
				t.Errorf("%s has no --%s", c.CommandPath(), flag)
			}
		}
	}
	look(newRootCmd())
	if lists < 8 {
		t.Errorf("%d lists", lists)
	}
}
