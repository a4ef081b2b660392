package mtls_test

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/testing/testca"
	"github.com/sealmq/sealmq/mtls"
)

func state(chain ...*x509.Certificate) tls.ConnectionState {
	return tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{chain}}
}

func uris(list ...string) []*url.URL {
	var us []*url.URL
	for _, s := range list {
		u, err := url.Parse(s)
		if err != nil {
			panic(err)
		}
		us = append(us, u)
	}
	return us
}

func TestIdentify(t *testing.T) {
	authority := testca.New(t)
	cn := func(names ...string) pkix.Name {
		var n pkix.Name
		for _, v := range names {
			n.ExtraNames = append(n.ExtraNames, pkix.AttributeTypeAndValue{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: v})
		}
		return n
	}
	const refused = "!"
	for _, tc := range []struct {
		name    string
		subject pkix.Name
		uris    []string
		id      string // refused: an error
		role    sealmq.Role
	}{
		{"name and URI", cn("alice"), []string{"sealmq:client/alice"}, "alice", "client"},
		{"name only", cn("alice"), nil, "alice", "client"},
		{"URI only", pkix.Name{}, []string{"sealmq:client/alice"}, "alice", "client"},
		{"neither", pkix.Name{Organization: []string{"x"}}, nil, "sha256:", "client"},
		{"empty name", cn(""), nil, "sha256:", "client"},
		{"first of two names", cn("alice", "admin"), nil, "alice", "client"},
		{"name with inner space", cn("Jane Doe"), nil, "Jane Doe", "client"},
		{"name in another script", cn("Ångström 実験"), nil, "Ångström 実験", "client"},
		{"foreign URIs", cn("alice"), []string{"spiffe://x/y", "urn:sealmq:client/eve"}, "alice", "client"},
		{"role", cn("eve"), []string{"sealmq:client/eve", "sealmq:role/admin"}, "eve", "admin"},
		{"role without client URI", cn("eve"), []string{"sealmq:role/worker"}, "eve", "worker"},
		{"reserved name without role", cn("admin"), nil, "admin", "client"},
		{"proxy by name below our root", cn("proxy-1"), nil, "proxy-1", "client"},

		{"they differ", cn("alice"), []string{"sealmq:client/bob"}, refused, ""},
		{"they differ in case", cn("Alice"), []string{"sealmq:client/alice"}, refused, ""},
		{"the URI agrees with the second name", cn("alice", "bob"), []string{"sealmq:client/bob"}, refused, ""},
		{"two client URIs", cn("alice"), []string{"sealmq:client/alice", "sealmq:client/alice"}, refused, ""},
		{"two roles", cn("alice"), []string{"sealmq:role/client", "sealmq:role/admin"}, refused, ""},
		{"unknown role", cn("alice"), []string{"sealmq:role/root"}, refused, ""},
		{"unknown kind of URI", cn("alice"), []string{"sealmq:group/admins"}, refused, ""},
		{"URI with authority part", cn("alice"), []string{"sealmq://client/alice"}, refused, ""},
		{"URI with query", cn("alice"), []string{"sealmq:client/alice?role=admin"}, refused, ""},
		{"URI with fragment", cn("alice"), []string{"sealmq:client/alice#admin"}, refused, ""},
		{"URI with escape", cn("alice"), []string{"sealmq:client/al%69ce"}, refused, ""},
		{"URI with slash", pkix.Name{}, []string{"sealmq:client/a/b"}, refused, ""},
		{"URI without name", cn("alice"), []string{"sealmq:client/"}, refused, ""},
		{"NUL", cn("admin\x00.evil"), nil, refused, ""},
		{"line feed", cn("alice\nACK 1"), nil, refused, ""},
		{"right-to-left mark", cn("alice\u202e"), nil, refused, ""},
		{"zero-width space", cn("ali\u200bce"), nil, refused, ""},
		{"no-break space", cn("admin\u00a0"), nil, refused, ""},
		{"Hangul filler", cn("admin\u3164"), nil, refused, ""},
		{"variation selector", cn("admin\ufe0f"), nil, refused, ""},
		{"braille blank", cn("\u2800admin"), nil, refused, ""},
		{"leading space", cn(" alice"), nil, refused, ""},
		{"trailing space", cn("alice "), nil, refused, ""},
		{"only spaces", cn("  "), nil, refused, ""},
		{"looks like a fingerprint", cn("sha256:" + strings.Repeat("0", 64)), nil, refused, ""},
		{"looks like a fingerprint in capitals", cn("SHA256:AA"), nil, refused, ""},
		{"very long", cn(strings.Repeat("a", 256)), nil, refused, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			template := authority.Template("", "")
			template.Subject, template.URIs = tc.subject, uris(tc.uris...)
			leaf := authority.Issue(template).Leaf
			got, err := authority.Identify(state(leaf, authority.Root()))
			if tc.id == refused {
				if err == nil {
					t.Fatalf("identity %+v", got)
				}
				if !strings.Contains(err.Error(), mtls.Serial(leaf)) {
					t.Errorf("%q does not name the certificate", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got.ID != tc.id && !(tc.id == "sha256:" && len(got.ID) == len("sha256:")+64) || got.Role != tc.role {
				t.Errorf("%+v, want %q with role %q", got, tc.id, tc.role)
			}
			if len(got.Issuer) != len("sha256:")+64 {
				t.Errorf("issuer %q", got.Issuer)
			}
			if wantCN := strings.HasPrefix(tc.id, "sha256:") || tc.subject.ExtraNames == nil; (got.CommonName == "") != wantCN {
				t.Errorf("common name %q", got.CommonName)
			}
		})
	}
}

func TestTwoAuthorities(t *testing.T) {
	own, imported := testca.New(t), testca.New(t)
	identifier := mtls.NewIdentifier(own.Root())
	identify := func(ca *testca.CA, cn string, role sealmq.Role) sealmq.Identity {
		t.Helper()
		id, err := identifier.Identify(state(ca.Leaf(cn, role).Leaf, ca.Root()))
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	if a, b := identify(own, "alice", ""), identify(imported, "alice", ""); a.ID != b.ID || a.Issuer == b.Issuer {
		t.Errorf("the same name of two authorities: %+v and %+v", a, b)
	}
	for _, tc := range []struct {
		ca   *testca.CA
		cn   string
		role sealmq.Role // as written
		want sealmq.Role
	}{
		{own, "x", sealmq.RoleAdmin, sealmq.RoleAdmin},
		{own, "x", sealmq.RoleServer, sealmq.RoleServer},
		{own, "admin", "", sealmq.RoleClient},
		{own, "worker", "", sealmq.RoleClient},
		{imported, "x", sealmq.RoleAdmin, sealmq.RoleClient},
		{imported, "x", sealmq.RoleWorker, sealmq.RoleClient},
		{imported, "admin", sealmq.RoleAdmin, sealmq.RoleClient},
		{imported, "admin", "", sealmq.RoleClient},
		{imported, "admin-1", "", sealmq.RoleClient},
		{imported, "worker-1", sealmq.RoleAdmin, sealmq.RoleWorker},
		{imported, "proxy", "", sealmq.RoleProxy},
		{imported, "proxy-a.b", "", sealmq.RoleProxy},
		{imported, "localhost", "", sealmq.RoleServer},
		{imported, "proxy-", "", sealmq.RoleClient},
		{imported, "Proxy", "", sealmq.RoleClient},
		{imported, "proxy-a b", "", sealmq.RoleClient},
		{imported, "xproxy", "", sealmq.RoleClient},
	} {
		if got := identify(tc.ca, tc.cn, tc.role).Role; got != tc.want {
			t.Errorf("%q with role %q, imported %v: got %q, want %q", tc.cn, tc.role, tc.ca == imported, got, tc.want)
		}
	}
	if id, err := mtls.NewIdentifier().Identify(state(own.Leaf("admin", sealmq.RoleAdmin).Leaf, own.Root())); err != nil || id.Role == sealmq.RoleAdmin {
		t.Errorf("without an authority of our own: %+v, %v", id, err)
	}
}

func TestIdentifyNeedsAVerifiedChain(t *testing.T) {
	leaf := testca.New(t).Leaf("alice", "").Leaf
	for name, cs := range map[string]tls.ConnectionState{
		"nothing":    {},
		"unverified": {PeerCertificates: []*x509.Certificate{leaf}},
		"empty":      {VerifiedChains: [][]*x509.Certificate{{}}},
	} {
		if id, err := mtls.NewIdentifier().Identify(cs); err == nil {
			t.Errorf("%s: %+v", name, id)
		}
	}
}

func TestFingerprintIsStable(t *testing.T) {
	ca := testca.New(t)
	leaf := ca.IssueV1(pkix.Name{Organization: []string{"x"}}).Leaf
	a, err := ca.Identify(state(leaf, ca.Root()))
	if err != nil {
		t.Fatal(err)
	}
	again, err := x509.ParseCertificate(leaf.Raw)
	if err != nil {
		t.Fatal(err)
	}
	b, err := ca.Identify(state(again, ca.Root()))
	if err != nil || a != b {
		t.Errorf("%+v, then %+v, %v", a, b, err)
	}
	c, _ := ca.Identify(state(ca.IssueV1(pkix.Name{Organization: []string{"x"}}).Leaf, ca.Root()))
	if c.ID == a.ID {
		t.Error("two certificates share a fingerprint")
	}
}

// TestIdentityComesFromAChainThatPasses: with cross-signed authorities the first chain is
// no better than the others.
func TestIdentityComesFromAChainThatPasses(t *testing.T) {
	now := time.Now()
	cert := func(name, key string, end time.Time) *x509.Certificate {
		return &x509.Certificate{RawSubjectPublicKeyInfo: []byte(key), NotBefore: now.Add(-time.Hour), NotAfter: end,
			SerialNumber: big.NewInt(int64(len(name))), Subject: pkix.Name{CommonName: name}}
	}
	soon := now.Add(time.Hour)
	leaf := cert("leaf", "leaf", soon)
	leaf.URIs = uris("sealmq:client/eve", "sealmq:role/admin")
	own, foreign := cert("own", "own", soon), cert("foreign root", "foreign", soon)
	between, late := cert("cross-signed", "between", soon), cert("cross-signed, ended", "between", now.Add(-time.Minute))
	list := &revoked{serials: map[string]bool{}}
	i := mtls.NewIdentifier(own)
	i.Revocation = list
	type chains = [][]*x509.Certificate
	for name, tc := range map[string]struct {
		chains  chains
		revoked *x509.Certificate
		role    sealmq.Role // "": refused
	}{
		"ours is preferred":          {chains{{leaf, foreign}, {leaf, between, own}}, nil, sealmq.RoleAdmin},
		"ours has something revoked": {chains{{leaf, between, own}, {leaf, foreign}}, between, sealmq.RoleClient},
		"ours has ended":             {chains{{leaf, late, own}, {leaf, foreign}}, nil, sealmq.RoleClient},
		"all have something revoked": {chains{{leaf, own}, {leaf, foreign}}, leaf, ""},
		"all have ended":             {chains{{leaf, late, own}, {leaf, late, foreign}}, nil, ""},
	} {
		list.serials = map[string]bool{}
		if tc.revoked != nil {
			list.add(tc.revoked)
		}
		id, err := i.Identify(tls.ConnectionState{VerifiedChains: tc.chains})
		if id.Role != tc.role || (err != nil) != (tc.role == "") {
			t.Errorf("%s: %+v, error %v", name, id, err)
		}
	}
}
