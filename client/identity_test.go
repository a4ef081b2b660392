package client_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"errors"

	"github.com/sealmq/sealmq/client"
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
