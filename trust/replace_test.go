package trust_test

import (
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq/internal/testing/faultfs"
	"github.com/sealmq/sealmq/trust"
)

func TestReplaceName(t *testing.T) {
	wide := func(s string) string {
		var b strings.Builder
		for _, r := range s {
			b.WriteByte(byte(r))
			b.WriteByte(byte(r >> 8))
		}
		return b.String()
	}
	const sha = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	old := trust.Entry{Name: "alice", Serial: "1a", Fingerprint: sha, Reason: "stolen", RevokedAt: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	block := "Certificate: alice\nSerial: 1A\nsha256 Fingerprint=01:23:45:67:89:AB:CD:EF:01:23:45:67:89:AB:CD:EF:01:23:45:67:89:AB:CD:EF:01:23:45:67:89:AB:CD:EF\n" +
		"Reason: stolen\nRevoked: 2026-01-02T03:04:05Z\n========================================\n"
	windows := strings.ReplaceAll(block, "\n", "\r\n")
	byName, bySerial := "Certificate: alice\nReason: x\n===\n", "Certificate: alice\nSerial: 7\n===\n"
	bySHA1 := "Certificate: alice\nsha1 Fingerprint=01:23:45:67:89:AB:CD:EF:01:23:45:67:89:AB:CD:EF:01:23:45:67\n===\n"
	record, until := `{"scope":"cn","client_id":"alice"}`, `{"scope":"cn","client_id":"alice","issued_before":"2026-01-02T03:04:05Z"}`
	pem := "-----BEGIN CERTIFICATE-----\nalice\nabc\n-----END CERTIFICATE-----\n"
	for _, tc := range []struct{ name, before, after string }{
		{"a line", "# x\nalice \nbob\n", "# x\n" + block + "bob\n"},
		{"twice", "alice\nbob\nalice \n", block + "bob\n"},
		{"Windows", "bob \r\nalice \r\n", "bob \r\n" + windows},
		{"Windows-1252", "M\xfcller \r\nalice \r\n", "M\xfcller \r\n" + windows},
		{"UTF-16", "\xff\xfe" + wide("Müller\r\nalice\r\n"), "\xff\xfe" + wide("Müller\r\n"+windows)},
		{"UTF-8 with a mark", "\xef\xbb\xbfalice\r\nbob\r\n", "\xef\xbb\xbf" + windows + "bob\r\n"},
		{"a block without a serial number", "bob\n" + byName + "carol\n", "bob\n" + block + "carol\n"},
		{"a block with one", bySerial + "carol\n", bySerial + "carol\n"},
		{"another name", "Alice\nalice2\n", "Alice\nalice2\n"},
		{"a block with a fingerprint that is no SHA-256", "bob\n" + bySHA1 + "carol\n", "bob\n" + block + "carol\n"},
		{"a record", record + "\nbob\n", block + "bob\n"},
		{"a record of the certificates before a time", until + "\n", until + "\n"},
		{"the last line without an end", "bob\nalice", "bob\n" + block},
		{"inside a PEM block", pem + "bob\n", pem + "bob\n"},
	} {
		fs := faultfs.New()
		fs.Put("revoked.pem", []byte(tc.before))
		if err := trust.ReplaceName(fs, "revoked.pem", "alice", []trust.Entry{old}); err != nil {
			t.Errorf("%s: %v", tc.name, err)
		}
		if got := string(fs.Get("revoked.pem")); got != tc.after {
			t.Errorf("%s:\ngot  %q\nwant %q", tc.name, got, tc.after)
		}
	}
	if err := trust.ReplaceName(faultfs.New(), "none", "alice", nil); err != nil {
		t.Error(err)
	}
	numbered := `{"version":3,"scope":"cn","client_id":"alice"}` + "\n"
	fs := faultfs.New()
	fs.Put("revoked.pem", []byte(numbered))
	if err := trust.ReplaceName(fs, "revoked.pem", "alice", nil); err == nil || string(fs.Get("revoked.pem")) != numbered {
		t.Errorf("a numbered record: %v, %q", err, fs.Get("revoked.pem"))
	}
}
