package liar_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/sealmq/sealmq/internal/testing/liar"
	"github.com/sealmq/sealmq/internal/testing/testca"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start starts a liar before a peer that answers each line with the client's name and the
// line.
func start(t *testing.T) (*liar.Liar, func(cn string) (ask func(line string) string)) {
	ca := testca.New(t)
	l, err := liar.Listen(liar.Config{TLS: ca.ServerTLS(), Identify: ca.Identify,
		Upstream: func(_ context.Context, client string) (net.Conn, error) {
			near, far := net.Pipe()
			go func() {
				defer far.Close()
				for in := bufio.NewScanner(far); in.Scan(); {
					fmt.Fprintf(far, "%s says %s\n", client, in.Text())
				}
			}()
			return near, nil
		}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l, func(cn string) func(string) string {
		conn, err := tls.Dial("tcp", l.Addr(), ca.ClientTLS(cn))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		in := bufio.NewReader(conn)
		return func(line string) string {
			fmt.Fprintln(conn, line)
			answer, err := in.ReadString('\n')
			if err != nil {
				t.Error(err)
			}
			return strings.TrimSpace(answer)
		}
	}
}

func TestHonestUntilItLies(t *testing.T) {
	l, dial := start(t)
	alice, bob := dial("alice"), dial("bob")
	expect := func(got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	expect(alice("hello"), "alice says hello")
	l.Lie(liar.Lies{
		ToBroker: func(c *liar.Conn, line string) []string {
			if line == "swallow" {
				c.ToClient("swallowed")
				return nil
			}
			return []string{c.Client + line}
		},
		ToClient: func(_ *liar.Conn, line string) []string { return []string{strings.ToUpper(line)} },
	})
	expect(alice("hello"), "ALICE SAYS ALICEHELLO")
	expect(bob("swallow"), "swallowed")
	l.Lie(liar.Lies{})
	expect(bob("hello"), "bob says hello")
}
