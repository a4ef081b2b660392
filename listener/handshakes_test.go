package listener_test

import (
	"crypto/tls"
	"net"
	"runtime"
	"testing"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/listener"
)

// TestOneAddressLeavesHandshakesToOthers: however many handshakes of an address are under way, and
// wait for their turn, another address gets its own.
func TestOneAddressLeavesHandshakesToOthers(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only on Linux are all of 127.0.0.0/8 this machine")
	}
	const slots = 8
	asked, free := make(chan struct{}, 10*slots), make(chan struct{})
	n := start(t, nil, func(cfg *listener.Config) {
		cfg.Limits.Handshakes = slots
		identify := cfg.Identify
		cfg.Identify = func(cs tls.ConnectionState) (sealmq.Identity, error) {
			if cs.PeerCertificates[0].Subject.CommonName == "greedy" {
				asked <- struct{}{}
				<-free
			}
			return identify(cs)
		}
	})
	defer close(free)
	for range 3 * slots {
		c, err := net.Dial("tcp", n.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		go func() { _ = tls.Client(c, n.ca.ClientTLS("greedy")).Handshake() }()
	}
	for range slots / 2 {
		<-asked
	}
	elsewhere := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	for range 2 * slots {
		tcp, err := elsewhere.Dial("tcp", n.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer tcp.Close()
		p := &peer{tb: t, tcp: tcp, Conn: tls.Client(tcp, n.ca.ClientTLS("honest"))}
		p.do("ping", "Pong")
	}
	if len(asked) > 0 {
		t.Errorf("one address has %d of %d slots", slots/2+len(asked), slots)
	}
}
