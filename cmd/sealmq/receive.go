package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/internal/jsonl"
	"github.com/sealmq/sealmq/internal/receiver"
	"github.com/sealmq/sealmq/seal"
)

type receiveFlags struct {
	connect  *connectFlags
	keyFiles []string
	out      string
	count    int
	idle     time.Duration
	prefetch int
	giveUp   time.Duration
	declare  bool
	dead     bool
	asJSON   *bool
}

func newReceiveCmd() *cobra.Command {
	var f receiveFlags
	cmd := &cobra.Command{
		Use:   "receive QUEUE --key-file KEY",
		Short: "Take messages from a queue, open them and keep them in a file",
		Long: `Take messages from a queue, open them, and append each as a JSON line to a file. A message is acknowledged
only after its line is on stable storage, so that a crash loses nothing; one that is in the file already
is acknowledged and not written again. What cannot be opened goes to the queue's dead-letter
queue with the reason, and the status is 1 then. A key that opens none of the first messages is taken
for a wrong one: the command ends and moves nothing, unless --dead-letter says otherwise.

It goes on until it is interrupted, unless --count or --idle says otherwise.`,
		Example: `  sealmq receive lab --key-file lab
  sealmq receive lab --key-file lab.key --out results.jsonl --count 100 --idle 10s`,
		Args: cobra.ExactArgs(1),
	}
	f.connect = addConnectFlags(cmd)
	f.asJSON = addJSONFlag(cmd)
	fl := cmd.Flags()
	fl.StringArrayVar(&f.keyFiles, "key-file", nil, "private key: a `file`, or the name of a key in the data folder; can be repeated")
	fl.StringVar(&f.out, "out", "", "`file` to append to (default: QUEUE.jsonl)")
	fl.IntVar(&f.count, "count", 0, "end after so many new messages")
	fl.DurationVar(&f.idle, "idle", 0, "end when nothing comes for so long")
	fl.IntVar(&f.prefetch, "prefetch", 500, "messages to hold unacknowledged at most")
	fl.DurationVar(&f.giveUp, "give-up", 0, giveUpUsage(""))
	fl.BoolVar(&f.declare, "declare", false, "first make the queue if it does not exist")
	fl.BoolVar(&f.dead, "dead-letter", false, "move what cannot be opened even if no message could be opened before")
	_ = cmd.MarkFlagRequired("key-file")
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return f.run(cmd, args[0]) }
	return cmd
}

// receiveResult is what "sealmq receive --json" prints.
type receiveResult struct {
	Queue      string  `json:"queue"`
	File       string  `json:"file"`
	Received   uint64  `json:"received"`
	Known      uint64  `json:"known"`
	Dead       uint64  `json:"dead"`
	Bytes      uint64  `json:"bytes"`
	InFile     int     `json:"in_file"`
	Reconnects uint64  `json:"reconnects"`
	Seconds    float64 `json:"seconds"`
}

func (f *receiveFlags) run(cmd *cobra.Command, queue string) (err error) {
	if err := f.check(queue); err != nil {
		return err
	}
	keys, err := f.keys(cmd)
	if err != nil {
		return err
	}
	file, err := jsonl.Open(durable.OS(), f.out)
	var damaged *jsonl.DamagedError
	if errors.As(err, &damaged) {
		return withHint(err, "name another file with --out; this one was not changed")
	}
	if errors.Is(err, durable.ErrLocked) {
		return withHint(fmt.Errorf("%s is in use by another process", f.out), "another sealmq receive writes to it; name another file with --out")
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if n := file.Cut(); n > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "sealmq: cut off %d bytes of an unfinished line at the end of %s; its message comes again\n", n, f.out)
	}
	c, err := f.connect.dial(cmd.Context(), cmd, func(cfg *client.Config) {
		cfg.Meta, cfg.GiveUpAfter = true, f.giveUp
	})
	if err != nil {
		return err
	}
	defer c.Close()
	if err := f.findQueue(cmd.Context(), c, queue); err != nil {
		return err
	}
	prefetch := receiver.Prefetch(f.prefetch, f.count)
	sub, err := c.Consume(cmd.Context(), queue, prefetch)
	if err != nil {
		return explain(err)
	}
	return f.receive(cmd, c, receiver.Config{Source: sub, Keys: keys, File: file, Count: f.count, Idle: f.idle,
		Prefetch: prefetch, DeadLetter: f.dead}, queue)
}

func (f *receiveFlags) check(queue string) error {
	switch {
	case f.count < 0:
		return usagef("--count is negative")
	case f.idle < 0:
		return usagef("--idle is negative")
	case f.prefetch < 1 || f.prefetch > sealmq.MaxPrefetch:
		return usagef("--prefetch %d is not between 1 and %d", f.prefetch, sealmq.MaxPrefetch)
	}
	if err := sealmq.CheckName("queue", queue); err != nil {
		return &usageError{err: err}
	}
	if f.out == "" {
		if strings.ContainsAny(queue, `/\:`) || strings.HasPrefix(queue, ".") {
			return usagef("queue %q gives no file name; choose the file with --out", queue)
		}
		f.out = queue + ".jsonl"
	}
	return nil
}

// findQueue keeps a misspelt name from making a queue, which consuming would do.
func (f *receiveFlags) findQueue(ctx context.Context, c *client.Client, queue string) error {
	if f.declare {
		return explain(c.DeclareQueue(ctx, queue, nil))
	}
	_, err := c.Queue(ctx, queue)
	switch sealmq.CodeOf(err) {
	case sealmq.NoQueue:
		return withHint(fmt.Errorf("queue '%s' does not exist", queue), `"sealmq queue list" shows which queues there are; --declare makes this one`)
	case sealmq.Unsupported: // an older broker, which cannot say
		return nil
	}
	return explain(err)
}

func (f *receiveFlags) keys(cmd *cobra.Command) ([]*seal.PrivateKey, error) {
	var keys []*seal.PrivateKey
	for _, name := range f.keyFiles {
		path, err := findKeyFile(cmd, name, ".key")
		if err != nil {
			return nil, err
		}
		key, err := readPrivateKey(path)
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	return keys, nil
}

func (f *receiveFlags) receive(cmd *cobra.Command, c *client.Client, cfg receiver.Config, queue string) error {
	ctx := cmd.Context()
	notes := &noteHandler{w: cmd.ErrOrStderr()}
	cfg.Log = slog.New(notes)
	r := receiver.New(cfg)
	began := time.Now()
	bar := startProgress(cmd.ErrOrStderr(), func() (float64, string) {
		st := r.Stats()
		fraction := -1.0
		if f.count > 0 {
			fraction = float64(st.Received) / float64(f.count)
		}
		return fraction, fmt.Sprintf("%s received, %.0f/s", plural(st.Received, "message"), float64(st.Received)/time.Since(began).Seconds())
	})
	err := r.Run(ctx)
	settle, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTime)
	defer cancel()
	// If this fails, what is not acknowledged comes again and is known.
	_ = c.Flush(settle)
	bar.end()
	st := r.Stats()
	res := receiveResult{Queue: queue, File: f.out, Received: st.Received, Known: st.Known, Dead: st.Dead, Bytes: st.Bytes,
		InFile: cfg.File.Len(), Reconnects: c.Stats().Connections - 1, Seconds: time.Since(began).Seconds()}
	if perr := f.print(cmd.OutOrStdout(), res); perr != nil {
		return perr
	}
	var unopened *receiver.UnopenedError
	switch {
	case errors.As(err, &unopened):
		return f.wrongKey(unopened, cfg.Keys)
	case err == nil && st.Dead > 0:
		return withHint(fmt.Errorf("%s could not be opened", plural(st.Dead, "message")),
			`"sealmq queue peek %s%s" shows them with the reasons; "sealmq queue move" puts them back`, queue, sealmq.DeadSuffix)
	}
	return explain(err)
}

// wrongKey says which keys opened nothing.
func (f *receiveFlags) wrongKey(e *receiver.UnopenedError, keys []*seal.PrivateKey) error {
	const hint = "is --key-file the right one? --dead-letter moves what cannot be opened"
	if !errors.Is(e, seal.ErrWrongKey) {
		return withHint(fmt.Errorf("%w; nothing was moved", e), hint)
	}
	prints := make([]string, len(keys))
	for i, k := range keys {
		prints[i] = k.Public().Fingerprint()
	}
	what := "the first message is"
	if e.Messages > 1 {
		what = fmt.Sprintf("the first %d messages are", e.Messages)
	}
	return withHint(fmt.Errorf("%s not sealed for this key (%s); nothing was moved", what, strings.Join(prints, ", ")), hint)
}

func (f *receiveFlags) print(w io.Writer, r receiveResult) error {
	if *f.asJSON {
		return printJSON(w, r)
	}
	line := fmt.Sprintf("received %s, %s, into %s (%d in it)", plural(r.Received, "new message"), bytesText(r.Bytes), r.File, r.InFile)
	if r.Known > 0 {
		line += fmt.Sprintf("; %d came again and were known", r.Known)
	}
	if r.Dead > 0 {
		line += fmt.Sprintf("; %d could not be opened and went to %s%s", r.Dead, r.Queue, sealmq.DeadSuffix)
	}
	_, err := fmt.Fprintln(w, line)
	return err
}
