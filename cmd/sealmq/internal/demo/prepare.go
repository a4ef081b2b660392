package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/internal/brokerproc"
	"github.com/sealmq/sealmq/mtls"
	"github.com/sealmq/sealmq/seal"
)

// makeCertificates makes the authority, as the first start of a broker would, and issues
// the certificates of sender and receiver.
func (d *Demo) makeCertificates() error {
	set, err := ca.Setup(d.Data(), nil, ca.Options{})
	if err != nil {
		return fmt.Errorf("make the authority: %w", err)
	}
	for _, name := range []string{Sender, Receiver} {
		if _, err := set.Authority.IssueFiles(ca.Request{Name: name}, "", false); err != nil {
			return fmt.Errorf("issue the certificate of %s: %w", name, err)
		}
	}
	d.cfg.Say("made an authority, and certificates for the broker, its administrator, %s and %s", Sender, Receiver)
	return nil
}

// makeKey makes the key that only the receiver has.
func (d *Demo) makeKey() (err error) {
	if d.key, err = seal.Generate(seal.DefaultSuite, 0); err != nil {
		return fmt.Errorf("make the receiver's key: %w", err)
	}
	if err := os.WriteFile(d.PrivateKeyFile(), d.key.PEM(), 0o600); err != nil {
		return fmt.Errorf("write the receiver's key: %w", err)
	}
	d.cfg.Say("made a key for %s (%s); the broker never has it", Receiver, d.key.Suite())
	return nil
}

// marker is in every letter, and controlMarker in a message that is not sealed. The search
// must not find the first and must find the second.
const (
	marker        = "Dear " + Receiver + ", this stays between us"
	controlMarker = "everybody on the way may read this"
)

// text is the content of letter i.
func text(i, of int) string {
	return fmt.Sprintf("%s, letter %d of %d: the meeting is at noon", marker, i, of)
}

// prepare declares the exchange and the queues, publishes the receiver's key, and writes
// the letters.
func (d *Demo) prepare(ctx context.Context) error {
	c, err := d.dial(ctx, Receiver)
	if err != nil {
		return err
	}
	defer c.Close()
	err = c.Declare(ctx, client.Topology{
		Exchanges: []client.Exchange{{Name: Exchange}},
		Queues:    []client.Queue{{Name: Queue}, {Name: controlQueue}},
		Bindings:  []client.Binding{{Queue: Queue, Exchange: Exchange, Key: Key}, {Queue: controlQueue, Exchange: Exchange, Key: controlQueue}},
	})
	if err != nil {
		return fmt.Errorf("declare exchange and queues: %w", err)
	}
	if err := publishControl(ctx, c); err != nil {
		return err
	}
	if err := d.publishKey(ctx); err != nil {
		return err
	}
	return d.writeLetters()
}

// controlQueue holds the message that is not sealed.
const controlQueue = "plain"

func publishControl(ctx context.Context, c *client.Client) error {
	body, err := json.Marshal(map[string]string{"message_id": "control", "text": controlMarker})
	if err != nil {
		return err
	}
	if err := c.Publish(ctx, sealmq.Message{Exchange: Exchange, Key: controlQueue, ID: "control", Body: body}); err != nil {
		return fmt.Errorf("publish a message that is not sealed: %w", err)
	}
	return nil
}

// publishKey publishes the receiver's public key, signed with its certificate, in the
// broker's key directory, where the sender finds it.
func (d *Demo) publishKey(ctx context.Context) error {
	c, err := d.command("key", "publish", d.PrivateKeyFile(), "--as", Receiver, "--pins", d.receiverPins())
	if err != nil {
		return err
	}
	defer c.Kill()
	select {
	case <-c.Done():
		if err := c.Err(); err != nil {
			return fmt.Errorf("publish the key of %s: %w", Receiver, err)
		}
	case <-ctx.Done():
		return ctx.Err()
	}
	d.cfg.Say("published it, signed by %s, in the broker's key directory", Receiver)
	return nil
}

// command starts a command for this broker.
func (d *Demo) command(args ...string) (*brokerproc.Command, error) {
	return brokerproc.Run(brokerproc.CommandConfig{Exe: d.cfg.Exe, Args: append(args, "--data", d.Data(), "--addr", d.Addr())})
}

func (d *Demo) writeLetters() error {
	var letters bytes.Buffer
	for i := range d.cfg.Messages {
		fmt.Fprintln(&letters, text(i+1, d.cfg.Messages))
	}
	if err := os.WriteFile(d.lettersFile(), letters.Bytes(), 0o600); err != nil {
		return fmt.Errorf("write the letters: %w", err)
	}
	return nil
}

// dial connects with the certificate of that name.
func (d *Demo) dial(ctx context.Context, name string) (*client.Client, error) {
	cfg, err := mtls.ClientConfig(mtls.FilesIn(ca.In(d.Data()).Certs(), name), mtls.ClientOptions{})
	if err != nil {
		return nil, err
	}
	return client.Dial(ctx, client.Config{Addr: d.Addr(), TLS: cfg})
}
