package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/internal/sender"
	"github.com/sealmq/sealmq/seal"
)

type sendFlags struct {
	connect       *connectFlags
	to            string
	exchange, key string
	queue         string
	declare       bool
	lines         bool
	window        int
	giveUp        time.Duration
	asJSON        *bool
}

func newSendCmd() *cobra.Command {
	var f sendFlags
	cmd := &cobra.Command{
		Use:   "send --to KEY --exchange EXCHANGE --key ROUTING-KEY [FILE...]",
		Short: "Seal messages and publish them until each is confirmed",
		Long: `Seal each file, or standard input if none is named, for the holder of a key, and publish it. With --lines
each line is a message of its own; empty lines are skipped.

A message counts as sent when the broker has confirmed that it is stored. What is not confirmed is
published again with the same bytes, also over a lost connection, so that the broker can tell a
repetition from a new message.`,
		Example: `  sealmq send --to lab --exchange results --key lab --declare < report.txt
  sealmq send --to lab.pub --exchange results --key lab --lines messages.txt`,
	}
	f.connect = addConnectFlags(cmd)
	f.asJSON = addJSONFlag(cmd)
	fl := cmd.Flags()
	fl.StringVar(&f.to, "to", "", "receiver's public key: a `file`, or the name of a key in the data folder")
	fl.StringVar(&f.exchange, "exchange", "", "`exchange` to publish to")
	fl.StringVar(&f.key, "key", "", "`routing key` to publish with")
	fl.BoolVar(&f.declare, "declare", false, "first make the exchange and a queue, and bind them")
	fl.StringVar(&f.queue, "queue", "", "`queue` for --declare (default: named like the routing key)")
	fl.BoolVar(&f.lines, "lines", false, "each line is a message")
	fl.IntVar(&f.window, "window", client.DefaultWindow, "unconfirmed messages at most")
	fl.DurationVar(&f.giveUp, "give-up", 0, giveUpUsage("or takes nothing, "))
	for _, name := range []string{"to", "exchange", "key"} {
		_ = cmd.MarkFlagRequired(name)
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return f.run(cmd, args) }
	return cmd
}

// sendResult is what "sealmq send --json" prints.
type sendResult struct {
	Read        uint64  `json:"read"`
	Confirmed   uint64  `json:"confirmed"`
	Refused     uint64  `json:"refused"`
	Retried     uint64  `json:"retried"`
	Waited      uint64  `json:"waited"`
	Resent      uint64  `json:"resent"`
	Reconnects  uint64  `json:"reconnects"`
	Bytes       uint64  `json:"bytes"`
	Seconds     float64 `json:"seconds"`
	MsgsPerSec  float64 `json:"msgs_per_s"`
	ConfirmP50  float64 `json:"confirm_p50_ms"`
	ConfirmP99  float64 `json:"confirm_p99_ms"`
	Interrupted bool    `json:"interrupted,omitempty"`
}

func (f *sendFlags) run(cmd *cobra.Command, args []string) error {
	if f.window < 1 {
		return usagef("--window %d is not above zero", f.window)
	}
	if f.queue != "" && !f.declare {
		return usagef("--queue is for --declare; without it the exchange decides which queues get the messages")
	}
	path, err := findKeyFile(cmd, f.to, ".pub")
	if err != nil {
		return err
	}
	key, err := readPublicKey(path)
	if err != nil {
		return err
	}
	in, err := openInput(cmd, args, f.lines)
	if err != nil {
		return err
	}
	defer in.close()
	ctx := cmd.Context()
	c, err := f.connect.dial(ctx, cmd, func(cfg *client.Config) {
		cfg.Window, cfg.GiveUpAfter = f.window, f.giveUp
	})
	if err != nil {
		return err
	}
	defer c.Close()
	if f.declare {
		if err := f.declareAll(ctx, c); err != nil {
			return explain(err)
		}
	}
	return f.send(ctx, cmd, c, key, in)
}

func (f *sendFlags) declareAll(ctx context.Context, c *client.Client) error {
	queue := f.queue
	if queue == "" {
		queue = f.key
	}
	return c.Declare(ctx, client.Topology{
		Exchanges: []client.Exchange{{Name: f.exchange}},
		Queues:    []client.Queue{{Name: queue}},
		Bindings:  []client.Binding{{Queue: queue, Exchange: f.exchange, Key: f.key}},
	})
}

// settleTime is how long an interrupted command waits for what is under way.
const settleTime = 5 * time.Second

func (f *sendFlags) send(ctx context.Context, cmd *cobra.Command, c *client.Client, key *seal.PublicKey, in *input) error {
	s := sender.New(sender.Config{Publisher: c, Key: key, Exchange: f.exchange, RoutingKey: f.key, GiveUp: f.giveUp,
		Waiting: func(reason error) { fmt.Fprintf(cmd.ErrOrStderr(), "sealmq: waiting: %v\n", reason) }})
	began := time.Now()
	bar := startProgress(cmd.ErrOrStderr(), func() (float64, string) {
		st := s.Stats()
		text := fmt.Sprintf("%s confirmed, %.0f/s", plural(st.Confirmed, "message"), float64(st.Confirmed)/time.Since(began).Seconds())
		return in.fraction(), text
	})
	err := s.Run(ctx, in.next)
	if err != nil { // so that the counts are right
		settle, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTime)
		_ = c.Flush(settle)
		cancel()
	}
	bar.end()
	res := sendResultOf(s.Stats(), c.Stats(), time.Since(began))
	res.Interrupted = ctx.Err() != nil
	if perr := f.print(cmd.OutOrStdout(), res); perr != nil {
		return perr
	}
	if ctx.Err() != nil {
		return interrupted(s.Stats())
	}
	return explain(err)
}

// interrupted says what became of the messages that were read.
func interrupted(s sender.Stats) error {
	if s.Confirmed == s.Read {
		return errors.New("interrupted")
	}
	text := fmt.Sprintf("interrupted: %s read, %d confirmed", plural(s.Read, "message"), s.Confirmed)
	if n := s.Read - s.Confirmed - min(s.Unknown, s.Read-s.Confirmed); n > 0 {
		text += fmt.Sprintf(", %d not stored", n)
	}
	if s.Unknown > 0 {
		text += fmt.Sprintf(", %d stored or not", s.Unknown)
	}
	return errors.New(text)
}

func sendResultOf(s sender.Stats, c client.Stats, took time.Duration) sendResult {
	return sendResult{
		Read: s.Read, Confirmed: s.Confirmed, Refused: s.Refused, Retried: s.Retried, Waited: s.Waited, Bytes: s.Bytes,
		Resent: c.Resent, Reconnects: c.Connections - 1,
		Seconds: took.Seconds(), MsgsPerSec: float64(s.Confirmed) / took.Seconds(),
		ConfirmP50: milliseconds(s.ConfirmP50), ConfirmP99: milliseconds(s.ConfirmP99),
	}
}

func (f *sendFlags) print(w io.Writer, r sendResult) error {
	if *f.asJSON {
		return printJSON(w, r)
	}
	line := "sent " + plural(r.Confirmed, "message")
	if r.Confirmed > 0 {
		line += fmt.Sprintf(", %s, in %.2f s (%.0f a second)", bytesText(r.Bytes), r.Seconds, r.MsgsPerSec)
		line += fmt.Sprintf("; confirmed after p50 %.1f ms, p99 %.1f ms", r.ConfirmP50, r.ConfirmP99)
	}
	if r.Reconnects > 0 {
		line += fmt.Sprintf("; connected again %s, sent again %s", plural(r.Reconnects, "time"), plural(r.Resent, "message"))
	}
	if r.Waited > 0 {
		line += fmt.Sprintf("; %s waited for room", plural(r.Waited, "message"))
	}
	_, err := fmt.Fprintln(w, line)
	return err
}

// input is the files of a command line, one after the other.
type input struct {
	names []string
	lines bool
	stdin io.Reader

	file  io.Closer // the open one
	texts func() ([]byte, error)
	total int64 // bytes of all files, or -1
	read  countingReader
}

// openInput checks that all files can be read, so that the last one's name being wrong
// is known before the first one is sent.
func openInput(cmd *cobra.Command, names []string, lines bool) (*input, error) {
	in := &input{names: names, lines: lines, stdin: cmd.InOrStdin()}
	if len(names) == 0 {
		in.names = []string{"-"}
	}
	for _, name := range in.names {
		if name == "-" {
			in.total = -1
			if f, ok := in.stdin.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
				fmt.Fprintln(cmd.ErrOrStderr(), "sealmq: reading from the terminal; end with Ctrl-D")
			}
			continue
		}
		info, err := os.Stat(name)
		if err != nil {
			return nil, err
		}
		if info.IsDir() {
			return nil, fmt.Errorf("%s is a folder", name)
		}
		if !info.Mode().IsRegular() {
			in.total = -1
		} else if in.total >= 0 {
			in.total += info.Size()
		}
	}
	return in, nil
}

// next is the next text of the files.
func (in *input) next() ([]byte, error) {
	for {
		if in.texts == nil {
			if len(in.names) == 0 {
				return nil, io.EOF
			}
			if err := in.open(in.names[0]); err != nil {
				return nil, err
			}
			in.names = in.names[1:]
		}
		text, err := in.texts()
		if err != io.EOF {
			return text, err
		}
		in.texts = nil
		in.close()
	}
}

func (in *input) open(name string) error {
	what := name
	if name == "-" {
		what, in.read.r = "standard input", in.stdin
	} else {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		in.file, in.read.r = f, f
	}
	if in.lines {
		in.texts = sender.Lines(what, &in.read)
	} else {
		in.texts = sender.Whole(what, &in.read)
	}
	return nil
}

func (in *input) close() {
	if in.file != nil {
		in.file.Close()
		in.file = nil
	}
}

// fraction is how much of the input was read, or -1 if nobody knows.
func (in *input) fraction() float64 {
	if in.total <= 0 {
		return -1
	}
	return float64(in.read.n.Load()) / float64(in.total)
}

// countingReader counts what is read through it.
type countingReader struct {
	r io.Reader
	n atomic.Int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n.Add(int64(n))
	return n, err
}
