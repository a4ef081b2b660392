package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/internal/jsonl"
	"github.com/sealmq/sealmq/internal/receiver"
	"github.com/sealmq/sealmq/internal/sender"
	"github.com/sealmq/sealmq/seal"
)

const (
	// sendTime is about how long sending takes, so that the crashes come in the middle.
	sendTime = 2 * time.Second
	// stallTime is longer than the broker's ack timeout, after which at the latest
	// everything comes again that a lost connection held.
	stallTime = 45 * time.Second
	// pollInterval is how often the receiver's count is looked at.
	pollInterval = 5 * time.Millisecond
	// prefetch keeps few messages in the receiver's hands, as few come again.
	prefetch = 32
)

// marker stands in every message and nowhere else; it must be found nowhere.
const marker = "Dear " + Receiver + ", this stays between us"

// text is what message i says.
func text(i, of int) string {
	return fmt.Sprintf("%s, letter %d of %d: the meeting is at noon", marker, i, of)
}

// Run sends the messages, kills the broker twice on the way, and counts what arrived.
func (d *Demo) Run(ctx context.Context) (*Result, error) {
	began := time.Now()
	from, err := d.dial(ctx, Sender)
	if err != nil {
		return nil, err
	}
	defer from.Close()
	to, err := d.dial(ctx, Receiver)
	if err != nil {
		return nil, err
	}
	defer to.Close()
	file, err := jsonl.Open(durable.OS(), d.ReceivedFile())
	if err != nil {
		return nil, err
	}
	defer file.Close() // everything in it is committed
	ledger, err := client.OpenLedger(d.ReceivedFile()+".ledger", client.LedgerConfig{})
	if err != nil {
		return nil, err
	}
	defer ledger.Close()
	source, err := d.subscribe(ctx, to, ledger)
	if err != nil {
		return nil, err
	}
	out, err := from.NewSender(ctx, client.SenderConfig{To: []string{Receiver}, Keys: map[string]*seal.PublicKey{Receiver: d.key.Public()}, Signer: d.signer})
	if err != nil {
		return nil, err
	}
	defer out.Close()
	send := sender.New(sender.Config{Out: out, Exchange: Exchange, RoutingKey: Key})
	receive := receiver.New(receiver.Config{Source: source, File: file, Prefetch: prefetch})

	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	stop := func() { cancel(); wg.Wait() }
	defer stop()
	ended := make(chan error, 2) // of sender and receiver, only errors
	d.cfg.Say("%s seals %d messages for %s and sends them", Sender, d.cfg.Messages, Receiver)
	wg.Go(func() { report(ended, send.Run(ctx, d.letters(ctx))) })
	wg.Go(func() { report(ended, receive.Run(ctx)) })

	received := func() int { return int(receive.Stats().Received) }
	r := &Result{}
	for i := range kills {
		if err := waitFor(ctx, (i+1)*d.cfg.Messages/(kills+1), received, ended); err != nil {
			return nil, err
		}
		if err := d.crash(ctx, received()); err != nil {
			return nil, err
		}
		r.Restarts++
	}
	confirmed := func() int { return int(send.Stats().Confirmed) }
	if err := waitFor(ctx, d.cfg.Messages, confirmed, ended); err != nil {
		return nil, err
	}
	d.cfg.Say("all %d messages are confirmed", d.cfg.Messages)
	if err := waitFor(ctx, d.cfg.Messages, received, ended); err != nil && !errors.Is(err, errStalled) {
		return nil, err
	}
	if err := to.Flush(ctx); err != nil {
		return nil, fmt.Errorf("wait for acknowledgements: %w", err)
	}
	stop()
	r.Sent, r.Resent, r.Redelivered = confirmed(), int(from.Stats().Resent), int(receive.Stats().Repeated)
	if err := d.count(r); err != nil {
		return nil, err
	}
	if r.Plaintext, err = d.searchBroker(); err != nil {
		return nil, err
	}
	r.Seconds = time.Since(began).Seconds()
	return r, nil
}

func report(ended chan<- error, err error) {
	if err != nil {
		ended <- err
	}
}

// letters gives the sender one text after the other, with pauses.
func (d *Demo) letters(ctx context.Context) func() (sender.Text, error) {
	i, n := 0, d.cfg.Messages
	began := time.Now()
	return func() (sender.Text, error) {
		if i == n {
			return sender.Text{}, io.EOF
		}
		pause := time.NewTimer(time.Until(began.Add(sendTime * time.Duration(i) / time.Duration(n))))
		defer pause.Stop()
		select {
		case <-pause.C:
		case <-ctx.Done():
			return sender.Text{}, ctx.Err()
		}
		i++
		return sender.Text{Body: []byte(text(i, n))}, nil
	}
}

// subscribe makes what the messages go through and consumes it.
func (d *Demo) subscribe(ctx context.Context, c *client.Client, ledger *client.Ledger) (*client.Receiver, error) {
	for _, line := range []string{"declare_exchange " + Exchange, "declare_queue " + Queue, "bind " + Queue + " " + Exchange + " " + Key} {
		if _, err := c.Command(ctx, line); err != nil {
			return nil, fmt.Errorf("%s: %w", line, err)
		}
	}
	keys, err := seal.NewKeyring(d.key)
	if err != nil {
		return nil, err
	}
	trust, err := d.verifier()
	if err != nil {
		return nil, err
	}
	return c.NewReceiver(ctx, Queue, client.ReceiverConfig{Names: []string{Receiver}, Keys: keys, Verifier: trust, Ledger: ledger, Prefetch: prefetch})
}

// errStalled says that nothing moves any more.
var errStalled = errors.New("nothing arrived for a long time")

// waitFor waits until count is n, or until sender or receiver has ended with an error.
func waitFor(ctx context.Context, n int, count func() int, ended <-chan error) error {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	last, since := -1, time.Now()
	for {
		switch got := count(); {
		case got >= n:
			return nil
		case got != last:
			last, since = got, time.Now()
		case time.Since(since) > stallTime:
			return errStalled
		}
		select {
		case <-tick.C:
		case err := <-ended:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
