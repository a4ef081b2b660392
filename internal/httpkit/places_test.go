package httpkit_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq/internal/httpkit"
)

// hostile are peers without a certificate that hold their connections.
var hostile = []struct {
	name  string
	plain bool   // it does not end its handshake
	sends string // after its handshake
	reads bool   // one answer
}{
	{"silent", true, "", false},
	{"a hello and nothing more", true, clientHello(), false},
	{"silent after the handshake", false, "", false},
	{"keep-alive", false, "GET /health HTTP/1.1\r\nHost: x\r\n\r\n", true},
	{"slow header", false, "GET /health HTTP/1.1\r\nHost:", false},
	{"slow body", false, "POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\nContent-Type: application/json\r\n\r\nx", false},
	{"slow body that is not wanted", false, "POST /who HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\nContent-Type: application/json\r\n\r\nx", false},
	{"reads nothing", false, "GET /endless HTTP/1.1\r\nHost: x\r\n\r\n", false},
	{"HTTP/2 preface, cut", false, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00", false},
}

// clientHello is the first message of a handshake.
func clientHello() string {
	ours, theirs := net.Pipe()
	defer ours.Close()
	go func() { _ = tls.Client(ours, &tls.Config{ServerName: "localhost"}).Handshake() }()
	hello := make([]byte, 4<<10)
	n, _ := theirs.Read(hello)
	return string(hello[:n])
}

func hostileRoutes(rt *httpkit.Router) {
	basic(rt)
	rt.Handle("POST /read", httpkit.Options{Access: httpkit.Public}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
	}))
	rt.Handle("GET /endless", httpkit.Options{Access: httpkit.Public}, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { endless(w) }))
}

func endless(w io.Writer) {
	for block := bytes.Repeat([]byte("x"), 64<<10); ; {
		if _, err := w.Write(block); err != nil {
			return
		}
	}
}

// TestNobodyHoldsAllPlaces: whatever strangers do with theirs, clients get in, and so do other
// strangers.
func TestNobodyHoldsAllPlaces(t *testing.T) {
	const places = 10
	for _, h := range hostile {
		t.Run(h.name, func(t *testing.T) {
			w := newWorld(t, httpkit.Limits{MaxConnections: places, RequestTimeout: 200 * time.Millisecond}, hostileRoutes)
			for range 4 * places {
				c := w.hostile(h.plain, h.sends, h.reads)
				defer c.Close()
			}
			var clients []*http.Client
			for range places - 1 {
				clients = append(clients, w.client(w.ca.ClientTLS("alice"), false))
			}
			for range 2 { // in the second round on the same connections
				for _, c := range clients {
					if a := w.ask(c, "GET", "/who", ""); a.StatusCode != 200 {
						t.Errorf("%d %s", a.StatusCode, a.body)
					}
				}
			}
			for _, conf := range []*tls.Config{w.ca.WithoutCertificate(), w.ca.ClientTLS("bob")} {
				if a := w.ask(w.client(conf, true), "GET", "/health", ""); a.StatusCode != 200 {
					t.Errorf("%d %s", a.StatusCode, a.body)
				}
			}
			if n := w.metric("proxy_connections"); n > places {
				t.Errorf("%v connections are open, the limit is %d", n, places)
			}
			if eventually(func() bool { return w.server.Connections() <= places }) != nil {
				t.Error("connections that made room stay open")
			}
			for _, name := range []string{"proxy_connections", "proxy_connections_limit", "proxy_connections_displaced_total"} {
				if w.metric(name) == 0 {
					t.Errorf("%s is 0", name)
				}
			}
		})
	}
}

// TestEachWaitEnds: a connection that is held ends although nobody needs its place.
func TestEachWaitEnds(t *testing.T) {
	const soon = 300 * time.Millisecond
	limits := httpkit.Limits{HeaderTimeout: soon, ReadTimeout: soon, WriteTimeout: soon, IdleTimeout: soon}
	w := newWorld(t, limits, hostileRoutes)
	for _, h := range hostile {
		c := w.hostile(h.plain, h.sends, h.reads)
		defer c.Close()
		if eventually(func() bool { return w.server.Connections() == 0 }) != nil {
			t.Errorf("%s: the connection stays open", h.name)
		}
	}
	// Over HTTP/2 several requests fill the buffers of the socket. Their handshake may take longer.
	limits.HeaderTimeout = 0
	arrived := make(chan bool, 6)
	w = newWorld(t, limits, func(rt *httpkit.Router) {
		rt.Handle("GET /endless", httpkit.Options{Access: httpkit.Public}, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			arrived <- true
			endless(w)
		}))
	})
	dead := make(chan bool)
	defer close(dead)
	c := w.client(w.ca.WithoutCertificate(), true)
	c.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		raw, err := new(net.Dialer).DialContext(ctx, network, addr)
		return &stops{raw, 64 << 10, dead}, err
	}
	for range 6 {
		go func() { _, _ = w.try(c, "GET", "/endless", "") }()
	}
	<-arrived
	if eventually(func() bool { return w.server.Connections() == 0 }) != nil {
		t.Error("HTTP/2, reads nothing: the connection stays open")
	}
}

// hostile makes a connection that is held. The server may have closed it already.
func (w *world) hostile(plain bool, sends string, reads bool) net.Conn {
	w.t.Helper()
	raw, err := net.Dial("tcp", strings.TrimPrefix(w.url, "https://"))
	if err != nil {
		w.t.Fatal(err)
	}
	if plain {
		_, _ = io.WriteString(raw, sends)
		return raw
	}
	conf := w.ca.WithoutCertificate()
	if strings.HasPrefix(sends, "PRI") {
		conf.NextProtos = []string{"h2"}
	}
	conf.ServerName = "localhost"
	c := tls.Client(raw, conf)
	_, _ = io.WriteString(c, sends)
	if reads {
		_, _ = http.ReadResponse(bufio.NewReader(c), nil)
	} else {
		_ = c.Handshake()
	}
	return c
}

// stops is a connection that reads no more after some bytes.
type stops struct {
	net.Conn
	left int
	dead chan bool
}

func (s *stops) Read(p []byte) (int, error) {
	if s.left <= 0 {
		<-s.dead
		return 0, io.ErrClosedPipe
	}
	n, err := s.Conn.Read(p)
	s.left -= n
	return n, err
}

// metric reads a gauge or counter without labels.
func (w *world) metric(name string) float64 {
	w.t.Helper()
	families, err := w.registry.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.Metric[0].GetGauge().GetValue() + f.Metric[0].GetCounter().GetValue()
		}
	}
	w.t.Fatalf("there is no metric %s", name)
	return 0
}
