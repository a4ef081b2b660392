package main

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/cmd/sealmq/internal/sender"
	"github.com/sealmq/sealmq/internal/clock"
	"github.com/sealmq/sealmq/seal"
	"github.com/sealmq/sealmq/send"
)

type sendFlags struct {
	connect       *connectFlags
	directory     *directoryFlags
	to            []string
	suite         string
	exchange, key string
	queue         string
	declare       bool
	file          string
	lines         bool
	spool         string
	old           string
	count         int
	rate          float64
	window        int
	giveUp        time.Duration
	sign          func() (*seal.Signer, error) // nil if nobody signs
}

func newSendCmd() *cobra.Command {
	var f sendFlags
	cmd := &cobra.Command{
		Use:   "send --to RECEIVER --exchange EXCHANGE --key ROUTING-KEY [FILE...]",
		Short: "Seal messages and publish them until each is confirmed",
		Long: `Seal each file for one or several receivers, and publish it. Without a file, seal standard input. With
--lines each line is a message; empty lines are skipped.

A receiver is a name in the broker's key directory. For a key file write NAME=FILE, or a path: then the
name is the file's. The messages are sealed with the suite of the key. The suites that begin with hpke-
prove to the receiver that you sent the message; --as or --cert says who you are.

A message is sent when the broker has confirmed that it is stored. Messages without a confirm are
published again with the same bytes, so that the broker recognises a repeated message. With --spool this
holds even if the command is killed: a folder keeps the messages until they are confirmed. Start the same
command again, and it sends the rest and continues in the file. So a spool belongs to one file.`,
		Example: `  sealmq send --as clinic --to lab --exchange results --key lab --declare < report.txt
  sealmq send --as clinic --to lab=lab.pub --to audit=audit.pub --exchange results --key lab --lines messages.txt
  sealmq send --as clinic --to lab --exchange results --key lab --spool ./spool --lines --file messages.txt
  sealmq send --as clinic --to lab --exchange results --key lab --count 1000 --rate 50`,
	}
	fl := cmd.Flags()
	f.connect = addConnectFlags(cmd)
	f.directory = addDirectoryFlags(f.connect)
	fl.StringArrayVar(&f.to, "to", nil, toUsage)
	fl.StringVar(&f.suite, "suite", "", "`suite` to seal with (default: the suite of the receiver's key)")
	fl.StringVar(&f.exchange, "exchange", "", "`exchange` to publish to")
	fl.StringVar(&f.key, "key", "", "`routing key` to publish with")
	fl.BoolVar(&f.declare, "declare", false, "first make the exchange and a queue, and bind them")
	fl.StringVar(&f.queue, "queue", "", "`queue` for --declare (default: the routing key)")
	fl.StringVar(&f.file, "file", "", "`file` to send, instead of an argument")
	fl.BoolVar(&f.lines, "lines", false, "send each line as a message")
	fl.StringVar(&f.spool, "spool", "", "`folder` that keeps messages until they are confirmed")
	fl.StringVar(&f.old, "spool-old", "", "what to do with messages in the spool that the broker may have forgotten: send them `again` (some may arrive twice) or drop them")
	fl.IntVar(&f.count, "count", 0, "send this many trial messages instead of files")
	fl.Float64Var(&f.rate, "rate", 0, "maximum number of messages a second (default: no limit)")
	fl.IntVar(&f.window, "window", client.DefaultWindow, "maximum number of unconfirmed messages")
	fl.DurationVar(&f.giveUp, "give-up", 0, giveUpUsage(" or has accepted nothing"))
	for _, name := range []string{"to", "exchange", "key"} {
		_ = cmd.MarkFlagRequired(name)
	}
	return standalone(cmd, f.run)
}

// sendResult is what "sealmq send --json" prints.
type sendResult struct {
	Read        uint64  `json:"read"`
	Replayed    uint64  `json:"replayed,omitempty"`
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

func (f *sendFlags) run(a call) (err error) {
	suite, files, err := f.check(a.args)
	if err != nil {
		return err
	}
	to, err := findRecipients(a.cmd, f.to)
	if err != nil {
		return err
	}
	in, err := openInput(a.cmd, files, f.lines)
	if err != nil {
		return err
	}
	defer in.close()
	spool, err := f.openSpool(a, in)
	if err != nil {
		return err
	}
	if spool != nil {
		defer func() { err = errors.Join(err, spool.Close()) }()
	}
	if a.client, err = f.connect.dial(a.ctx, func(cfg *client.Config) {
		cfg.Window, cfg.GiveUpAfter = f.window, f.giveUp
	}); err != nil {
		return err
	}
	defer a.client.Close()
	declare := f.declare
	if declare && spool != nil && spool.Len() > 0 { // its messages leave as soon as there is a sender
		if err := f.declareAll(a); err != nil {
			return explain(err)
		}
		declare = false
	}
	s, err := f.newSender(a, to, suite, spool)
	if err != nil {
		return err
	}
	defer s.Close()
	if declare { // now that the receivers are known
		if err := f.declareAll(a); err != nil {
			return explain(err)
		}
	}
	if f.sign != nil {
		ctx, cancel := context.WithCancel(a.ctx)
		defer cancel()
		go followRenewal(ctx, clock.System, f.sign, s.Rotate)
	}
	next := in.next
	if f.count > 0 {
		next = sender.Trial(f.count)
	}
	next = sender.Paced(a.ctx, clock.System, f.rate, next)
	return withPlace(f.send(a, s, next), spool)
}

// check checks the flags and returns the suite and the files.
func (f *sendFlags) check(args []string) (seal.Suite, []string, error) {
	if f.file != "" {
		args = append([]string{f.file}, args...)
	}
	suite, err := oneSuite(f.suite)
	for kind, name := range map[string]string{exchangeName: f.exchange, "routing key": f.key, queueName: cmp.Or(f.queue, f.key)} {
		if err == nil {
			err = checkName(kind, name)
		}
	}
	switch {
	case err != nil:
	case f.window < 1:
		err = usagef("--window must be at least 1")
	case f.queue != "" && !f.declare:
		err = usagef("--queue needs --declare; without it the exchange decides which queues get the messages")
	case f.count < 0 || f.rate < 0:
		err = usagef("--count and --rate cannot be negative")
	case f.count > 0 && len(args) > 0:
		err = usagef("--count and files cannot be combined")
	case f.spool != "" && len(args) > 1:
		err = usagef("a spool belongs to one file, not to %d", len(args))
	case f.old != "" && f.spool == "":
		err = usagef("--spool-old needs --spool")
	case f.old != "" && f.old != "again" && f.old != "drop":
		err = usagef("--spool-old: %q is neither again nor drop", f.old)
	}
	return suite, args, err
}

// newSender prepares to seal, and begins to send the messages of the spool.
func (f *sendFlags) newSender(a call, to *recipients, suite seal.Suite, spool *send.Spool) (s *send.Sender, err error) {
	cfg := send.Config{To: to.names, Keys: to.keys, Suite: suite, Spool: spool, GiveUp: f.giveUp,
		Waiting: func(reason error) { a.note("waiting: %v", reason) }}
	if cfg.Directory, err = f.directory.openIf(a.client, to.unknown()); err != nil {
		return nil, err
	}
	if to.proves() {
		var name string
		if name, f.sign, err = f.connect.signers(); err != nil {
			return nil, err
		}
		cfg.Signer = f.sign
		f.connect.noteSigner(name)
	}
	start := func() (err error) {
		s, err = send.New(a.ctx, a.client, cfg)
		return err
	}
	err = retryInterrupted(start)
	if old := (*send.SpoolTooOldError)(nil); errors.As(err, &old) && f.old != "" {
		if err := f.settleOld(spool, old); err != nil {
			return nil, err
		}
		err = retryInterrupted(start)
	}
	if errors.Is(err, send.ErrSpoolTooOld) {
		return nil, explainOld(err)
	}
	if err != nil {
		return nil, to.explain(err)
	}
	if err := f.directory.checkFiles(a.ctx, a.client, cfg.Directory, to); err != nil {
		err = errors.Join(err, s.Flush(a.ctx)) // the messages of the spool are sealed already
		s.Close()
		return nil, err
	}
	return s, nil
}

// settleOld does what --spool-old says with the messages that the broker may have forgotten.
func (f *sendFlags) settleOld(spool *send.Spool, old *send.SpoolTooOldError) error {
	ids := make([]string, len(old.Entries))
	for i, e := range old.Entries {
		ids[i] = e.ID
	}
	if f.old == "drop" {
		return spool.Drop(ids...)
	}
	spool.Renew(ids...)
	return nil
}

func explainOld(err error) error {
	return withHint(err, "find out whether they arrived; then use --spool-old again to send them once more (some may arrive twice), or --spool-old drop to drop them")
}

func (f *sendFlags) declareAll(a call) error {
	queue := cmp.Or(f.queue, f.key)
	_, lines := willMake(a.ctx, a.client, queue, f.exchange)
	err := a.client.Declare(a.ctx, client.Topology{
		Exchanges: []client.Exchange{{Name: f.exchange}},
		Queues:    []client.Queue{{Name: queue}},
		Bindings:  []client.Binding{{Queue: queue, Exchange: f.exchange, Key: f.key}},
	})
	if err == nil {
		a.notes(lines)
	}
	return err
}

// settleTime is how long an interrupted command waits for confirms.
const settleTime = 5 * time.Second

func (f *sendFlags) send(a call, out *send.Sender, next func() (sender.Text, error)) error {
	workers := 1
	if !out.Suite().Proves() || len(f.to) > 1 { // each message costs a public-key operation
		workers = sender.Workers()
	}
	s := sender.New(sender.Config{Out: out, Exchange: f.exchange, RoutingKey: f.key, Workers: workers})
	began := time.Now()
	err := withProgress(a.cmd, "confirmed", func() uint64 { return s.Stats().Confirmed }, func() error {
		err := s.Run(a.ctx, next)
		if err != nil { // so that the counts are right
			settle, cancel := context.WithTimeout(context.WithoutCancel(a.ctx), settleTime)
			defer cancel()
			_ = a.client.Flush(settle)
		}
		return err
	})
	st, conn, took := s.Stats(), a.client.Stats(), time.Since(began).Seconds()
	res := sendResult{Read: st.Read, Replayed: st.Replayed, Confirmed: st.Confirmed, Refused: st.Refused, Retried: st.Retried, Waited: st.Waited, Bytes: st.Bytes,
		Resent: conn.Resent, Reconnects: conn.Connections - 1, Seconds: took, MsgsPerSec: float64(st.Confirmed) / took,
		ConfirmP50: milliseconds(st.ConfirmP50), ConfirmP99: milliseconds(st.ConfirmP99), Interrupted: a.ctx.Err() != nil}
	if perr := a.report(nil, res, "%v", res); perr != nil {
		return perr
	}
	if res.Interrupted {
		err = interrupted(st)
		if f.spool != "" {
			err = withHint(err, "run the same command again to continue")
		}
		return err
	}
	if errors.Is(err, send.ErrSpoolTooOld) {
		return explainOld(err)
	}
	if errors.Is(err, seal.ErrExpired) {
		if files, fileErr := f.connect.files(); fileErr == nil {
			err = withHint(err, "%s", hintFor(f.connect.checkDates(files.Cert)))
		}
	}
	return explain(suggestRoute(a.ctx, a.client, err, f.exchange, f.key))
}

// interrupted says what happened to the messages that were read.
func interrupted(s sender.Stats) error {
	all := s.Read + s.Replayed
	if s.Confirmed == all {
		return errors.New("interrupted")
	}
	var text sentence
	text.add(true, "interrupted: %s read, %d confirmed", plural(all, "message"), s.Confirmed)
	gone := all - s.Confirmed - min(s.Unknown, all-s.Confirmed)
	text.add(gone > 0, ", %d not stored", gone)
	text.add(s.Unknown > 0, ", %d possibly stored", s.Unknown)
	return errors.New(text.String())
}

func (r sendResult) String() string {
	var s sentence
	s.add(true, "sent %s", plural(r.Confirmed, "message"))
	s.add(r.Confirmed > 0, ", %s, in %.2f s (%.0f a second); confirmed after p50 %.1f ms, p99 %.1f ms",
		bytesText(r.Bytes), r.Seconds, r.MsgsPerSec, r.ConfirmP50, r.ConfirmP99)
	s.add(r.Replayed > 0, "; %d of them from the spool", r.Replayed)
	s.add(r.Reconnects > 0, "; reconnected %s, sent %s again", plural(r.Reconnects, "time"), plural(r.Resent, "message"))
	s.add(r.Waited > 0, "; %s waited for room", plural(r.Waited, "message"))
	return s.String()
}
