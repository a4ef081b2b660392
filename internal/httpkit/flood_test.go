package httpkit_test

import (
	"context"
	"crypto/tls"
	"flag"
	"io"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealmq/sealmq/internal/httpkit"
	"github.com/sealmq/sealmq/mtls"
)

var flood = flag.Duration("flood", 0, "how long TestFloodOfHandshakes measures")

// elsewhere connects from another address of this machine.
func elsewhere(t *testing.T) *net.Dialer {
	if runtime.GOOS != "linux" {
		t.Skip("only on Linux are all of 127.0.0.0/8 this machine")
	}
	return &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
}

// TestOneAddressLeavesHandshakesToOthers: however many handshakes of an address run, and wait for
// their turn, another address gets its own.
func TestOneAddressLeavesHandshakesToOthers(t *testing.T) {
	const slots = 8
	elsewhere := elsewhere(t)
	w := newWorld(t, httpkit.Limits{}, basic)
	f := w.ca.Files()
	conf, err := mtls.HTTPSConfig(mtls.Files{Cert: f.ServerCert, Key: f.ServerKey, CA: f.CA}, mtls.Options{Revocation: w.list})
	if err != nil {
		t.Fatal(err)
	}
	running, free := make(chan struct{}, 10*slots), make(chan struct{})
	verify := conf.VerifyConnection
	conf.GetConfigForClient = nil
	conf.VerifyConnection = func(cs tls.ConnectionState) error {
		if cs.PeerCertificates[0].Subject.CommonName == "greedy" {
			running <- struct{}{}
			<-free
		}
		return verify(cs)
	}
	server, err := httpkit.Listen("127.0.0.1:0", conf, w.router, httpkit.Limits{Handshakes: slots})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve() }()
	defer func() { // and those that wait end with the server
		close(free)
		server.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	for range 3 * slots {
		c, err := net.Dial("tcp", server.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		go func() { _ = tls.Client(c, w.ca.ClientTLS("greedy")).Handshake() }()
	}
	for range slots / 2 {
		<-running
	}
	w.url = "https://" + server.Addr().String()
	for range 2 * slots {
		c := w.client(w.ca.ClientTLS("alice"), false)
		c.Transport.(*http.Transport).DialContext = elsewhere.DialContext
		if a := w.ask(c, "GET", "/who", ""); a.StatusCode != 200 {
			t.Errorf("%d %s", a.StatusCode, a.body)
		}
	}
	if len(running) > 0 {
		t.Errorf("one address has %d of %d turns", slots/2+len(running), slots)
	}
}

// TestFloodOfHandshakes measures how clients fare while strangers have the server compute
// handshakes without end.
func TestFloodOfHandshakes(t *testing.T) {
	if *flood == 0 {
		t.Skip("run with -flood")
	}
	const strangers, clients = 200, 20
	elsewhere := elsewhere(t)
	w := newWorld(t, httpkit.Limits{}, basic)
	addr := strings.TrimPrefix(w.url, "https://")
	ctx, cancel := context.WithTimeout(t.Context(), *flood)
	defer cancel()
	hello := clientHello()
	var strange, honest sync.WaitGroup
	var hellos atomic.Int64
	for range strangers {
		strange.Go(func() {
			for ctx.Err() == nil {
				c, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
				if err != nil {
					continue
				}
				release := context.AfterFunc(ctx, func() { c.Close() })
				_, _ = io.WriteString(c, hello)
				if _, err := c.Read(make([]byte, 1)); err == nil {
					hellos.Add(1)
				}
				release()
				_ = c.(*net.TCPConn).SetLinger(0)
				c.Close()
			}
		})
	}
	var mu sync.Mutex
	var took []time.Duration
	failed := 0
	for range clients {
		honest.Go(func() {
			tr := &http.Transport{TLSClientConfig: w.ca.ClientTLS("alice"), DisableKeepAlives: true, DialContext: elsewhere.DialContext}
			c := &http.Client{Transport: tr, Timeout: 10 * time.Second}
			for ctx.Err() == nil {
				begin := time.Now()
				a, err := w.try(c, "GET", "/who", "")
				mu.Lock()
				if took = append(took, time.Since(begin)); err != nil || a.StatusCode != 200 {
					failed++
				}
				mu.Unlock()
			}
		})
	}
	honest.Wait()
	cancel()
	strange.Wait()
	slices.Sort(took)
	t.Logf("%d hellos answered; of %d requests with a handshake %d failed, median %v, p95 %v",
		hellos.Load(), len(took), failed, took[len(took)/2], took[len(took)*95/100])
}
