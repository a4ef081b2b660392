package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/sealmq/sealmq/internal/brokerproc"
)

const (
	// sendTime is about how long sending takes. The crashes come within this time.
	sendTime = 3 * time.Second
	// stallTime is longer than the broker's ack timeout, after which the broker delivers
	// again what a lost connection held.
	stallTime = 45 * time.Second
	// pollInterval is how often the receiver's file is read, all of it.
	pollInterval = 20 * time.Millisecond
)

// run is one pass over all letters.
type run struct {
	*Demo
	sender, receiver *brokerproc.Command
	arrived          int // letters in the receiver's file
	result           Result
}

// Run shows both jobs and counts what arrived.
func (d *Demo) Run(ctx context.Context) (*Result, error) {
	began := time.Now()
	res, err := d.runLetters(ctx)
	if err != nil {
		return nil, err
	}
	d.cfg.Say("")
	p, err := d.runPipeline(ctx)
	if err != nil {
		return nil, fmt.Errorf("the pipeline: %w", err)
	}
	t, err := d.runRevocation(ctx)
	if err != nil {
		return nil, err
	}
	res.Pipeline, res.Trust, res.Seconds = *p, *t, time.Since(began).Seconds()
	return res, nil
}

// runLetters sends the letters, kills sender, broker and receiver once each on the way, and
// counts what arrived.
func (d *Demo) runLetters(ctx context.Context) (_ *Result, err error) {
	if err := d.prepare(ctx); err != nil {
		return nil, err
	}
	r := &run{Demo: d}
	defer r.killBoth()
	if r.receiver, err = d.startReceiver(); err != nil {
		return nil, err
	}
	if r.sender, err = d.startSender(); err != nil {
		return nil, err
	}
	d.cfg.Say("%s (process %d) seals %d letters for %s (process %d) and sends them", Sender, r.sender.ProcessID(),
		d.cfg.Messages, Receiver, r.receiver.ProcessID())
	for i, crash := range []func(context.Context) error{r.crashSender, r.crashBroker, r.crashReceiver} {
		if err := r.waitFor(ctx, (i+1)*d.cfg.Messages/4); err != nil {
			return nil, err
		}
		if err := crash(ctx); err != nil {
			return nil, err
		}
	}
	if err := r.waitSender(ctx); err != nil {
		return nil, err
	}
	r.result.Sent = d.cfg.Messages
	d.cfg.Say("all %d letters are confirmed", d.cfg.Messages)
	if err := r.waitFor(ctx, d.cfg.Messages); err != nil && !errors.Is(err, errStalled) {
		return nil, err
	}
	if err := r.waitAcknowledged(ctx); err != nil {
		return nil, err
	}
	if err := r.stopReceiver(ctx); err != nil {
		return nil, err
	}
	if err := d.judge(&r.result); err != nil {
		return nil, err
	}
	return &r.result, nil
}

// startSender starts a process that ends when every letter is confirmed. It continues
// where a killed sender stopped.
func (d *Demo) startSender() (*brokerproc.Command, error) {
	return d.command("send", "--as", Sender, "--to", Receiver, "--pins", d.PinsFile(),
		"--exchange", Exchange, "--key", Key, "--spool", d.spoolFolder(), "--file", d.lettersFile(), "--lines",
		"--rate", fmt.Sprint(d.cfg.Messages*int(time.Second)/int(sendTime)))
}

func (d *Demo) startReceiver() (*brokerproc.Command, error) {
	return d.command("receive", Queue, "--as", Receiver, "--key-file", d.PrivateKeyFile(),
		"--pins", d.receiverPins(), "--out", d.ReceivedFile(), "--expect", Exchange+"/"+Key)
}

func (r *run) crashBroker(ctx context.Context) error {
	before := r.process
	before.Kill()
	if err := r.startBroker(ctx, before.Addr, before.MetricsAddr); err != nil {
		return err
	}
	r.sayKilled("broker  ", before.Command, r.process.Command, fmt.Sprintf("was ready again after %v", r.process.Took.Round(time.Millisecond)))
	r.result.BrokerRestarts++
	return nil
}

func (r *run) crashSender(context.Context) error {
	r.result.SenderRestarts++
	return r.crash("sender  ", &r.sender, r.startSender, "goes on from the spool")
}

func (r *run) crashReceiver(context.Context) error {
	r.result.ReceiverRestarts++
	return r.crash("receiver", &r.receiver, r.startReceiver, "goes on from the ledger")
}

func (r *run) crash(what string, client **brokerproc.Command, start func() (*brokerproc.Command, error), how string) (err error) {
	before := *client
	before.Kill()
	if *client, err = start(); err == nil {
		r.sayKilled(what, before, *client, how)
	}
	return err
}

func (r *run) sayKilled(what string, before, after *brokerproc.Command, how string) {
	r.cfg.Say("killed the %s (kill -9 %d) after %d letters had arrived; process %d %s", what, before.ProcessID(), r.arrived, after.ProcessID(), how)
}

func (r *run) killBoth() {
	for _, c := range []*brokerproc.Command{r.sender, r.receiver} {
		if c != nil {
			c.Kill()
		}
	}
}

// waitAcknowledged waits until the receiver has subscribed and acknowledged everything, or
// until that takes too long. A receiver that was only just started would not handle the
// signal of stopReceiver yet and would die.
func (r *run) waitAcknowledged(ctx context.Context) error {
	c, err := r.dial(ctx, Receiver)
	if err != nil {
		return err
	}
	defer c.Close()
	since := time.Now()
	return r.poll(ctx, func() (bool, error) {
		q, err := c.Queue(ctx, Queue)
		if err != nil {
			return false, fmt.Errorf("read the state of the queue: %w", err)
		}
		return q.Consumers > 0 && q.Ready+q.Unacked == 0 || time.Since(since) > stallTime, nil
	})
}

// stopReceiver interrupts the receiver, which then acknowledges what it has written and
// returns the rest.
func (r *run) stopReceiver(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	return r.receiver.Stop(ctx)
}

// waitSender waits for the end of the sender.
func (r *run) waitSender(ctx context.Context) error {
	return r.poll(ctx, func() (bool, error) {
		select {
		case <-r.sender.Done():
			return true, r.sender.Err()
		default:
			return false, nil
		}
	})
}

// errStalled says that no letter arrives any more.
var errStalled = errors.New("nothing arrived for a long time")

// waitFor waits until n letters have arrived.
func (r *run) waitFor(ctx context.Context, n int) error {
	last, since := -1, time.Now()
	return r.poll(ctx, func() (bool, error) {
		err := r.countArrived()
		if r.arrived != last {
			last, since = r.arrived, time.Now()
		}
		if err == nil && r.arrived < n && time.Since(since) > stallTime {
			err = errStalled
		}
		return r.arrived >= n, err
	})
}

// poll calls done until it reports true or an error. It fails if the receiver ends, or if
// the sender ends with an error.
func (r *run) poll(ctx context.Context, done func() (bool, error)) error {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	senderDone := r.sender.Done()
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-senderDone:
			if err := r.sender.Err(); err != nil {
				return fmt.Errorf("the sender ended: %w", err)
			}
			senderDone = nil
		case <-r.receiver.Done():
			return fmt.Errorf("the receiver ended: %w", r.receiver.Err())
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// countArrived counts the lines of the receiver's file. When a receiver starts, it may cut
// off lines that were not committed.
func (r *run) countArrived() (err error) {
	content, err := os.ReadFile(r.ReceivedFile())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("count what arrived: %w", err)
	}
	r.arrived = bytes.Count(content, []byte{'\n'})
	return nil
}
