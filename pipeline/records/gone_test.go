package records_test

import (
	"bytes"
	"net"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealmq/sealmq/pipeline/accounts"
	"github.com/sealmq/sealmq/pipeline/records"
)

// goneAt is the address of a database behind a network in which the client's host is gone from the
// moment when it sends a text: the client loses its connections, and the server is told nothing.
func goneAt(t *testing.T, address, text string) string {
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	server := u.Host
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	var gone atomic.Bool
	relay := func(client net.Conn) {
		defer client.Close()
		c, err := net.Dial("tcp", server)
		if err != nil {
			t.Error(err)
			return
		}
		t.Cleanup(func() { c.Close() })
		go func() {
			buf := make([]byte, 64<<10)
			for {
				n, err := c.Read(buf)
				if err != nil || gone.Load() {
					return
				}
				_, _ = client.Write(buf[:n])
			}
		}()
		buf := make([]byte, 64<<10)
		for {
			n, err := client.Read(buf)
			if err != nil || gone.Load() {
				if !gone.Load() {
					c.Close()
				}
				return
			}
			if bytes.Contains(buf[:n], []byte(text)) {
				gone.Store(true)
				return
			}
			if _, err := c.Write(buf[:n]); err != nil {
				return
			}
		}
	}
	go func() {
		for {
			c, err := l.Accept()
			switch {
			case err != nil:
				return
			case gone.Load():
				c.Close()
			default:
				go relay(c)
			}
		}
	}()
	u.Host = l.Addr().String()
	return u.String()
}

// TestHostGone: what a main server had locked when its host went is free soon.
func TestHostGone(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for a server to give up a client")
	}
	const soon = 28 * time.Second // with what a busy machine adds; a call waits for 30
	m := mariaDB(t)
	t.Run("in a transaction", func(t *testing.T) {
		t.Parallel()
		address, name, err := m.Database()
		if err != nil {
			t.Fatal(err)
		}
		e := &env{t: t, url: address, name: name, keys: ring(t, 1, 1), hash: hasher(t)}
		s := e.open(nil)
		e.url = goneAt(t, address, "UPDATE login_failures")
		gone := e.open(nil)
		fail := func(s *records.Store) error {
			return s.ChangeFailures(ctx(t), "one@example.org", time.Time{}, 100, func(f *accounts.Failures) error { f.Count++; return nil })
		}
		if err := fail(gone); err == nil {
			t.Fatal("the transaction was committed")
		}
		began := time.Now()
		if err := fail(s); err != nil || time.Since(began) > soon {
			t.Errorf("the other main server writes after %s: %v", time.Since(began), err)
		}
	})
	t.Run("at the start", func(t *testing.T) {
		t.Parallel()
		address, name, err := m.Database()
		if err != nil {
			t.Fatal(err)
		}
		e := &env{t: t, url: goneAt(t, address, "CREATE TABLE goose_db_version"), name: name, keys: ring(t, 1, 1), hash: hasher(t)}
		if err := e.open(nil).Ping(ctx(t)); err == nil {
			t.Fatal("the start was not interrupted")
		}
		e.url = address
		began := time.Now()
		if err := e.open(nil).Ping(ctx(t)); err != nil || time.Since(began) > soon {
			t.Errorf("the other main server starts after %s: %v", time.Since(began), err)
		}
	})
}
