// Package demo shows both jobs of the product in a minute. A sender seals letters for a
// receiver and sends them through a broker, and each of the three is killed once. Then a
// client submits messages over HTTPS, through proxy, worker and main server to the database;
// the worker is killed on the way, and at the end the client is revoked. The demonstration
// counts the letters in the receiver's file and the rows in the database, and searches all
// files for the texts.
//
// All of these are processes, so that they can really be killed. The package prints nothing:
// it reports its steps through Config.Say.
package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/sealmq/sealmq/internal/brokerproc"
	"github.com/sealmq/sealmq/seal"
)

// Bounds of Config.Messages.
const (
	MinMessages     = 100
	MaxMessages     = 100_000
	DefaultMessages = 300
)

// The names that the demonstration uses.
const (
	Exchange = "demo"
	Queue    = "inbox"
	Key      = "letters"
	Sender   = "alice"
	Receiver = "bob"
)

// Config is what the demonstration needs. All of it is required.
type Config struct {
	// Exe is the sealmq executable.
	Exe string
	// Dir is an existing empty folder; everything is kept below it.
	Dir string
	// Messages is the number of messages to send, from MinMessages to MaxMessages.
	Messages int
	// Say is called with each step.
	Say func(format string, args ...any)
}

// Result counts what happened. The JSON names are an interface: scripts read them.
type Result struct {
	Sent     int `json:"sent"`     // letters that the broker confirmed
	Received int `json:"received"` // letters in the receiver's file, each counted once
	// Lost letters never arrived, Duplicates are in the receiver's file more than once,
	// and Changed ones have another text than was sent. All must be 0.
	Lost       int `json:"lost"`
	Duplicates int `json:"duplicates"`
	Changed    int `json:"changed"`
	// Each of the three was killed once and started again.
	BrokerRestarts   int `json:"broker_restarts"`
	SenderRestarts   int `json:"sender_restarts"`
	ReceiverRestarts int `json:"receiver_restarts"`
	// PlaintextHits is how many of the broker's files contain a letter's text; it must be
	// 0. ControlHits is the same for a message that is not sealed; it must not be 0, or
	// the search does not work.
	PlaintextHits int            `json:"plaintext_hits"`
	ControlHits   int            `json:"plaintext_control_hits"`
	Pipeline      PipelineResult `json:"pipeline"`
	Trust         TrustResult    `json:"trust"`
	Seconds       float64        `json:"seconds"`
}

// Failed is an error if a promise was broken, or nil.
func (r *Result) Failed() error {
	switch {
	case r.Lost > 0 || r.Duplicates > 0 || r.Changed > 0 || r.Received != r.Sent:
		return fmt.Errorf("of %d letters %d arrived, %d were lost, %d arrived twice, %d were changed",
			r.Sent, r.Received, r.Lost, r.Duplicates, r.Changed)
	case r.PlaintextHits > 0:
		return fmt.Errorf("%d files of the broker show the text of a letter", r.PlaintextHits)
	case r.ControlHits == 0:
		return errors.New("the search of the broker's files does not find a text that was not sealed")
	case r.BrokerRestarts != 1 || r.SenderRestarts != 1 || r.ReceiverRestarts != 1:
		return fmt.Errorf("broker, sender and receiver were restarted %d, %d and %d times, not once each",
			r.BrokerRestarts, r.SenderRestarts, r.ReceiverRestarts)
	}
	return errors.Join(r.Pipeline.failed(), r.Trust.failed())
}

// Demo is a running demonstration.
type Demo struct {
	cfg     Config
	key     *seal.PrivateKey // the receiver's
	log     *os.File         // the broker's log
	process *brokerproc.Process

	main, proxy, worker role
}

// Start makes certificates and keys and starts the broker. Close must follow.
func Start(ctx context.Context, cfg Config) (_ *Demo, err error) {
	d := &Demo{cfg: cfg, main: role{name: "main"}, proxy: role{name: "proxy"}, worker: role{name: "worker"}}
	if err := d.makeCertificates(); err != nil {
		return nil, err
	}
	if err := d.makeKey(); err != nil {
		return nil, err
	}
	if d.log, err = os.OpenFile(d.LogFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
		return nil, fmt.Errorf("open the broker's log: %w", err)
	}
	if err := d.startBroker(ctx, "", ""); err != nil {
		d.log.Close()
		return nil, err
	}
	cfg.Say("broker is process %d, listens on %s, and was ready after %v", d.process.PID, d.process.Addr, d.process.Took.Round(time.Millisecond))
	return d, nil
}

// startAttempts is how often the broker is started if another program uses its port.
const startAttempts = 3

func (d *Demo) startBroker(ctx context.Context, addr, metrics string) (err error) {
	for range startAttempts {
		d.process, err = brokerproc.Start(ctx, brokerproc.Config{
			Exe: d.cfg.Exe, Data: d.Data(), Addr: addr, MetricsAddr: metrics, Log: d.log,
			Env: []string{"SEALMQ_LOG_FORMAT=json"},
		})
		if err == nil || ctx.Err() != nil {
			break
		}
	}
	return err
}

// Data is the broker's data folder.
func (d *Demo) Data() string { return filepath.Join(d.cfg.Dir, "broker") }

// LogFile is the broker's log.
func (d *Demo) LogFile() string { return filepath.Join(d.cfg.Dir, "broker.log") }

// ReceivedFile holds what the receiver opened, one JSON object a line.
func (d *Demo) ReceivedFile() string { return filepath.Join(d.cfg.Dir, "received.jsonl") }

// PrivateKeyFile is the receiver's key.
func (d *Demo) PrivateKeyFile() string { return filepath.Join(d.cfg.Dir, Receiver+".key") }

// PinsFile holds the sender's pins of the key directory.
func (d *Demo) PinsFile() string { return filepath.Join(d.cfg.Dir, Sender+"-pins.json") }

func (d *Demo) receiverPins() string { return filepath.Join(d.cfg.Dir, Receiver+"-pins.json") }
func (d *Demo) lettersFile() string  { return filepath.Join(d.cfg.Dir, "letters.txt") }
func (d *Demo) spoolFolder() string  { return filepath.Join(d.cfg.Dir, Sender+"-spool") }

// Addr is the broker's address for clients.
func (d *Demo) Addr() string { return d.process.Addr }

// MetricsAddr is the broker's address for metrics and health.
func (d *Demo) MetricsAddr() string { return d.process.MetricsAddr }

// Done is closed when the broker has ended.
func (d *Demo) Done() <-chan struct{} { return d.process.Done() }

// stopTimeout is how long a process may take to stop.
const stopTimeout = 20 * time.Second

// Close stops all processes. The folder stays.
func (d *Demo) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	err := d.stopPipeline(ctx)
	if d.process != nil {
		err = errors.Join(err, d.process.Stop(ctx))
	}
	return errors.Join(err, d.log.Close())
}
