package vanished_test

import (
	"errors"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/sealmq/sealmq/internal/testing/netns"
	"github.com/sealmq/sealmq/internal/vanished"
)

// TestVanishedPeer: a connection ends when nobody acknowledges what was sent, although the
// system's own patience is longer.
func TestVanishedPeer(t *testing.T) {
	n := netns.Make(t)
	broker, err := n.Host("broker")
	if err != nil {
		t.Fatal(err)
	}
	consumer, err := n.Host("consumer")
	if err != nil {
		t.Fatal(err)
	}
	l, err := broker.Listen("5672")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	peer, err := consumer.Dial(t.Context(), "tcp", broker.Addr("5672"))
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	vanished.After(c, 500*time.Millisecond)
	if err := n.Cut(broker, consumer); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte("a message\n")); err != nil {
		t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(30 * time.Second))
	if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the connection goes on: %v", err)
	} else if !errors.Is(err, syscall.ETIMEDOUT) && !errors.Is(err, syscall.EHOSTUNREACH) {
		t.Errorf("it ended with %v", err)
	}
}
