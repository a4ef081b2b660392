package trust_test

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/testing/testca"
	"github.com/sealmq/sealmq/mtls"
	"github.com/sealmq/sealmq/trust"
)

func openList(t testing.TB, text string, authorities ...*x509.Certificate) (*trust.RevocationList, string, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "revoked.pem")
	testca.WriteFile(t, file, []byte(text))
	l, err := trust.OpenRevocations(trust.ListConfig{Files: []trust.ListFile{{Path: file}},
		Authorities: func() []*x509.Certificate { return authorities }})
	return l, file, err
}

func TestRevocationListFormat(t *testing.T) {
	const sha = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	const issuer = "sha256:" + sha
	colons := strings.ToUpper(sha[:2])
	for i := 2; i < len(sha); i += 2 {
		colons += ":" + strings.ToUpper(sha[i:i+2])
	}
	utf16le := func(s string) string {
		b := []byte{0xff, 0xfe}
		for _, u := range utf16.Encode([]rune(s)) {
			b = append(b, byte(u), byte(u>>8))
		}
		return string(b)
	}
	utf16be := func(s string) string {
		b := []byte{0xfe, 0xff}
		for _, u := range utf16.Encode([]rune(s)) {
			b = append(b, byte(u>>8), byte(u))
		}
		return string(b)
	}
	const block = "Certificate: acme-02\nSerial: 1A:2B\nsha256 Fingerprint=%\nReason: Key compromise\nRevoked: 2026-01-02 03:04:05\n========\n"
	for _, tc := range []struct {
		name, text string
		entries    int // -1: refused
		ignored    string
	}{
		{"empty", "", 0, ""},
		{"comments and blank lines", "# nobody\n\n  # yet\n", 0, ""},
		{"both old kinds", "certificate " + sha + "\nserial 7f issuer " + issuer + "\n", 2, ""},
		{"blanks and line ends of Windows", "  certificate\t" + sha + " \r\n", 1, ""},
		{"the same twice", "certificate " + sha + "\ncertificate " + sha + "\n", 1, ""},
		{"no end of the last line", "certificate " + sha, 1, "no end"},
		{"names as echo writes them", "acme-02 \r\nsender_1 \r\nJane Doe\r\n", 3, ""},
		{"UTF-8 with a mark", "\xef\xbb\xbfacme-02\r\n", 1, ""},
		{"UTF-16", utf16le("acme-02 \r\nMüller\r\n"), 2, ""},
		{"UTF-16, the other way", utf16be("acme-02 \r\nMüller\r\n"), 2, ""},
		{"Windows-1252", "M\xfcller \r\n", 1, ""},
		{"UTF-16 cut off", utf16le("acme-02\n") + "x", -1, ""},
		{"two encodings", "acme-02\n" + utf16le("acme-03\n")[2:], -1, ""},
		{"zeros instead of what was written", "acme-02\n\x00\x00\x00\x00", -1, ""},
		{"a block", strings.Replace(block, "%", colons, 1), 1, ""},
		{"a block with SHA-1", strings.Replace(block, "%", "AA:BB", 1), 1, ""},
		{"a block with a name only", "Certificate: acme-02\nReason: left\n====\n", 1, ""},
		{"a block with another line", "Certificate: acme-02\nhello\n====\n", 1, "line 2 is ignored"},
		{"a block without end", "Certificate: acme-02\nSerial: 1a\n", -1, ""},
		{"all forms mixed", "# x\nacme-01 \r\n" + strings.Replace(block, "%", colons, 1) + "certificate " + sha[1:] + "0\nsha256:" + sha[2:] + "00\n", 4, ""},
		{"a comment behind an entry", "certificate " + sha + " # alice\n", 0, "line 1 is ignored"},
		{"a short fingerprint", "certificate " + sha[1:] + "\n", 0, "line 1 is ignored"},
		{"a long fingerprint", "certificate " + sha + "0\n", 0, "line 1 is ignored"},
		{"upper case", "certificate " + strings.ToUpper(sha) + "\n", 0, "line 1 is ignored"},
		{"colons", "serial 7f:3a issuer " + issuer + "\n", 0, "line 1 is ignored"},
		{"a serial without its issuer", "serial 7f\n", 0, "line 1 is ignored"},
		{"an issuer by name", "serial 7f issuer Example\n", 0, "line 1 is ignored"},
		{"a name with its type", "CN=alice\n", 0, "without CN="},
		{"an invisible character", "al\u200bice\nbob\n", 1, "line 1 is ignored"},
		{"a long line", strings.Repeat("a", 5000) + "\n", 0, "line 1 is ignored"},
		{"a certificate", "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\nalice\n", 1, "revokes nothing"},
		{"half a certificate", "-----BEGIN CERTIFICATE-----\nMAA=\n", -1, ""},
		{"a CRL that is none", "-----BEGIN X509 CRL-----\nMAA=\n-----END X509 CRL-----\n", -1, ""},
		{"records", `{"version":1,"scope":"cn","client_id":"alice"}` + "\n" + `{"crl_number":1,"covers":1}` + "\n", 1, ""},
		{"a record that is cut off", `{"version":1,"scope":"cn","client_id":"alice"}` + "\n" + `{"version":2,"sco`, 1, "cut off"},
		{"a damaged record", `{"version":1,"scope":"cn","client_id":"al` + "\n" + `{"version":2,"scope":"cn","client_id":"bob"}` + "\n", -1, ""},
		{"a record that revokes nothing", `{"version":1,"scope":"cert"}` + "\n", -1, ""},
		{"numbers that go back", `{"version":2,"scope":"cn","client_id":"a"}` + "\n" + `{"version":2,"scope":"cn","client_id":"b"}` + "\n", -1, ""},
		{"too large", strings.Repeat("#\n", trust.MaxListBytes), -1, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l, file, err := openList(t, tc.text)
			if (err != nil) != (tc.entries < 0) {
				t.Fatalf("error %v", err)
			}
			if err != nil {
				if !strings.Contains(err.Error(), file) {
					t.Errorf("the error does not name the file: %v", err)
				}
				return
			}
			if l.Len() != tc.entries {
				t.Errorf("%d entries, want %d", l.Len(), tc.entries)
			}
			if err := l.Err(); (err != nil) != (tc.ignored != "") || err != nil && !(strings.Contains(err.Error(), tc.ignored) && strings.Contains(err.Error(), file)) {
				t.Errorf("problems %v, want %q", err, tc.ignored)
			}
		})
	}
}

// TestNamesAreRevoked: a name is compared byte by byte, whichever authority issued the
// certificate; a block with a serial number leaves newer certificates of its name alone.
func TestNamesAreRevoked(t *testing.T) {
	ours, other := testca.New(t), testca.New(t)
	chain := func(c *testca.CA, name string) []*x509.Certificate {
		return []*x509.Certificate{c.Leaf(name, sealmq.RoleClient).Leaf, c.Root()}
	}
	alice := chain(ours, "alice")
	serial, issuer := mtls.Serial(alice[0]), mtls.Issuer(ours.Root())
	for _, tc := range []struct {
		name, text string
		chain      []*x509.Certificate
		revoked    bool
	}{
		{"a name", "alice \r\n", alice, true},
		{"a name below another authority", "alice\n", chain(other, "alice"), true},
		{"a name in other letters", "Alice\n", alice, false},
		{"a part of a name", "alic\n", alice, false},
		{"a name that is not ASCII", "M\xfcller\n", chain(ours, "Müller"), true},
		{"a block", "Certificate: alice\nSerial: 0" + strings.ToUpper(serial) + "\n===\n", alice, true},
		{"a block of another certificate", "Certificate: alice\nSerial: 1\n===\n", alice, false},
		{"a block of another name", "Certificate: bob\nSerial: " + serial + "\n===\n", alice, false},
		{"a record", `{"version":1,"scope":"cert","serial":"` + serial + `","issuer":"` + issuer + `"}` + "\n", alice, true},
		{"a name of another authority", `{"version":1,"scope":"cn","client_id":"alice","issuer":"` + mtls.Issuer(other.Root()) + `"}` + "\n", alice, false},
		{"a name, up to a time", `{"version":1,"scope":"cn","client_id":"alice","issued_before":"2126-01-01T00:00:00Z"}` + "\n", alice, true},
		{"a name, up to an earlier time", `{"version":1,"scope":"cn","client_id":"alice"}` + "\n" +
			`{"version":2,"scope":"cn","client_id":"alice","issued_before":"2020-01-01T00:00:00Z"}` + "\n", alice, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l, _, err := openList(t, tc.text)
			if err != nil || l.Err() != nil {
				t.Fatal(err, l.Err())
			}
			if err := l.Check(tc.chain); errors.Is(err, mtls.ErrRevoked) != tc.revoked || (err == nil) == tc.revoked {
				t.Errorf("error %v", err)
			}
		})
	}
}

// crl signs a list of serial numbers.
func crl(t testing.TB, c *testca.CA, number int64, serials ...*big.Int) string {
	t.Helper()
	list := &x509.RevocationList{Number: big.NewInt(number), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour)}
	for _, s := range serials {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: s, RevocationTime: time.Now(), ReasonCode: 1})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, c.Root(), c.Key())
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}))
}

func TestCRLsInTheList(t *testing.T) {
	ours, other := testca.New(t), testca.New(t)
	alice := []*x509.Certificate{ours.Leaf("alice", "").Leaf, ours.Root()}
	bob := []*x509.Certificate{ours.Leaf("bob", "").Leaf, ours.Root()}
	text := crl(t, ours, 5, alice[0].SerialNumber)
	l, file, err := openList(t, "carol\r\n"+strings.ReplaceAll(text, "\n", "\r\n")+"dave\n", ours.Root())
	if err != nil || l.Err() != nil || l.Len() != 3 {
		t.Fatal(l, err)
	}
	if l.Check(alice) == nil || l.Check(bob) != nil {
		t.Error("the CRL does not revoke what it names")
	}
	// An older one, of a restored backup, is refused.
	testca.WriteFile(t, file, []byte(crl(t, ours, 4)))
	l.Refresh()
	if err := l.Err(); err == nil || !strings.Contains(err.Error(), "number 4, and one with number 5") || l.Check(alice) == nil {
		t.Errorf("after an older CRL: %v", err)
	}
	testca.WriteFile(t, file, []byte(crl(t, ours, 6, bob[0].SerialNumber)))
	l.Refresh()
	if err := l.Err(); err != nil || l.Check(alice) != nil || l.Check(bob) == nil {
		t.Errorf("after a newer CRL: %v", err)
	}
	damaged := []byte(crl(t, ours, 7))
	damaged[60] ^= 1
	testca.WriteFile(t, file, damaged)
	l.Refresh()
	if l.Err() == nil || l.Check(bob) == nil {
		t.Error("a damaged CRL is in force")
	}

	foreign, _, err := openList(t, text, other.Root())
	if err != nil || foreign.Err() == nil || foreign.Check(alice) != nil {
		t.Errorf("a CRL of an unknown authority: %v, %v", err, foreign.Err())
	}
}

// TestCRLIsTakenOnceItsAuthorityIsAccepted: the file of authorities changed after the list.
func TestCRLIsTakenOnceItsAuthorityIsAccepted(t *testing.T) {
	ours := testca.New(t)
	alice := []*x509.Certificate{ours.Leaf("alice", "").Leaf, ours.Root()}
	file := filepath.Join(t.TempDir(), "revoked.pem")
	testca.WriteFile(t, file, []byte(crl(t, ours, 1, alice[0].SerialNumber)))
	var accepted []*x509.Certificate
	l, err := trust.OpenRevocations(trust.ListConfig{Files: []trust.ListFile{{Path: file}}, Authorities: func() []*x509.Certificate { return accepted }})
	if err != nil || l.Check(alice) != nil {
		t.Fatal(err)
	}
	accepted = []*x509.Certificate{ours.Root()}
	l.Refresh()
	if l.Check(alice) == nil || l.Err() != nil {
		t.Error(l.Err())
	}
}

func FuzzRevocationFile(f *testing.F) {
	ca := testca.New(f)
	alice := []*x509.Certificate{ca.Leaf("alice", "").Leaf, ca.Root()}
	f.Add([]byte("alice \r\n# x\nCertificate: bob\nSerial: 1a\n===\n"))
	f.Add([]byte("certificate " + mtls.Fingerprint(alice[0]) + "\nserial 1 issuer " + mtls.Issuer(ca.Root()) + "\n"))
	f.Add([]byte(crl(f, ca, 1, alice[0].SerialNumber) + "{\"version\":1,\"scope\":\"cn\",\"client_id\":\"x\"}\n"))
	f.Add([]byte("\xff\xfea\x00l\x00\r\x00\n\x00"))
	file := filepath.Join(f.TempDir(), "revoked.pem")
	roots := func() []*x509.Certificate { return []*x509.Certificate{ca.Root()} }
	f.Fuzz(func(t *testing.T, data []byte) {
		testca.WriteFile(t, file, data)
		l, err := trust.OpenRevocations(trust.ListConfig{Files: []trust.ListFile{{Path: file}}, Authorities: roots})
		if err != nil {
			return
		}
		before := l.Check(alice) != nil
		// What comes behind whole lines of text takes nothing back, unless it makes the
		// file unusable: then the old list stays.
		if bytes.HasPrefix(data, []byte{0xff, 0xfe}) || bytes.HasPrefix(data, []byte{0xfe, 0xff}) {
			return
		}
		testca.WriteFile(t, file, append(bytes.Clone(data), "\n# more\ncertificate "+mtls.Fingerprint(alice[0])+"\n"...))
		l.Refresh()
		after := l.Check(alice) != nil
		if before && !after {
			t.Errorf("a longer list revokes less: %q", data)
		}
		if strings.Contains(string(data), "{") || strings.Contains(string(data), "BEGIN") {
			return
		}
		if p := l.Problems(); !after && len(p) == 0 {
			t.Errorf("a line was not read, and nobody said so: %q", data)
		}
	})
}
