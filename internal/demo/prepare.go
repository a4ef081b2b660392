package demo

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"time"

	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/mtls"
	"github.com/sealmq/sealmq/seal"
)

// makeCertificates sets the authority up, as the first start of a broker would, and
// issues a certificate each for sender and receiver.
func (d *Demo) makeCertificates() error {
	set, err := ca.Setup(d.Data(), nil, ca.Options{})
	if err != nil {
		return fmt.Errorf("make the authority: %w", err)
	}
	for _, name := range []string{Sender, Receiver} {
		if _, _, _, err := set.Authority.IssueFiles(ca.Request{Name: name}, "", false); err != nil {
			return fmt.Errorf("issue the certificate of %s: %w", name, err)
		}
	}
	d.cfg.Say("made an authority, and certificates for the broker, its administrator, %s and %s", Sender, Receiver)
	return nil
}

// makeKey makes the key that only the receiver has, and its public half for senders.
func (d *Demo) makeKey() (err error) {
	if d.key, err = seal.Generate(seal.DefaultSuite, 0); err != nil {
		return fmt.Errorf("make the receiver's key: %w", err)
	}
	if err := os.WriteFile(d.PrivateKeyFile(), d.key.PEM(), 0o600); err != nil {
		return fmt.Errorf("write the receiver's key: %w", err)
	}
	if err := os.WriteFile(d.PublicKeyFile(), d.key.Public().PEM(), 0o600); err != nil {
		return fmt.Errorf("write the receiver's key: %w", err)
	}
	d.cfg.Say("made a key for %s; the broker never has it", Receiver)
	return nil
}

func (d *Demo) tls(name string) (*tls.Config, error) {
	p := ca.In(d.Data())
	return mtls.ClientConfig(mtls.Files{Cert: p.Cert(name), Key: p.Key(name), CA: p.CA}, mtls.ClientOptions{})
}

// signer signs as the sender.
func (d *Demo) signer() (*seal.Signer, error) {
	p := ca.In(d.Data())
	pair, err := tls.LoadX509KeyPair(p.Cert(Sender), p.Key(Sender))
	if err != nil {
		return nil, fmt.Errorf("read the sender's certificate: %w", err)
	}
	return seal.NewSigner(Sender, pair.Certificate, pair.PrivateKey)
}

// verifier believes the authority of this demonstration alone.
func (d *Demo) verifier() (*seal.X509Verifier, error) {
	pem, err := os.ReadFile(ca.In(d.Data()).CA)
	if err != nil {
		return nil, fmt.Errorf("read the authority: %w", err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	return &seal.X509Verifier{Roots: pool, Identify: mtls.Identify}, nil
}

// giveUpAfter is how long sender and receiver try to reach a broker that is gone.
const giveUpAfter = time.Minute

// dial connects as one of the two.
func (d *Demo) dial(ctx context.Context, name string) (*client.Client, error) {
	cfg, err := d.tls(name)
	if err != nil {
		return nil, err
	}
	return client.Dial(ctx, client.Config{
		Addr:        d.Addr(),
		TLS:         cfg,
		BackoffMin:  20 * time.Millisecond,
		BackoffMax:  500 * time.Millisecond,
		GiveUpAfter: giveUpAfter,
	})
}
