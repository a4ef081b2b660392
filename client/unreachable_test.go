package client_test

import (
	"fmt"
	"net"
	"testing"

	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/internal/testing/server"
	"github.com/sealmq/sealmq/internal/testing/testca"
	"github.com/sealmq/sealmq/internal/testing/testnode"
)

// TestUnreachable: a broker that is away is told from one that is wrong.
func TestUnreachable(t *testing.T) {
	port, err := server.Port()
	if err != nil {
		t.Fatal(err)
	}
	closed := fmt.Sprint("127.0.0.1:", port)
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	go func() {
		for {
			c, err := mute.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	n := testnode.Start(t, testnode.Config{})
	good := n.Config(client.Config{})
	stranger := testca.New(t)
	for name, tc := range map[string]struct {
		cfg  client.Config
		want bool
	}{
		"nobody listens":    {client.Config{Addr: closed, TLS: good.TLS}, true},
		"it hangs up":       {client.Config{Addr: mute.Addr().String(), TLS: good.TLS}, true},
		"no port":           {client.Config{Addr: "127.0.0.1:none", TLS: good.TLS}, false},
		"another authority": {client.Config{Addr: good.Addr, Dial: good.Dial, TLS: stranger.ClientTLS("alice")}, false},
	} {
		c, err := client.Dial(t.Context(), tc.cfg)
		if err == nil {
			c.Close()
			t.Errorf("%s: connected", name)
		} else if client.Unreachable(err) != tc.want {
			t.Errorf("%s: %v", name, err)
		}
	}
}
