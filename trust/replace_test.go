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
	crl := "-----BEGIN X509 CRL-----\nalice\n-----END X509 CRL-----\n"
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
		{"inside a CRL", crl + "bob\n", crl + "bob\n"},
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
}
