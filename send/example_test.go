package send_test

import (
	"bufio"
	"context"
	"fmt"
	"log"
	"path/filepath"
	"strings"

	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/internal/testing/testnode"
	"github.com/sealmq/sealmq/seal"
	"github.com/sealmq/sealmq/send"
	"github.com/sealmq/sealmq/trust"
)

// Seal a message for the laboratory as alice, send it, and return when the broker has stored
// it. The laboratory's key is given; with a keydir.Directory it is looked up.
func Example() {
	dir, addr, stop := testnode.ForExample("alice") // a broker, and alice's certificate
	defer stop()
	ctx := context.Background()
	lab, err := seal.Generate(seal.DefaultSuite, 0) // the laboratory has made it
	if err != nil {
		log.Fatal(err)
	}
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
	s, err := send.New(ctx, c, send.Config{
		To:     []string{"lab"},
		Keys:   map[string]*seal.PublicKey{"lab": lab.Public()},
		Signer: func() (*seal.Signer, error) { return trust.ReadSigner(alice.Files, "alice") },
	})
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Send(ctx, "results", "lab", []byte("the result is negative")); err != nil {
		log.Fatal(err)
	}
	fmt.Println("stored:", s.Stats().Confirmed)
	// Output: stored: 1
}

// Send each line of a text exactly once, however often this program dies: messages are in
// the spool until they are confirmed, with how far the text was read.
func ExampleSender_Publish() {
	dir, addr, stop := testnode.ForExample("alice")
	defer stop()
	for range 2 { // the second run finds nothing left to do
		if err := sendLines(dir, addr, "positive\nnegative\n"); err != nil {
			log.Fatal(err)
		}
	}
	// Output:
	// sent: 2
	// sent: 0
}

func sendLines(dir, addr, text string) error {
	ctx := context.Background()
	alice, err := client.LoadIdentity(dir, "alice")
	if err != nil {
		return err
	}
	c, err := client.Dial(ctx, client.Config{Addr: addr, TLS: alice.TLS})
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Bind(ctx, "lab-results", "results", "lab"); err != nil {
		return err
	}
	spool, err := send.OpenSpool(filepath.Join(dir, "spool"), send.SpoolConfig{})
	if err != nil {
		return err
	}
	defer spool.Close()
	lab, err := seal.Generate(seal.DefaultSuite, 0)
	if err != nil {
		return err
	}
	s, err := send.New(ctx, c, send.Config{To: []string{"lab"}, Keys: map[string]*seal.PublicKey{"lab": lab.Public()}, Spool: spool,
		Signer: func() (*seal.Signer, error) { return trust.ReadSigner(alice.Files, "alice") }})
	if err != nil {
		return err // a *send.SpoolTooOldError says what cannot be sent again safely
	}
	defer s.Close()

	done := 0 // lines that the spool has taken
	fmt.Sscan(string(spool.Position()), &done)
	for n, lines := 1, bufio.NewScanner(strings.NewReader(text)); lines.Scan(); n++ {
		if n <= done {
			continue
		}
		m, err := s.Seal(ctx, "results", "lab", lines.Bytes())
		if err != nil {
			return err
		}
		if err := s.Publish(ctx, m, fmt.Append(nil, n), nil); err != nil {
			return err
		}
	}
	err = s.Flush(ctx)
	fmt.Println("sent:", s.Stats().Confirmed)
	return err
}
