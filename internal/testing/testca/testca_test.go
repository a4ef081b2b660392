package testca_test

import (
	"crypto/tls"
	"crypto/x509/pkix"
	"net"
	"testing"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/testing/testca"
)

// handshake returns what the server saw, or its error.
func handshake(t *testing.T, server, client *tls.Config) (tls.ConnectionState, error) {
	t.Helper()
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	done := make(chan error, 1)
	go func() {
		conn := tls.Client(b, client)
		err := conn.Handshake()
		if err == nil {
			// The server's verdict on our certificate comes with the first read.
			_, err = conn.Read(make([]byte, 1))
		}
		done <- err
	}()
	conn := tls.Server(a, server)
	err := conn.Handshake()
	if err == nil {
		_, err = conn.Write([]byte("x"))
	}
	a.Close()
	clientErr := <-done
	if err == nil && clientErr != nil {
		err = clientErr
	}
	return conn.ConnectionState(), err
}

func TestCertificates(t *testing.T) {
	ca, other := testca.New(t), testca.New(t)
	for _, tc := range []struct {
		name   string
		client *tls.Config
		want   sealmq.Identity // ID and Role; zero: refused
	}{
		{"client", ca.ClientTLS("alice"), sealmq.Identity{ID: "alice", Role: sealmq.RoleClient}},
		{"administrator", ca.AdminTLS(), sealmq.Identity{ID: "admin", Role: sealmq.RoleAdmin}},
		{"X.509 v1", ca.V1Client("old"), sealmq.Identity{ID: "old", Role: sealmq.RoleClient}},
		{"none", ca.WithoutCertificate(), sealmq.Identity{}},
		{"expired", ca.ExpiredClient("alice"), sealmq.Identity{}},
		{"from the future", ca.FutureClient("alice"), sealmq.Identity{}},
		{"other authority", ca.ClientWith(other.Leaf("alice", "")), sealmq.Identity{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cs, err := handshake(t, ca.ServerTLS(), tc.client)
			if tc.want.ID == "" {
				if err == nil {
					t.Fatal("accepted")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			id, err := ca.Identify(cs)
			if err != nil || id.ID != tc.want.ID || id.Role != tc.want.Role {
				t.Fatalf("got %+v, %v, want %+v", id, err, tc.want)
			}
		})
	}
}

func TestLeafVersions(t *testing.T) {
	ca := testca.New(t)
	if v := ca.IssueV1(pkix.Name{CommonName: "x"}).Leaf.Version; v != 1 {
		t.Errorf("IssueV1 made version %d", v)
	}
	if ca.Leaf("a", "").Leaf.SerialNumber.Cmp(ca.Leaf("a", "").Leaf.SerialNumber) != 0 {
		t.Error("Leaf made two certificates for one name")
	}
}
