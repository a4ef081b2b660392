package netns_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/sealmq/sealmq/internal/testing/netns"
)

// TestCut: two hosts hear nothing of each other while they are cut off, and go on after it with
// the same connection; a third is reached all the time.
func TestCut(t *testing.T) {
	n := netns.Make(t)
	var hosts []*netns.Host
	for _, name := range []string{"a", "b", "c"} {
		h, err := n.Host(name)
		if err != nil {
			t.Fatal(err)
		}
		hosts = append(hosts, h)
	}
	a, b, c := hosts[0], hosts[1], hosts[2]
	l, err := b.Listen("7")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go io.Copy(c, c)
		}
	}()
	dial := func(h *netns.Host, within time.Duration) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(t.Context(), within)
		defer cancel()
		return h.Dial(ctx, "tcp", b.Addr("7"))
	}
	echo := func(c net.Conn, within time.Duration) error {
		if _, err := c.Write([]byte("x")); err != nil {
			return err
		}
		if err := c.SetReadDeadline(time.Now().Add(within)); err != nil {
			return err
		}
		_, err := io.ReadFull(c, make([]byte, 1))
		return err
	}
	open, err := dial(a, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	if err := echo(open, time.Minute); err != nil {
		t.Fatal(err)
	}
	if err := n.Cut(a, b); err != nil {
		t.Fatal(err)
	}
	if err := echo(open, 300*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("across a cut: %v", err)
	}
	if conn, err := dial(a, 300*time.Millisecond); err == nil {
		conn.Close()
		t.Error("across a cut a connection opens")
	}
	other, err := dial(c, time.Minute)
	if err != nil {
		t.Fatalf("another host is cut off too: %v", err)
	}
	other.Close()
	if err := n.Mend(a, b); err != nil {
		t.Fatal(err)
	}
	if err := echo(open, time.Minute); err != nil {
		t.Errorf("after the cut: %v", err)
	}
}
