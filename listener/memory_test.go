package listener_test

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealmq/sealmq/internal/testing/testnode"
	"github.com/sealmq/sealmq/listener"
)

const held = "sealmq_server_memory_bytes"

// holds demands that connections hold something, but no more than the limit.
func (n *node) holds(limit float64) {
	n.tb.Helper()
	if got := metric(n.tb, n.counts, held, ""); got <= 0 || got > limit {
		n.tb.Errorf("connections hold %v bytes, the limit is %v", got, limit)
	}
}

// TestGreedyConnectionsShareTheMemory: whatever many connections of one identity hoard,
// it stays within the limit, and others get on, of the same identity and of another.
func TestGreedyConnectionsShareTheMemory(t *testing.T) {
	const limit = 4 << 20
	line := strings.Repeat("x", 300<<10)
	for name, hoard := range map[string]func(*node, *peer){
		"lines that do not end": func(n *node, p *peer) { _, _ = p.Write([]byte("publish x k " + line)) },
		"replies that are not read": func(n *node, p *peer) {
			_, _ = p.Write(bytes.Repeat([]byte("nonsense\n"), 50_000))
		},
		"large replies that are not read": func(n *node, p *peer) {
			_, _ = p.Write(bytes.Repeat([]byte("queues\n"), 100))
		},
		"messages that are not read": func(n *node, p *peer) {
			_, _ = p.Write([]byte("consume full\n"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n, pipes := startPipes(t, func(cfg *listener.Config) { cfg.Limits.Memory = limit })
				setUp := n.connectPipe(pipes, n.ca.ClientTLS("setup"))
				setUp.do("bind full x full", "Queue bound")
				setUp.do("bind q x k", "Queue bound")
				for i := range 300 {
					setUp.do(fmt.Sprintf(`publish x full {"message_id":"m%d","body":"%s"}`, i, line[:50_000]), fmt.Sprintf("ACK m%d", i))
					setUp.do(fmt.Sprintf("declare_queue some_queue_%d", i), "Queue declared")
				}
				greedy := n.ca.ClientTLS("greedy")
				for range 60 {
					p := n.connectPipe(pipes, greedy)
					go hoard(n, p)
				}
				synctest.Wait()
				n.holds(limit * 11 / 10) // beside what one of them may be given at that moment
				n.getsOn(pipes, n.ca.ClientTLS("other"), 50_000, false)
				began := time.Now()
				n.getsOn(pipes, greedy, 3_000, true)
				// Peers that do not read are closed in the end, and hold something until then.
				if took := time.Since(began); took > listener.DefaultWriteTimeout*5/4 {
					t.Errorf("another connection of the identity waited %v", took)
				}
				if got := metric(t, n.counts, "sealmq_server_memory_refusals_total", ""); got == 0 {
					t.Error("nobody got less than it wanted")
				}
				_ = n.server.Close()
				if got := metric(t, n.counts, held, ""); got != 0 {
					t.Errorf("%v bytes are counted for no connection", got)
				}
			})
		})
	}
}

// getsOn publishes, consumes and acknowledges messages of some size. again says that it
// may have to try more than once, because it shares an identity with the greedy.
func (n *node) getsOn(pipes *testnode.Pipes, cfg *tls.Config, size int, again bool) {
	n.tb.Helper()
	p := n.connectPipe(pipes, cfg)
	defer p.tcp.Close()
	p.patience = 2 * time.Minute
	body := strings.Repeat("y", size)
	for i := range 20 {
		id := fmt.Sprintf("%p-%d", p, i)
		message := fmt.Sprintf(`{"message_id":"%s","body":"%s"}`, id, body)
		if i == 0 {
			p.do("consume q", "Subscribed to queue")
		}
		p.send("publish x k " + message)
		for seen := 0; seen < 2; { // its message may come before its confirm
			switch got := p.next(); {
			case got == "ACK "+id, got == "Message: "+id+" "+message:
				seen++
			case again && got == "Error: the broker is full, it has no memory for this now; try again later":
				<-time.After(time.Second) // of the bubble's time
				p.send("publish x k " + message)
			default:
				n.tb.Fatalf("received %.100q", got)
			}
		}
		p.do("ack "+id, "ACK_CONFIRMED "+id)
	}
}

// TestLineWithoutMemoryIsRefused: it is answered once, and what follows is carried out.
func TestLineWithoutMemoryIsRefused(t *testing.T) {
	n := start(t, nil, func(cfg *listener.Config) { cfg.Limits.Memory = 200 << 10 })
	c := n.connect("a")
	c.do("bind q x k", "Queue bound")
	c.send("publish x k "+strings.Repeat("x", 300<<10), "ping")
	c.want("Error: the broker is full, it has no memory for this now; try again later", "Pong")
	c.do(`publish x k {"message_id":"1"}`, "ACK 1")
}

// TestConnectionsOfAnIdentityAreBounded: one that reconnects without end shuts nobody
// else out, and is told why.
func TestConnectionsOfAnIdentityAreBounded(t *testing.T) {
	n := start(t, nil, func(cfg *listener.Config) { cfg.Limits.Connections = 6 })
	var inside []*peer
	for range 3 {
		p := n.connect("a")
		p.do("ping", "Pong")
		inside = append(inside, p)
	}
	refusedOne := n.connect("a")
	refusedOne.want("Error: too many connections of this identity, the limit is 3")
	if _, err := io.Copy(io.Discard, refusedOne.Conn); err != nil {
		t.Errorf("the connection does not end politely: %v", err)
	}
	n.wantRefused("identity_limit", 1)
	n.connect("b").do("ping", "Pong")
	_ = inside[0].CloseWrite()
	inside[0].wantEnd()
	if err := n.waitForCount(3); err != nil {
		t.Fatal(err)
	}
	n.connect("a").do("ping", "Pong")
	if got := metric(t, n.counts, "sealmq_server_connections_per_identity_limit", ""); got != 3 {
		t.Errorf("the limit is shown as %v", got)
	}
}
