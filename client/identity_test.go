package client_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"

	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/internal/testing/fakebroker"
	"github.com/sealmq/sealmq/internal/testing/testca"
	"github.com/sealmq/sealmq/internal/testing/testnode"
)

// An identity is found in a folder of certificates, and in a data folder.
func TestLoadIdentity(t *testing.T) {
	n := testnode.Start(t, testnode.Config{})
	data := t.TempDir()
	certs := filepath.Join(data, "certs")
	if err := os.Mkdir(certs, 0o700); err != nil {
		t.Fatal(err)
	}
	testca.WriteFile(t, filepath.Join(certs, "ca.crt"), n.CA.RootPEM())
	testca.WriteLeaf(t, certs, "alice", n.CA.Leaf("alice", ""))
	for _, dir := range []string{data, certs} {
		id, err := client.LoadIdentity(dir, "alice")
		if err != nil {
			t.Fatal(err)
		}
		who, err := n.Dial(client.Config{TLS: id.TLS, Name: id.Name}).Whoami(t.Context())
		if err != nil || who.ID != "alice" || id.Name != "alice" {
			t.Errorf("%+v, %v", who, err)
		}
		if _, err := client.LoadIdentity(dir, "bob"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("nobody's: %v", err)
		}
	}
}

// A broker that calls a client by another's name is not connected to.
func TestBrokerCallsAClientOtherwise(t *testing.T) {
	for name, want := range map[string]bool{"": true, "alice": true, "bob": false, "Alice": false} {
		synctest.Test(t, func(t *testing.T) {
			f := fakebroker.New(t)
			f.Greeting = `Whoami: {"id":"alice"}`
			go f.Accept()
			c, err := client.Dial(t.Context(), client.Config{Dial: f.Dial, Name: name})
			if (err == nil) != want || client.Unreachable(err) {
				t.Errorf("as %q: %v", name, err)
			}
			if c != nil {
				c.Close()
			}
		})
	}
}
