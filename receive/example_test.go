package receive_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/internal/testing/testnode"
	"github.com/sealmq/sealmq/receive"
	"github.com/sealmq/sealmq/seal"
	"github.com/sealmq/sealmq/send"
	"github.com/sealmq/sealmq/trust"
)

// Take each message exactly once: what a crash left of the output behind the last commit is
// cut off, and its messages come again.
func Example() {
	dir, addr, stop := testnode.ForExample("alice", "lab")
	defer stop()
	keys := sendToLab(dir, addr, "positive", "negative")
	out, err := receiveInto(filepath.Join(dir, "results"), dir, addr, keys, 2)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Print(out)
	// Output:
	// alice: positive
	// alice: negative
}

// receiveInto appends n messages to a file as the laboratory and returns what is in it.
func receiveInto(file, dir, addr string, keys *seal.Keyring, n uint64) (string, error) {
	ctx := context.Background()
	lab, err := client.LoadIdentity(dir, "lab")
	if err != nil {
		return "", err
	}
	verifier, err := trust.ReadVerifier(lab.Files.CA)
	if err != nil {
		return "", err
	}
	c, err := client.Dial(ctx, client.Config{Addr: addr, TLS: lab.TLS})
	if err != nil {
		return "", err
	}
	defer c.Close()
	ledger, err := receive.OpenLedger(file+".ledger", receive.LedgerConfig{})
	if err != nil {
		return "", err
	}
	defer ledger.Close()
	r, err := receive.New(ctx, c, "lab-results", receive.Config{Names: []string{"lab"}, Keys: keys, Verifier: verifier, Ledger: ledger})
	if err != nil {
		return "", err
	}
	out, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return "", err
	}
	defer out.Close()
	done := ledger.Output()
	if err := out.Truncate(done.Length); err != nil {
		return "", err
	}
	for done.Messages < n {
		list, err := r.Next(ctx, 0)
		if err != nil {
			return "", err
		}
		for _, m := range list {
			k, err := out.WriteAt(fmt.Appendf(nil, "%s: %s\n", m.Sender.ID, m.Text), done.Length)
			if err != nil {
				return "", err
			}
			done.Length += int64(k)
			done.Messages++
		}
		if err := out.Sync(); err != nil {
			return "", err
		}
		if err := r.Commit(done, list...); err != nil {
			return "", err
		}
	}
	text, err := os.ReadFile(file)
	return string(text), err
}

// sendToLab sends texts as alice, and returns the key that they are sealed for.
func sendToLab(dir, addr string, texts ...string) *seal.Keyring {
	ctx := context.Background()
	alice, err := client.LoadIdentity(dir, "alice")
	if err != nil {
		log.Fatal(err)
	}
	c, err := client.Dial(ctx, client.Config{Addr: addr, TLS: alice.TLS})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	if err := c.Bind(ctx, "lab-results", "results", "lab"); err != nil {
		log.Fatal(err)
	}
	key, err := seal.Generate(seal.DefaultSuite, 0)
	if err != nil {
		log.Fatal(err)
	}
	s, err := send.New(ctx, c, send.Config{To: []string{"lab"}, Keys: map[string]*seal.PublicKey{"lab": key.Public()},
		Signer: func() (*seal.Signer, error) { return trust.ReadSigner(alice.Files, "alice") }})
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()
	for _, text := range texts {
		if _, err := s.Send(ctx, "results", "lab", []byte(text)); err != nil {
			log.Fatal(err)
		}
	}
	keys, err := seal.NewKeyring(key)
	if err != nil {
		log.Fatal(err)
	}
	return keys
}
