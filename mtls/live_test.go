package mtls_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/testing/testca"
	"github.com/sealmq/sealmq/mtls"
)

func TestLive(t *testing.T) {
	authority := testca.New(t)
	list := &revoked{serials: make(map[string]bool)}
	identifier := mtls.NewIdentifier(authority.Root())
	identifier.Revocation = list
	state := func(name string) tls.ConnectionState {
		leaf := authority.Leaf(name, sealmq.RoleClient).Leaf
		return tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}, VerifiedChains: [][]*x509.Certificate{{leaf, authority.Root()}}}
	}
	live := mtls.NewLive(identifier)
	ended := make(map[string]int)
	add := func(name string) (remove func()) {
		t.Helper()
		id, remove, err := live.Add(state(name), func(why error) {
			if !errors.Is(why, mtls.ErrRevoked) {
				t.Errorf("%s ended: %v", name, why)
			}
			ended[name]++
		})
		if err != nil || id.ID != name {
			t.Fatal(id, err)
		}
		return remove
	}
	defer add("bob")()
	defer add("alice")()
	defer add("alice")()
	add("carol")()
	live.Recheck()
	if len(ended) != 0 || live.Len() != 3 {
		t.Errorf("ended %v, %d left", ended, live.Len())
	}
	for _, name := range []string{"alice", "carol"} {
		list.add(authority.Leaf(name, sealmq.RoleClient).Leaf)
	}
	live.Recheck()
	live.Recheck()
	if len(ended) != 1 || ended["alice"] != 2 {
		t.Errorf("ended %v", ended)
	}
	if _, _, err := live.Add(state("alice"), nil); !errors.Is(err, mtls.ErrRevoked) || live.Len() != 3 {
		t.Errorf("a revoked one: %v, %d in it", err, live.Len())
	}
	if _, _, err := live.Add(tls.ConnectionState{}, nil); err == nil || live.Len() != 3 {
		t.Errorf("one without a certificate: %v", err)
	}
}

func TestConnectionEndsWithItsCertificate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		authority := testca.New(t)
		template := authority.Template("alice", sealmq.RoleClient)
		template.NotAfter = time.Now().Add(5 * time.Hour).Truncate(time.Second)
		leaf := authority.Issue(template).Leaf
		cs := tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}, VerifiedChains: [][]*x509.Certificate{{leaf, authority.Root()}}}
		live := mtls.NewLive(mtls.NewIdentifier(authority.Root()))
		var ended, stopped atomic.Int32
		_, remove, err := live.Add(cs, func(error) { ended.Add(1) })
		if err != nil {
			t.Fatal(err)
		}
		defer remove()
		mtls.WhenExpired(cs, func() { stopped.Add(1) })()
		mtls.WhenExpired(tls.ConnectionState{}, func() { stopped.Add(1) })()
		time.Sleep(time.Until(template.NotAfter))
		synctest.Wait()
		if ended.Load() != 0 {
			t.Error("it ended in its last second")
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if ended.Load() != 1 || stopped.Load() != 0 {
			t.Errorf("ended %d times, stopped ones %d", ended.Load(), stopped.Load())
		}
	})
}

// BenchmarkRecheck is what a revocation costs with a thousand connections.
func BenchmarkRecheck(b *testing.B) {
	authority := testca.New(b)
	live := mtls.NewLive(mtls.NewIdentifier(authority.Root()))
	for i := range 1000 {
		leaf := authority.Leaf(fmt.Sprint("client-", i), sealmq.RoleClient).Leaf
		cs := tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}, VerifiedChains: [][]*x509.Certificate{{leaf, authority.Root()}}}
		if _, _, err := live.Add(cs, func(error) {}); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		live.Recheck()
	}
}
