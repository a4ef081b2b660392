package ca_test

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/internal/testing/fakeclock"
	"github.com/sealmq/sealmq/internal/testing/faultfs"
	"github.com/sealmq/sealmq/mtls"
	"github.com/sealmq/sealmq/trust"
)

// office is an authority whose disk and clock a test drives.
type office struct {
	testing.TB
	fs  *faultfs.FS
	now *fakeclock.Clock
	*ca.Authority
}

func newOffice(t testing.TB) *office {
	o := &office{TB: t, fs: faultfs.New(), now: fakeclock.New(time.Now())}
	if _, err := ca.Setup("data", nil, o.options()); err != nil {
		t.Fatal(err)
	}
	o.open()
	return o
}

func (o *office) options() ca.Options { return ca.Options{FS: o.fs, Clock: o.now} }

func (o *office) open() {
	o.Helper()
	var err error
	if o.Authority, err = ca.Open("data", o.options()); err != nil {
		o.Fatal(err)
	}
}

func (o *office) issue(r ca.Request) *x509.Certificate {
	o.Helper()
	c, err := o.Issue(r)
	if err != nil {
		o.Fatal(err)
	}
	return c.Leaf
}

func (o *office) revoke(r ca.Revocation) []trust.Entry {
	o.Helper()
	entries, err := o.Revoke(r)
	if err != nil {
		o.Fatal(err)
	}
	return entries
}

func (o *office) wantRevoked(c *x509.Certificate, want bool) {
	o.Helper()
	list, err := o.Revocations(false, nil)
	if err != nil {
		o.Fatal(err)
	}
	err = list.Check([]*x509.Certificate{c, o.Intermediate(), o.Root()})
	if errors.Is(err, mtls.ErrRevoked) != want || (err == nil) == want {
		o.Errorf("%s %s: %v, want revoked %v", c.Subject, mtls.Serial(c), err, want)
	}
}

func TestHistory(t *testing.T) {
	o := newOffice(t)
	first := o.issue(ca.Request{Name: "alice", Domain: "shop.example", By: "root", Source: ca.SourceCLI})
	other, err := ca.Open("data", o.options()) // another process
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Issue(ca.Request{Name: "alice", Days: 2}); err != nil {
		t.Fatal(err)
	}
	list, err := o.HistoryOf("alice")
	if err != nil || len(list) != 2 {
		t.Fatalf("%d records, %v", len(list), err)
	}
	want := ca.Issued{Serial: mtls.Serial(first), Name: "alice", Role: sealmq.RoleClient, Domain: "shop.example", Fingerprint: mtls.Fingerprint(first),
		Signer: mtls.Issuer(o.Intermediate()), IssuedBy: "root", Source: ca.SourceCLI, SupersededBy: list[1].Serial,
		NotBefore: list[0].NotBefore, NotAfter: list[0].NotAfter, Key: list[0].Key, IssuedAt: list[0].IssuedAt}
	if !list[0].NotAfter.Equal(first.NotAfter) || list[0].Key == list[1].Key || !slices.Equal(list[1].Supersedes, []string{want.Serial}) {
		t.Errorf("%+v", list)
	}
	got, _ := json.Marshal(list[0])
	if exp, _ := json.Marshal(want); !bytes.Equal(got, exp) || list[0].SupersededBy != want.SupersededBy {
		t.Errorf("got  %s\nwant %s", got, exp)
	}
	if ou := first.Subject.OrganizationalUnit; !slices.Equal(ou, []string{"shop.example"}) {
		t.Errorf("organizational unit %q", ou)
	}
	// A record that was cut off is written over; one that is damaged is not passed over.
	whole := o.fs.Get("data/ca/issued.jsonl")
	o.fs.Put("data/ca/issued.jsonl", append(bytes.Clone(whole), `{"serial":"1`...))
	o.open()
	o.issue(ca.Request{Name: "bob"})
	if all, err := o.History(); err != nil || len(all) != 5 { // with server and administrator
		t.Errorf("%d records, %v", len(all), err)
	}
	o.fs.Put("data/ca/issued.jsonl", bytes.Replace(whole, []byte("alice\""), []byte("alice"), 1))
	o.open()
	if _, err := o.History(); err == nil || !strings.Contains(err.Error(), "issued.jsonl is damaged") {
		t.Errorf("damaged: %v", err)
	}
}

func TestRevoke(t *testing.T) {
	o := newOffice(t)
	old, now, bob := o.issue(ca.Request{Name: "alice"}), o.issue(ca.Request{Name: "alice"}), o.issue(ca.Request{Name: "bob"})

	one := o.revoke(ca.Revocation{Name: "alice", Serial: mtls.Serial(old), Reason: "key compromise"})
	if len(one) != 1 || one[0].Code != trust.KeyCompromise || one[0].Version != 1 || one[0].Fingerprint != mtls.Fingerprint(old) {
		t.Errorf("%+v", one)
	}
	o.wantRevoked(old, true)
	o.wantRevoked(now, false)

	all := o.revoke(ca.Revocation{Name: "alice", Reason: "left the company"})
	if len(all) != 2 || all[0].Serial != mtls.Serial(now) || all[1].Scope != trust.ScopeName || all[1].Version != 3 {
		t.Errorf("%+v", all)
	}
	o.wantRevoked(now, true)
	o.wantRevoked(bob, false)
	if _, err := o.Revoke(ca.Revocation{Name: "alice"}); !errors.Is(err, ca.ErrAlreadyRevoked) {
		t.Errorf("again: %v", err)
	}
	if _, err := o.Revoke(ca.Revocation{Name: "alice", Fingerprint: mtls.Fingerprint(old)}); !errors.Is(err, ca.ErrAlreadyRevoked) {
		t.Errorf("one again: %v", err)
	}
	if _, err := o.Revoke(ca.Revocation{Name: "bob", Reason: "a\nb"}); err == nil {
		t.Error("a reason of two lines")
	}
	// One that is in no record, and a name of another authority.
	o.revoke(ca.Revocation{Name: "eve", Serial: "1a2b"})
	o.revoke(ca.Revocation{Name: "stranger"})
	if _, err := o.Renew(ca.Renewal{Name: "bob"}); err == nil {
		t.Error("renewed without a file")
	}
}

// TestRevokedNameIsIssuedAgain: what had the name before stays revoked, wherever the name was
// revoked and whether or not it is on record.
func TestRevokedNameIsIssuedAgain(t *testing.T) {
	o := newOffice(t)
	old, unknown := o.issue(ca.Request{Name: "alice"}), o.issue(ca.Request{Name: "alice"})
	lines := bytes.SplitAfter(o.fs.Get("data/ca/issued.jsonl"), []byte("\n"))
	o.fs.Put("data/ca/issued.jsonl", bytes.Join(lines[:len(lines)-2], nil)) // the second is in no record
	if err := errors.Join(o.fs.Remove("data/ca/issued.count"), o.fs.SyncDir("data/ca")); err != nil {
		t.Fatal(err)
	}
	o.open()
	for round, where := range []string{"ledger", "list", "ledger", "list"} {
		o.now.Advance(time.Minute)
		if where == "ledger" {
			o.revoke(ca.Revocation{Name: "alice", Reason: "stolen"})
		} else {
			o.fs.Put("data/crl/revoked.pem", []byte("# ours\r\nbob \r\nalice \r\ncarol \r\n"))
		}
		o.wantRevoked(old, true)
		o.now.Advance(time.Minute)
		next := o.issue(ca.Request{Name: "alice"})
		o.wantRevoked(old, true)
		o.wantRevoked(unknown, true)
		o.wantRevoked(next, false)
		if where == "list" {
			text := string(o.fs.Get("data/crl/revoked.pem"))
			if strings.Contains(text, "\nalice") || !strings.Contains(text, "Serial: "+strings.ToUpper(mtls.Serial(old))+"\r\n") ||
				!strings.HasPrefix(text, "# ours\r\nbob \r\n") || !strings.HasSuffix(text, "carol \r\n") {
				t.Errorf("round %d: the list is\n%s", round, text)
			}
		}
		second := o.issue(ca.Request{Name: "alice"}) // at the same second
		o.wantRevoked(second, false)
		o.wantRevoked(next, false)
		old = next
	}
	if got := o.fs.Unsynced(); len(got) != 0 {
		t.Errorf("not durable: %q", got)
	}
}

// TestNameRevokedInAnyFormIsIssuedAgain: the list in force, also of a process that runs, lets
// the new certificate in, in whatever form the file revokes the name.
func TestNameRevokedInAnyFormIsIssuedAgain(t *testing.T) {
	for _, text := range []string{
		"alice\n",
		"Certificate: alice\nReason: stolen\n===\n",
		"Certificate: alice\nsha1 Fingerprint=01:23:45:67:89:AB:CD:EF:01:23:45:67:89:AB:CD:EF:01:23:45:67\n===\n",
		`{"scope":"cn","client_id":"alice"}` + "\n",
	} {
		o := newOffice(t)
		o.fs.Put("data/crl/revoked.pem", []byte(text))
		running, err := o.Revocations(false, nil)
		if err != nil || !running.RevokesName("alice") {
			t.Fatalf("%q revokes nothing: %v", text, err)
		}
		o.wantRevoked(o.issue(ca.Request{Name: "alice"}), false)
		running.Refresh()
		if err := running.Err(); err != nil || running.RevokesName("alice") {
			t.Errorf("%q is in force still: %v", text, err)
		}
	}
}

// TestRestoredFolder: a backup from before a revocation takes nothing back.
func TestRestoredFolder(t *testing.T) {
	o := newOffice(t)
	alice, bob := o.issue(ca.Request{Name: "alice"}), o.issue(ca.Request{Name: "bob"})
	o.revoke(ca.Revocation{Name: "alice"})
	number := o.mustCRL().List.Number
	backup := contents(o.fs)
	o.revoke(ca.Revocation{Name: "bob", Reason: "stolen"})
	o.mustCRL()
	for name, data := range backup {
		if strings.HasPrefix(name, "/data/") {
			o.fs.Put(name, []byte(data))
		}
	}
	res, err := ca.Setup("data", nil, o.options())
	if err != nil || len(res.Gap) != 2 || res.Gap[0].Name != "bob" || res.CopyErr != nil {
		t.Errorf("%v; gap %+v", err, res)
	}
	o.open()
	o.wantRevoked(alice, true)
	o.wantRevoked(bob, true)
	if next := o.mustCRL().List; next.Number.Cmp(number) <= 0 || len(next.RevokedCertificateEntries) != 2 {
		t.Errorf("CRL %d after %d, %d entries", next.Number, number, len(next.RevokedCertificateEntries))
	}
	if res, err := ca.Setup("data", nil, o.options()); err != nil || len(res.Gap) != 0 {
		t.Errorf("the second start: %v, %+v", err, res.Gap)
	}
}

// TestNoCopy: a copy that cannot be written, or that somebody takes away, is missed.
func TestNoCopy(t *testing.T) {
	o := newOffice(t)
	copyOf := func() (name string) {
		for _, f := range o.fs.Files() {
			if strings.Contains(f, ".revocations-") {
				name = f
			}
		}
		return name
	}
	o.issue(ca.Request{Name: "alice"})
	o.issue(ca.Request{Name: "bob"})
	if err := o.CopyErr(); err != nil {
		t.Errorf("before a revocation: %v", err)
	}
	o.revoke(ca.Revocation{Name: "alice"})
	if err := o.CopyErr(); err != nil {
		t.Error(err)
	}
	if err := o.fs.Remove(copyOf()); err != nil {
		t.Fatal(err)
	}
	if err := o.CopyErr(); err == nil {
		t.Error("a copy that is away was not missed")
	}
	o.revoke(ca.Revocation{Name: "bob"})
	if err := o.CopyErr(); err != nil {
		t.Errorf("after the next revocation: %v", err)
	}
}

func (o *office) mustCRL() *ca.CRL {
	o.Helper()
	c, err := o.CRL()
	if err != nil {
		o.Fatal(err)
	}
	return c
}

func TestCRL(t *testing.T) {
	o := newOffice(t)
	alice, bob := o.issue(ca.Request{Name: "alice"}), o.issue(ca.Request{Name: "bob", Days: 30})
	first := o.mustCRL()
	if first.List.Number.Int64() != 1 || len(first.List.RevokedCertificateEntries) != 0 || first.List.NextUpdate.Sub(first.List.ThisUpdate) != ca.CRLLife {
		t.Errorf("%+v", first.List)
	}
	if err := first.List.CheckSignatureFrom(o.Intermediate()); err != nil {
		t.Error(err)
	}
	if again := o.mustCRL(); again.List.Number.Int64() != 1 || string(o.fs.Get("data/crl/crl.pem")) != string(first.PEM) {
		t.Error("it was made again without need")
	}
	o.revoke(ca.Revocation{Name: "alice", Reason: "keyCompromise"})
	o.revoke(ca.Revocation{Name: "bob"})
	second := o.mustCRL()
	entries := second.List.RevokedCertificateEntries
	if second.List.Number.Int64() != 2 || len(entries) != 2 || entries[0].SerialNumber.Cmp(alice.SerialNumber) != 0 || entries[0].ReasonCode != 1 || entries[1].ReasonCode != 0 {
		t.Errorf("%+v", entries)
	}
	o.now.Advance(25 * time.Hour)
	if third := o.mustCRL(); third.List.Number.Int64() != 3 {
		t.Errorf("a day later: %v", third.List.Number)
	}
	o.now.Advance(60 * 24 * time.Hour)
	if entries := o.mustCRL().List.RevokedCertificateEntries; len(entries) != 1 {
		t.Errorf("bob's certificate %s has expired: %+v", mtls.Serial(bob), entries)
	}
	// Every reader believes it.
	o.fs.Put("elsewhere/crl.pem", o.mustCRL().PEM)
	list, err := trust.OpenRevocations(trust.ListConfig{FS: o.fs, Files: []trust.ListFile{{Path: "elsewhere/crl.pem"}},
		Authorities: func() []*x509.Certificate { return []*x509.Certificate{o.Intermediate()} }})
	if err != nil || list.Err() != nil || list.Check([]*x509.Certificate{alice, o.Intermediate(), o.Root()}) == nil {
		t.Errorf("%v, %v", err, list.Err())
	}
}

func TestRenew(t *testing.T) {
	o := newOffice(t)
	if _, err := o.IssueFiles(ca.Request{Name: "proxy-1", Role: sealmq.RoleProxy, Domain: "shop", DNSNames: []string{"p.example"}}, "", false); err != nil {
		t.Fatal(err)
	}
	old, oldKey := leaf(t, o.fs, "proxy-1"), o.fs.Get("data/certs/proxy-1.key")
	f, err := o.Renew(ca.Renewal{Name: "proxy-1", RevokeOld: true})
	if err != nil {
		t.Fatal(err)
	}
	now := leaf(t, o.fs, "proxy-1")
	_, role, _ := mtls.Profile(now)
	if role != sealmq.RoleProxy || now.VerifyHostname("p.example") != nil || !slices.Equal(now.Subject.OrganizationalUnit, old.Subject.OrganizationalUnit) || now.Equal(old) {
		t.Errorf("%+v", now.Subject)
	}
	if bytes.Equal(o.fs.Get("data/certs/proxy-1.key"), oldKey) {
		t.Error("the key is the old one")
	}
	stamp := o.now.Now().Format("20060102_150405")
	if !slices.Contains(f.Backups, "data/certs/backup/proxy-1.key."+stamp) || !bytes.Equal(o.fs.Get("data/certs/backup/proxy-1.key."+stamp), oldKey) {
		t.Errorf("copies %q", f.Backups)
	}
	checkPairs(t, o.fs)
	o.wantRevoked(old, true)
	o.wantRevoked(now, false)
	again, err := o.Renew(ca.Renewal{Name: "proxy-1"}) // in the same second
	if err != nil || slices.ContainsFunc(again.Backups, func(name string) bool { return slices.Contains(f.Backups, name) }) || !bytes.Equal(o.fs.Get("data/certs/backup/proxy-1.key."+stamp), oldKey) {
		t.Errorf("copies %q, and before them %q, %v", again.Backups, f.Backups, err)
	}

	o.now.Advance(366 * 24 * time.Hour)
	if _, err := o.Renew(ca.Renewal{Name: "proxy-1"}); err == nil || !strings.Contains(hintOf(err), "--expired") {
		t.Errorf("expired: %v", err)
	}
	if _, err := o.Renew(ca.Renewal{Name: "proxy-1", Expired: true}); err != nil {
		t.Error(err)
	}
	o.revoke(ca.Revocation{Name: "proxy-1"})
	if _, err := o.Renew(ca.Renewal{Name: "proxy-1", Expired: true}); err == nil || !strings.Contains(err.Error(), "is revoked") {
		t.Errorf("revoked: %v", err)
	}
	// It is issued again, with a new key.
	key := o.fs.Get("data/certs/proxy-1.key")
	if _, err := o.IssueFiles(ca.Request{Name: "proxy-1", Role: sealmq.RoleProxy}, "", false); err != nil {
		t.Fatal(err)
	}
	o.wantRevoked(leaf(t, o.fs, "proxy-1"), false)
	if bytes.Equal(o.fs.Get("data/certs/proxy-1.key"), key) {
		t.Error("a revoked key is in use again")
	}
	o.fs.Put("data/certs/eve.crt", other(t))
	if _, err := o.Renew(ca.Renewal{Name: "eve"}); err == nil || !strings.Contains(err.Error(), "not of this authority") {
		t.Errorf("of another authority: %v", err)
	}
}

// TestSetupLeavesRevokedCertificates: a start does not put back what was revoked.
func TestSetupLeavesRevokedCertificates(t *testing.T) {
	o := newOffice(t)
	admin := leaf(t, o.fs, "admin")
	o.revoke(ca.Revocation{Name: "admin", Reason: "stolen"})
	o.now.Advance(350 * 24 * time.Hour)
	res, err := ca.Setup("data", nil, o.options())
	if err != nil || len(res.Renewed) != 1 || !leaf(t, o.fs, "admin").Equal(admin) {
		t.Errorf("renewed %q, %v", res.Renewed, err)
	}
}

// TestFeedOfTheAuthority: what scripts write into the lists has a number too, and it grows.
func TestFeedOfTheAuthority(t *testing.T) {
	o := newOffice(t)
	alice := o.issue(ca.Request{Name: "alice"})
	list, err := o.Revocations(true, nil)
	if err != nil || list.Version() != 0 {
		t.Fatal(list.Version(), err)
	}
	changes := 0
	defer list.OnChange(func() { changes++ })()
	o.revoke(ca.Revocation{Name: "alice"})
	list.Refresh()
	if f := list.Since(0, ""); list.Version() != 2 || changes != 1 || !f.Full || len(f.Entries) != 2 {
		t.Errorf("version %d, %d changes, %+v", list.Version(), changes, f)
	}
	o.fs.Put("data/crl/revoked.pem", []byte("bob \r\n"))
	list.Refresh()
	if f := list.Since(2, ""); list.Version() != 3 || changes != 2 || !f.Full || len(f.Entries) != 3 {
		t.Errorf("version %d, %d changes, %+v", list.Version(), changes, f)
	}
	if f := list.Since(3, ""); f.Full || len(f.Entries) != 0 {
		t.Errorf("%+v", f)
	}
	history, err := o.HistoryOf("alice")
	if err != nil || len(history) != 1 {
		t.Fatal(err)
	}
	if s, e := o.StatusOf(history[0], list); s != ca.Revoked || e.Serial != mtls.Serial(alice) {
		t.Errorf("%s, %+v", s, e)
	}
	history[0].Serial, history[0].Fingerprint, history[0].Name = "1", "", "carol"
	if s, _ := o.StatusOf(history[0], list); s != ca.Active {
		t.Error(s)
	}
	o.now.Advance(400 * 24 * time.Hour)
	if s, _ := o.StatusOf(history[0], list); s != ca.Expired {
		t.Error(s)
	}
}

// TestSupersededCanBecomeStolen: what was only replaced can be revoked again for a reason that
// leaves nothing of it.
func TestSupersededCanBecomeStolen(t *testing.T) {
	o := newOffice(t)
	c := o.issue(ca.Request{Name: "proxy-1", Role: sealmq.RoleProxy})
	o.revoke(ca.Revocation{Name: "proxy-1", Serial: mtls.Serial(c), Reason: "superseded"})
	if _, err := o.Revoke(ca.Revocation{Name: "proxy-1", Serial: mtls.Serial(c), Reason: "superseded"}); !errors.Is(err, ca.ErrAlreadyRevoked) {
		t.Errorf("superseded twice: %v", err)
	}
	o.revoke(ca.Revocation{Name: "proxy-1", Serial: mtls.Serial(c), Reason: "keyCompromise"})
	list, err := o.Revocations(false, nil)
	if err != nil {
		t.Fatal(err)
	}
	var revoked *trust.RevokedError
	if err := list.Check([]*x509.Certificate{c, o.Intermediate(), o.Root()}); !errors.As(err, &revoked) || revoked.Entry.Code != trust.KeyCompromise {
		t.Errorf("%v: %+v", err, revoked)
	}
	crl, err := o.CRL()
	if err != nil {
		t.Fatal(err)
	}
	if e := crl.List.RevokedCertificateEntries; len(e) != 1 || e[0].ReasonCode != int(trust.KeyCompromise) {
		t.Errorf("the CRL has %+v", e)
	}
	if _, err := o.Revoke(ca.Revocation{Name: "proxy-1", Serial: mtls.Serial(c), Reason: "keyCompromise"}); !errors.Is(err, ca.ErrAlreadyRevoked) {
		t.Errorf("stolen twice: %v", err)
	}
}
