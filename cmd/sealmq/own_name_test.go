package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/internal/testing/liar"
	"github.com/sealmq/sealmq/internal/testing/testca"
	"github.com/sealmq/sealmq/internal/testing/testnode"
	"github.com/sealmq/sealmq/seal"
)

// A client knows its own name from its certificate. A broker that calls it otherwise, at once
// or later, has it neither open what is another's nor judge another's keys.
func TestOwnNameIsNotTheBrokers(t *testing.T) {
	authority := testca.New(t)
	n := testnode.Start(t, testnode.Config{CA: authority, Directory: testnode.NewDirectory(t, authority)})
	proxy, err := liar.Listen(liar.Config{TLS: authority.ServerTLS(), Identify: authority.Identify,
		Upstream: func(ctx context.Context, name string) (net.Conn, error) {
			d := tls.Dialer{Config: authority.ClientTLS(name)}
			return d.DialContext(ctx, "tcp", n.Addr)
		}})
	if err != nil {
		t.Fatal(err)
	}
	defer proxy.Close()
	t.Chdir(t.TempDir())
	testca.WriteFile(t, "ca.crt", authority.RootPEM())
	for _, name := range []string{"alice", "bob"} {
		testca.WriteLeaf(t, ".", name, authority.Leaf(name, ""))
	}
	sealmq := func(args ...string) (string, error) {
		var out bytes.Buffer
		err := run(t.Context(), args, &out, &out)
		return out.String(), err
	}
	as := func(name string) []string {
		return []string{"--addr", proxy.Addr(), "--cert", name + ".crt", "--cert-key", name + ".key", "--ca", "ca.crt", "--config", os.DevNull}
	}
	must := func(args ...string) {
		t.Helper()
		if out, err := sealmq(args...); err != nil {
			t.Fatalf("%q: %v\n%s", args, err, out)
		}
	}
	for _, name := range []string{"alice", "bob"} {
		path := filepath.Join("keys", name)
		must("key", "generate", "--out", path)
		must(append([]string{"key", "publish", path + ".pub"}, as(name)...)...)
	}
	queueForBob(t, n, authority, "keys/alice.pub")

	for name, honest := range map[string]int{"always": 0, "after the greeting": 1} {
		told := map[*liar.Conn]int{}
		proxy.Lie(liar.Lies{ToClient: func(c *liar.Conn, line string) []string {
			if strings.HasPrefix(line, "Whoami: ") {
				if told[c]++; told[c] > honest {
					line = strings.ReplaceAll(line, "alice", "bob")
				}
			}
			return []string{line}
		}})
		pins := []string{"--pins", filepath.Join(t.TempDir(), "pins")}
		out, err := sealmq(append(append([]string{"key", "verify", "--json"}, pins...), as("alice")...)...)
		t.Logf("%s: key verify: %v\n%s", name, err, out)
		switch {
		case honest == 0 && (err == nil || !strings.Contains(err.Error(), `"bob", but its certificate says "alice"`)):
			t.Errorf("%s: key verify: %v\n%s", name, err, out)
		case honest == 1 && (err != nil || !strings.Contains(out, `"name":"alice"`)):
			t.Errorf("%s: key verify: %v\n%s", name, err, out)
		}
		os.Remove("inbox.jsonl")
		out, err = sealmq(append([]string{"receive", "inbox", "--key-file", "keys/alice.key", "--idle", "1s", "--out", "inbox.jsonl"}, as("alice")...)...)
		t.Logf("%s: receive: %v\n%s", name, err, out)
		if text, _ := os.ReadFile("inbox.jsonl"); len(text) > 0 || honest == 0 && err == nil {
			t.Errorf("%s: received %q: %v\n%s", name, text, err, out)
		}
	}
}

// queueForBob puts a message into the queue inbox that is addressed to bob, and sealed with
// the key in a file.
func queueForBob(t *testing.T, n *testnode.Node, authority *testca.CA, keyFile string) {
	t.Helper()
	key, err := readPublicKey(keyFile)
	if err != nil {
		t.Fatal(err)
	}
	leaf := authority.Leaf("carol", "")
	signer, err := seal.NewSigner("carol", leaf.Certificate, leaf.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	s, err := seal.NewSealer(seal.SealerConfig{Receivers: []seal.Receiver{{Name: "bob", Key: key}}, Signer: func() (*seal.Signer, error) { return signer, nil }})
	if err != nil {
		t.Fatal(err)
	}
	body, err := s.Seal(seal.Content{ID: "m1", Exchange: "post", RoutingKey: "bob", Body: []byte(`"for bob"`)})
	if err != nil || !json.Valid(body) {
		t.Fatal(err)
	}
	admin := n.Dial(client.Config{})
	if err := admin.Bind(t.Context(), "inbox", "post", "bob"); err != nil {
		t.Fatal(err)
	}
	if err := admin.Publish(t.Context(), sealmq.Message{Exchange: "post", Key: "bob", ID: "m1", Body: body}); err != nil {
		t.Fatal(err)
	}
}
