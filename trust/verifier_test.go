package trust_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/testing/testca"
	"github.com/sealmq/sealmq/mtls"
	"github.com/sealmq/sealmq/seal"
	"github.com/sealmq/sealmq/trust"
)

// TestOnlyAuthoritiesAreBelieved: a leaf in a file of authorities would vouch for itself.
func TestOnlyAuthoritiesAreBelieved(t *testing.T) {
	ca := testca.New(t)
	f := ca.Files()
	leaf, err := os.ReadFile(f.AdminCert)
	if err != nil {
		t.Fatal(err)
	}
	testca.WriteFile(t, f.CA, append(ca.RootPEM(), leaf...))
	want := "is not the certificate of an authority"
	if _, err := trust.ReadVerifier(f.CA); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("verifier: %v", err)
	}
	if _, err := trust.ReadIdentifier(f.CA, nil); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("identifier: %v", err)
	}
	if _, err := mtls.ServerConfig(mtls.Files{Cert: f.ServerCert, Key: f.ServerKey, CA: f.CA}, mtls.Options{}); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("server: %v", err)
	}
}

func TestFileVerifierReadsItsFileEachTime(t *testing.T) {
	first, second := testca.New(t), testca.New(t)
	f := first.Files()
	v := trust.FileVerifier{CA: f.CA}
	now := time.Now()
	check := func(what string, ca *testca.CA, want error) {
		t.Helper()
		s, err := v.Verify([]*x509.Certificate{ca.Leaf("alice", sealmq.RoleClient).Leaf}, now)
		if !errors.Is(err, want) || err == nil && s.ID != "alice" {
			t.Errorf("%s: %+v, %v; want %v", what, s, err, want)
		}
	}
	check("first", first, nil)
	check("first", second, seal.ErrUntrusted)
	testca.WriteFile(t, f.CA, second.RootPEM())
	check("second", second, nil)
	check("second", first, seal.ErrUntrusted)
	testca.WriteFile(t, f.CA, []byte("x"))
	check("damaged", second, seal.ErrUndecided)
	testca.WriteFile(t, f.CA, second.RootPEM())
	list := filepath.Join(f.Dir, "revoked.txt")
	testca.WriteFile(t, list, []byte("certificate "+mtls.Fingerprint(second.Leaf("alice", sealmq.RoleClient).Leaf)+"\n"))
	var err error
	if v.Revocation, err = openOneList(list, false, nil); err != nil {
		t.Fatal(err)
	}
	check("revoked", second, seal.ErrRevoked)

	// Roles are those of our own authority, which may change too.
	v = trust.FileVerifier{CA: f.CA, OwnRoot: filepath.Join(f.Dir, "own.crt")}
	role := func(want sealmq.Role) {
		t.Helper()
		s, err := v.Verify([]*x509.Certificate{second.Leaf("edge", sealmq.RoleProxy).Leaf}, now)
		if err != nil || s.Role != want {
			t.Errorf("%+v, %v; want the role %s", s, err, want)
		}
	}
	role(sealmq.RoleClient)
	testca.WriteFile(t, v.OwnRoot, second.RootPEM())
	role(sealmq.RoleProxy)
}

// TestRolesOfOurOwnAuthority: without the file of our root nobody has more than a name
// gives.
func TestRolesOfOurOwnAuthority(t *testing.T) {
	ours, foreign := testca.New(t), testca.New(t)
	file := ours.Files().CA
	for _, tc := range []struct {
		name, file string
		ca         *testca.CA
		want       sealmq.Role
	}{
		{"ours", file, ours, sealmq.RoleAdmin},
		{"foreign", file, foreign, sealmq.RoleClient},
		{"no authority of our own", file + ".none", ours, sealmq.RoleClient},
	} {
		i, err := trust.ReadIdentifier(tc.file, nil)
		if err != nil {
			t.Fatal(err)
		}
		leaf := tc.ca.Leaf("admin", sealmq.RoleAdmin).Leaf
		id, err := i.Identify(tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{leaf, tc.ca.Root()}}})
		if err != nil || id.Role != tc.want {
			t.Errorf("%s: %+v, %v", tc.name, id, err)
		}
	}
}

func TestReadSigner(t *testing.T) {
	f := testca.New(t).Files()
	if _, err := trust.ReadSigner(mtls.Files{Cert: f.AdminCert, Key: f.AdminKey}, "admin"); err != nil {
		t.Error(err)
	}
	if _, err := trust.ReadSigner(mtls.Files{Cert: f.AdminCert, Key: f.ServerKey}, "admin"); err == nil {
		t.Error("a key of another certificate was taken")
	}
}

// TestSupersededSigner: a certificate that was replaced is believed for what was sealed before, and
// for no other reason of a revocation.
func TestSupersededSigner(t *testing.T) {
	ca := testca.New(t)
	leaf := ca.Leaf("proxy", sealmq.RoleProxy).Leaf
	now := time.Now()
	revokedAt := now.Add(-time.Minute)
	superseded := trust.Entry{Version: 1, Scope: trust.ScopeCertificate, Serial: mtls.Serial(leaf), Issuer: mtls.Issuer(ca.Root()), Code: trust.Superseded, RevokedAt: revokedAt}
	stolen := trust.Entry{Version: 2, Scope: trust.ScopeCertificate, Fingerprint: mtls.Fingerprint(leaf), Code: trust.KeyCompromise, RevokedAt: now}
	name := trust.Entry{Version: 2, Scope: trust.ScopeName, Name: "proxy", RevokedAt: now}
	sameSerial := stolen
	sameSerial.Fingerprint, sameSerial.Serial, sameSerial.Issuer = "", superseded.Serial, superseded.Issuer
	undated := superseded
	undated.RevokedAt = time.Time{}
	for what, tc := range map[string]struct {
		entries  []trust.Entry
		sealedAt time.Time
		want     error
	}{
		"before":                       {[]trust.Entry{superseded}, revokedAt.Add(-10 * time.Minute), nil},
		"while the file was replaced":  {[]trust.Entry{superseded}, revokedAt.Add(10 * time.Second), nil},
		"long after":                   {[]trust.Entry{superseded}, revokedAt.Add(seal.DefaultMaxSkew + time.Second), seal.ErrRevoked},
		"no time of the revocation":    {[]trust.Entry{undated}, revokedAt.Add(-10 * time.Minute), seal.ErrRevoked},
		"stolen":                       {[]trust.Entry{stolen}, revokedAt.Add(-10 * time.Minute), seal.ErrRevoked},
		"stolen after all":             {[]trust.Entry{superseded, stolen}, revokedAt.Add(-10 * time.Minute), seal.ErrRevoked},
		"stolen, by its serial number": {[]trust.Entry{superseded, sameSerial}, revokedAt.Add(-10 * time.Minute), seal.ErrRevoked},
		"the whole name":               {[]trust.Entry{superseded, name}, revokedAt.Add(-10 * time.Minute), seal.ErrRevoked},
	} {
		list, err := trust.OpenRevocations(trust.ListConfig{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := list.Apply(trust.Feed{Version: 2, Full: true, Entries: tc.entries}); err != nil {
			t.Fatal(err)
		}
		if err := list.Check([]*x509.Certificate{leaf, ca.Root()}); !errors.Is(err, mtls.ErrRevoked) {
			t.Errorf("%s: as a connection: %v", what, err)
		}
		v := trust.NewVerifier(ca.Root())
		v.Revocation = list
		s, err := v.Verify([]*x509.Certificate{leaf}, tc.sealedAt)
		if !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", what, err, tc.want)
		}
		if latest := revokedAt.Add(seal.DefaultMaxSkew).Add(time.Second); err == nil && s.NotAfter.After(latest) {
			t.Errorf("%s: the answer holds until %v", what, s.NotAfter)
		}
	}
	v := trust.NewVerifier(ca.Root())
	v.Now = func() time.Time { return now.Add(trust.MaxAge) }
	list, err := trust.OpenRevocations(trust.ListConfig{})
	if err != nil {
		t.Fatal(err)
	}
	superseded.RevokedAt = now.Add(-time.Hour)
	if _, err := list.Apply(trust.Feed{Version: 1, Full: true, Entries: []trust.Entry{superseded}}); err != nil {
		t.Fatal(err)
	}
	v.Revocation = list
	if _, err := v.Verify([]*x509.Certificate{leaf}, now.Add(-58*time.Minute)); !errors.Is(err, seal.ErrExpired) {
		t.Errorf("older than the maximum age: %v", err)
	}
}
