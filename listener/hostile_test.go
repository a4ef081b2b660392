package listener_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/testing/testca"
	"github.com/sealmq/sealmq/listener"
	"github.com/sealmq/sealmq/protocol/text"
)

const refused = "sealmq_server_connections_refused_total"

// wantRefused waits until that many connections were refused for a reason.
func (n *node) wantRefused(reason string, count float64) {
	n.tb.Helper()
	if err := eventually(func() bool { return metric(n.tb, n.counts, refused, reason) == count }); err != nil {
		n.tb.Fatalf("%v connections refused as %s, want %v", metric(n.tb, n.counts, refused, reason), reason, count)
	}
}

// untilEnd reads a raw connection to its end.
func untilEnd(t *testing.T, c net.Conn) []byte {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(patience))
	received, err := io.ReadAll(c)
	if err != nil && !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, io.ErrClosedPipe) {
		t.Fatalf("the connection did not end: %v", err)
	}
	return received
}

func TestHostilePlainTCP(t *testing.T) {
	n := start(t, nil, nil)
	c, err := net.Dial("tcp", n.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "declare_queue q\nping\n")
	if got := untilEnd(t, c); len(got) > 0 && got[0] != 0x15 { // a TLS alert is all that may come
		t.Errorf("received %q", got)
	}
	n.wantRefused("plain", 1)
}

func TestHostileCertificates(t *testing.T) {
	n := start(t, nil, nil)
	for name, cfg := range map[string]*tls.Config{
		"none":          n.ca.WithoutCertificate(),
		"other CA":      otherCA(t, n.ca),
		"expired":       n.ca.ExpiredClient("late"),
		"not yet valid": n.ca.FutureClient("early"),
	} {
		t.Run(name, func(t *testing.T) {
			p, err := n.dial(cfg)
			if err != nil {
				return // TLS 1.2 tells in the handshake
			}
			defer p.tcp.Close()
			_, _ = p.Write([]byte("ping\n"))
			if got, err := io.ReadAll(p.Conn); len(got) > 0 || err == nil {
				t.Errorf("received %q, error %v", got, err)
			}
		})
	}
	n.wantRefused("certificate", 3)
	n.wantRefused("no_certificate", 1)
	if n.server.Count() != 0 || metric(t, n.text, "sealmq_text_commands_total", "ping") != 0 {
		t.Error("a stranger was let in")
	}
}

// otherCA is a client that trusts our server and shows it a certificate of another
// authority although it is told that this is not wanted.
func otherCA(t *testing.T, ours *testca.CA) *tls.Config {
	cfg := testca.New(t).ClientTLS("stranger")
	cfg.RootCAs = ours.Pool()
	cert := cfg.Certificates[0]
	cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
	return cfg
}

// TestHostileSilence: peers that never speak are closed, and take nobody's turn.
func TestHostileSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, pipes := startPipes(t, func(cfg *listener.Config) { cfg.Limits.Handshakes = 1 })
		var silent []net.Conn
		for range 50 {
			c := dialPipe(t, pipes)
			defer c.Close()
			silent = append(silent, c)
		}
		synctest.Wait()
		began := time.Now()
		n.connectPipe(pipes, n.ca.ClientTLS("honest")).do("ping", "Pong")
		if took := time.Since(began); took > 0 {
			t.Errorf("an honest client waited %v", took)
		}
		for _, c := range silent {
			if got := untilEnd(t, c); len(got) > 0 {
				t.Fatalf("received %q", got)
			}
		}
		if took := time.Since(began); took != listener.DefaultHandshakeTimeout {
			t.Errorf("silent clients were closed after %v", took)
		}
		n.wantRefused("timeout", 50)
	})
}

// TestHostileHalfHandshake: a peer that stops in the middle of its handshake holds no
// slot while it is waited for, so an honest client does not wait at all.
func TestHostileHalfHandshake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, pipes := startPipes(t, func(cfg *listener.Config) { cfg.Limits.Handshakes = 1 })
		half := dialPipe(t, pipes)
		defer half.Close()
		_, _ = half.Write([]byte{0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3}) // the start of a ClientHello
		time.Sleep(time.Second)
		began := time.Now()
		n.connectPipe(pipes, n.ca.ClientTLS("honest")).do("ping", "Pong")
		if took := time.Since(began); took > 0 {
			t.Errorf("an honest client waited %v for the slot", took)
		}
		if got := untilEnd(t, half); len(got) > 0 {
			t.Errorf("received %x", got)
		}
		n.wantRefused("timeout", 1)
	})
}

func TestHostileManyConnections(t *testing.T) {
	n := start(t, nil, func(cfg *listener.Config) { cfg.Limits.Connections, cfg.Limits.ConnectionsPerIdentity = 5, 5 })
	var inside []*peer
	for range 5 {
		p := n.connect("a")
		p.do("ping", "Pong")
		inside = append(inside, p)
	}
	n.connect("b").want("Error: too many connections, the limit is 5")
	n.wantRefused("limit", 1)
	for _, p := range inside {
		p.do("ping", "Pong")
	}
	admin := n.connectWith(n.ca.AdminTLS())
	admin.do("ping", "Pong")
	n.connect("b").wantEnd()
	admin.tcp.Close()
	if err := n.waitForCount(5); err != nil {
		t.Fatal(err)
	}
	inside[0].tcp.Close()
	if err := n.waitForCount(4); err != nil {
		t.Fatal(err)
	}
	n.connect("b").do("ping", "Pong")
}

// TestHostileStrangers: peers that show no certificate have places of their own, and give them
// to honest ones, whose number is small beside theirs, and who come from the same address too.
func TestHostileStrangers(t *testing.T) {
	const places = 50
	ours, theirs := net.Pipe()
	go func() { _ = tls.Client(ours, &tls.Config{ServerName: "localhost"}).Handshake() }()
	hello := make([]byte, 4<<10)
	length, err := theirs.Read(hello)
	if err != nil {
		t.Fatal(err)
	}
	ours.Close()
	for name, first := range map[string][]byte{
		"silent":        nil,
		"half a hello":  hello[:20],
		"a whole hello": hello[:length],
	} {
		t.Run(name, func(t *testing.T) {
			n := start(t, nil, func(cfg *listener.Config) {
				cfg.Limits = listener.Limits{Connections: places, ConnectionsPerIdentity: places, Unidentified: places, HandshakeTimeout: time.Hour}
			})
			for range 8 * places {
				c, err := net.Dial("tcp", n.addr)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				_, _ = c.Write(first) // the server may have ended it
			}
			elsewhere := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
			var honest []*peer
			for i := range places {
				dial := net.Dial
				if i%2 == 0 && runtime.GOOS == "linux" {
					dial = elsewhere.Dial
				}
				tcp, err := dial("tcp", n.addr)
				if err != nil {
					t.Fatal(err)
				}
				defer tcp.Close()
				p := &peer{tb: t, tcp: tcp, Conn: tls.Client(tcp, n.ca.ClientTLS("honest"))}
				p.do("ping", "Pong")
				honest = append(honest, p)
			}
			for _, p := range honest {
				p.do("ping", "Pong")
			}
			n.wantRefused("displaced", 7*places+1) // an honest one needs its place for a moment only
			if got := metric(t, n.counts, "sealmq_server_connections_unidentified_limit", ""); got != places {
				t.Errorf("the limit is %v", got)
			}
		})
	}
}

func TestHostileGarbage(t *testing.T) {
	n := start(t, nil, nil)
	c := n.connect("a")
	r := rand.New(rand.NewPCG(1, 2))
	garbage := make([]byte, 64<<10)
	for i := range garbage {
		garbage[i] = byte(r.Uint32())
	}
	lines := bytes.Count(garbage, []byte("\n"))
	go func() { _, _ = c.Write(append(garbage, "\nping\n"...)) }()
	for range lines + 1 {
		if got := c.next(); got != "Unknown command" {
			t.Fatalf("received %q", got)
		}
	}
	c.want("Pong")
	if got := metric(t, n.text, "sealmq_text_protocol_errors_total", "unknown_command"); got != float64(lines+1) {
		t.Errorf("%v unknown commands were counted, want %d", got, lines+1)
	}
}

func TestHostileInvalidUTF8(t *testing.T) {
	n := start(t, nil, nil)
	c := n.connect("a")
	c.do("bind q x k", "Queue bound")
	for _, line := range []string{
		"publish x k {\"message_id\":\"a\",\"ciphertext\":\"\xff\"}",
		"publish x k {\"message_id\":\"\xc3\"}",
		"publish_batch x k [{\"message_id\":\"a\xed\xa0\x80\"}]",
		"declare_queue \xff", "bind q x \xc0\xaf", "ack \xfe", "publish \xff k {\"message_id\":\"a\"}",
	} {
		c.send(line)
		if got := c.next(); !strings.HasPrefix(got, "Error: ") && !strings.HasPrefix(got, "Invalid ") || strings.ToValidUTF8(got, "") != got {
			t.Errorf("%q: received %q", line, got)
		}
	}
	c.do("fetch q", "No messages")
}

// TestHostileEndlessLine sends many times the limit without a line feed.
func TestHostileEndlessLine(t *testing.T) {
	n := start(t, nil, nil)
	c := n.connect("a")
	block := bytes.Repeat([]byte("x"), 64<<10)
	const total = 64 << 20
	before := heap()
	for range total / len(block) {
		if _, err := c.Write(block); err != nil {
			t.Fatal(err)
		}
	}
	c.want(fmt.Sprintf("Error: line is longer than %d bytes", text.DefaultLineBytes))
	if err := eventually(func() bool { return n.all()[0].BytesIn == total }); err != nil {
		t.Fatalf("the line is not read to its end: %v", err)
	}
	if grown := heap() - before; grown > 2<<20 {
		t.Errorf("%d bytes are still held", grown)
	}
	c.do("\nping", "Pong")
}

// heap is how many bytes are in use, without what the garbage collector can take. Pools
// give theirs up to the second run.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestHostileSlowWriter sends one byte a second: it is a client like others, and those
// do not wait for it.
func TestHostileSlowWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, pipes := startPipes(t, nil)
		slow := n.connectPipe(pipes, n.ca.ClientTLS("slow"))
		quick := n.connectPipe(pipes, n.ca.ClientTLS("quick"))
		for _, b := range []byte("declare_queue a_queue_of_some_length\n") {
			if _, err := slow.Write([]byte{b}); err != nil {
				t.Fatal(err)
			}
			quick.do("ping", "Pong")
			time.Sleep(time.Second)
		}
		slow.want("Queue declared")
	})
}

// TestHostileConsumerThatNeverReads is closed after the write time-out; what it held
// goes to others. Until then it holds up nobody, and its acks are read.
func TestHostileConsumerThatNeverReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, pipes := startPipes(t, nil)
		p := n.connectPipe(pipes, n.ca.ClientTLS("p"))
		p.do(`declare_queue q {"ack_timeout":"1h"}`, "Queue declared")
		p.do("bind q x k", "Queue bound")
		publish := func(from, to int) {
			for i := from; i < to; i++ {
				p.do(fmt.Sprintf(`publish x k {"message_id":"m%d"}`, i), fmt.Sprintf("ACK m%d", i))
			}
		}
		publish(0, 150)
		dead := n.connectPipe(pipes, n.ca.ClientTLS("dead"))
		dead.do("consume q", "Subscribed to queue")
		synctest.Wait() // it has been given 100 messages and takes not a byte of them
		began := time.Now()
		publish(150, 300)
		if took := time.Since(began); took > 0 {
			t.Errorf("the publisher waited %v", took)
		}
		dead.send("ack m0")
		synctest.Wait()
		info, _ := n.engine.Queue("q")
		if info.Acked != 1 {
			t.Errorf("its ack was not read: %+v", info)
		}
		alive := n.connectPipe(pipes, n.ca.ClientTLS("alive"))
		alive.do("prefetch 1000", "Prefetch 1000")
		alive.do("consume q", "Subscribed to queue")
		got := map[string]int{}
		for range info.Ready {
			got[alive.next()]++
		}
		time.Sleep(listener.DefaultWriteTimeout * 5 / 4)
		for range info.Unacked {
			got[alive.next()]++
		}
		synctest.Wait() // the connection is let go after its messages
		if len(got) != 299 || n.server.Count() != 2 {
			t.Errorf("%d messages reached the other consumer, want 299; %d connections are open, want 2", len(got), n.server.Count())
		}
	})
}

// TestHostileSlowReader takes a record just before each time-out: slow is not dead.
func TestHostileSlowReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, pipes := startPipes(t, nil)
		slow := n.connectPipe(pipes, n.ca.ClientTLS("slow"))
		go slow.send(strings.Repeat("ping\n", 60_000) + "whoami")
		received := 0
		for received < 60_000*len("Pong\n") {
			time.Sleep(listener.DefaultWriteTimeout - time.Second)
			piece, err := slow.piece(time.Second)
			if err != nil {
				t.Fatalf("after %d bytes: %v", received, err)
			}
			received += len(piece)
		}
	})
}

// TestHostilePipelinerThatNeverReads: replies that nobody takes are bounded, because no
// more requests are read.
func TestHostilePipelinerThatNeverReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, pipes := startPipes(t, nil)
		c := n.connectPipe(pipes, n.ca.ClientTLS("a"))
		ended := make(chan int)
		go func() {
			sent, began := 0, time.Now()
			block := bytes.Repeat([]byte("nonsense\n"), 1000)
			for {
				m, err := c.Write(block)
				if time.Since(began) < listener.DefaultWriteTimeout {
					sent += m // what comes later is skipped
				}
				if err != nil {
					ended <- sent
					return
				}
			}
		}()
		// Half a request's size of reply each; the bound is 1 MiB of replies.
		if sent := <-ended; sent > 4<<20 {
			t.Errorf("%d bytes of requests were taken", sent)
		}
		synctest.Wait()
		if got := metric(t, n.counts, "sealmq_server_connections_closed_total", "write"); got != 1 {
			t.Errorf("%v connections closed for not taking bytes", got)
		}
	})
}

// TestPipelinerThatReadsLate sends everything before it reads. It gets replies to what was
// carried out, and then the reason why that is not all.
func TestPipelinerThatReadsLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, pipes := startPipes(t, nil)
		c := n.connectPipe(pipes, n.ca.ClientTLS("a"))
		c.send(strings.Repeat("ping\n", 1_000_000))
		line := "Pong"
		for pongs := 0; line == "Pong"; pongs++ {
			var err error
			if line, err = c.line(patience); err != nil {
				t.Fatalf("after %d replies: %v", pongs, err)
			}
		}
		if want := "Error: no bytes were taken for 1m0s, so this connection ends; read the replies while requests are sent"; line != want {
			t.Errorf("the last line is %q, want %q", line, want)
		}
		if _, err := c.line(patience); err != io.EOF {
			t.Errorf("then comes %v", err)
		}
		c.Close()
		synctest.Wait()
		if got := metric(t, n.counts, "sealmq_server_connections_closed_total", "write"); got != 1 {
			t.Errorf("%v connections closed for not taking bytes", got)
		}
	})
}

// TestHandshakesAreBounded: while all slots are taken others wait for their turn, no
// longer than a handshake may take, and are let in once one is free.
func TestHandshakesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked, free := make(chan struct{}, 10), make(chan struct{})
		n, pipes := startPipes(t, func(cfg *listener.Config) {
			cfg.Limits.Handshakes = 4 // half of them for one address
			identify := cfg.Identify
			cfg.Identify = func(cs tls.ConnectionState) (sealmq.Identity, error) {
				asked <- struct{}{}
				<-free
				return identify(cs)
			}
		})
		cfg := n.ca.ClientTLS("a")
		for range 2 {
			c := n.connectPipe(pipes, cfg) // to its end for the client, not for the server
			go func() { _, _ = c.Write([]byte("ping\n")) }()
		}
		synctest.Wait()
		if len(asked) != 2 {
			t.Fatalf("%d handshakes are under way", len(asked))
		}
		hello := func() net.Conn {
			raw := dialPipe(t, pipes)
			go func() { _ = tls.Client(raw, cfg).Handshake() }()
			return raw
		}
		tooMany := hello()
		defer tooMany.Close()
		time.Sleep(listener.DefaultHandshakeTimeout - time.Second)
		synctest.Wait()
		if len(asked) != 2 {
			t.Errorf("%d handshakes are under way, the limit is 2", len(asked))
		}
		waits := hello()
		defer waits.Close()
		time.Sleep(2 * time.Second)
		n.wantRefused("handshakes", 1)
		close(free)
		synctest.Wait()
		if len(asked) != 3 {
			t.Errorf("the peer that waited for a slot got none: %d handshakes", len(asked))
		}
	})
}
