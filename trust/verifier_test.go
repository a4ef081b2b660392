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
	if v.Revocation, err = trust.OpenRevocationList(list, false, nil); err != nil {
		t.Fatal(err)
	}
	check("revoked", second, seal.ErrRevoked)
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
