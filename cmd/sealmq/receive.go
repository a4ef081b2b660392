package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/cmd/sealmq/internal/receiver"
	"github.com/sealmq/sealmq/internal/clock"
	"github.com/sealmq/sealmq/keydir"
	"github.com/sealmq/sealmq/receive"
	"github.com/sealmq/sealmq/seal"
	"github.com/sealmq/sealmq/seal/ciphermq"
	"github.com/sealmq/sealmq/trust"
)

type receiveFlags struct {
	connect   *connectFlags
	directory *directoryFlags
	open      *openFlags
	exec      string
	ledger    string
	out       string
	stream    bool // out is no file
	count     int
	idle      time.Duration
	prefetch  int
	giveUp    time.Duration
	declare   bool
	dead      bool
}

func newReceiveCmd() *cobra.Command {
	var f receiveFlags
	cmd := &cobra.Command{
		Use:   "receive QUEUE --as NAME",
		Short: "Receive messages from a queue, open them and append them to a file",
		Long: `Receive messages from a queue, open and check them, and append each as a JSON line to a file. The command
runs until it is interrupted, or until --count or --idle ends it.

A ledger beside the file records the received messages. A message is acknowledged only after its line and
the ledger are on stable storage, and after a crash the ledger learns the lines that it does not know. So
each message is in the file once, whatever is killed.

With "--out -" the lines go to standard output; --out may also name a device or a FIFO. A message is then
acknowledged once its line is written there. So what the reader loses does not come again, and after a kill a line
may come twice. The ledger is QUEUE.ledger.

With --exec a command is run for each message instead. The message is on its standard input. The variables
SEALMQ_MSG_ID, _SUITE, _EXCHANGE, _KEY, _QUEUE, _ATTEMPT and _PUBLISHER describe it and, if the sender is
proven, _SENDER and _SEALED_AT. If the command exits with status 0 the message is acknowledged; otherwise it
is delivered again, later each time.

A message that is damaged or forged, or that was sent to another place than --expect, goes to the queue's
dead-letter queue with the reason. A message that your keys, names, suites or authorities do not open stays in
the queue, because one of these may be wrong. It is delivered again, later each time, and other messages are
received meanwhile. With --dead-letter such messages are moved too. In both cases the exit status is 1.

If a message of a sender does not arrive although a later one does, a note and the summary say so. It may only
be late, or another receiver may have it.

Before a message is refused because no key opens it, the key files are read again, so a restart after "sealmq
key rotate" is not necessary. A message whose sender cannot be checked at the moment stays in the queue too.`,
		Example: `  sealmq receive lab --as lab
  sealmq receive lab --key-file lab.key --out results.jsonl --count 100 --idle 10s
  sealmq receive lab --key-file lab --expect results/lab --exec ./store.sh`,
	}
	fl := cmd.Flags()
	f.connect = addConnectFlags(cmd)
	f.directory = addDirectoryFlags(f.connect)
	f.open = addOpenFlags(cmd, "senders know it (default: the names of the certificate and of the key files)",
		" (default: the suites that prove the sender, and the suites of the keys)", "accept only messages that were sent to")
	fl.StringVar(&f.exec, "exec", "", "run this `command` for each message, instead of writing a file")
	fl.StringVar(&f.ledger, "ledger", "", "`file` that records the received messages (default: --out with the ending .ledger; with --exec or without a file, QUEUE.ledger)")
	fl.StringVar(&f.out, "out", "", "`file` to append to, or - for standard output (default: QUEUE.jsonl)")
	fl.IntVar(&f.count, "count", 0, "stop after this many new messages")
	fl.DurationVar(&f.idle, "idle", 0, "stop when no message has come for this long")
	fl.IntVar(&f.prefetch, "prefetch", 0, fmt.Sprintf("maximum number of unacknowledged messages (default: %d, and %d with --exec)", filePrefetch, execPrefetch))
	fl.DurationVar(&f.giveUp, "give-up", 0, giveUpUsage(""))
	fl.BoolVar(&f.declare, "declare", false, "first make the queue if it does not exist")
	fl.BoolVar(&f.dead, "dead-letter", false, "move messages that cannot be opened to the dead-letter queue (default: they stay in the queue)")
	return standalone(cmd, f.run)
}

// receiveResult is what "sealmq receive --json" prints.
type receiveResult struct {
	Queue      string  `json:"queue"`
	File       string  `json:"file,omitempty"`
	Received   uint64  `json:"received"`
	Known      uint64  `json:"known"`
	Dead       uint64  `json:"dead"`
	Stayed     uint64  `json:"stayed,omitempty"`    // in the queue
	Undecided  uint64  `json:"undecided,omitempty"` // times that a message was given back
	Failed     uint64  `json:"failed,omitempty"`    // runs of --exec
	Conflicts  uint64  `json:"conflicts,omitempty"` // among dead
	Missing    uint64  `json:"missing,omitempty"`   // not in the ledger, although later ones of their senders are
	Bytes      uint64  `json:"bytes"`
	InFile     int     `json:"in_file"`
	Reconnects uint64  `json:"reconnects"`
	Seconds    float64 `json:"seconds"`
}

func (f *receiveFlags) run(a call) (err error) {
	queue := a.args[0]
	cfg, err := f.check(queue)
	if err != nil {
		return err
	}
	if err := f.open.addOwnKey(f.connect); err != nil {
		return err
	}
	keys, err := readReceiveKeys(a.cmd, f.open)
	if err != nil {
		return err
	}
	cfg.Keys, cfg.Reload = keys.ring, keys.reload
	out, err := f.openOutput(a)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.close()) }()
	cfg.Ledger = out.ledger
	if a.client, err = f.connect.dial(a.ctx, func(cfg *client.Config) {
		cfg.Meta, cfg.GiveUpAfter = true, f.giveUp
	}); err != nil {
		return err
	}
	defer a.client.Close()
	if err := f.findQueue(a, queue); err != nil {
		return err
	}
	if err := f.trust(a, &cfg); err != nil {
		return err
	}
	if out.ledger.Len() > 0 {
		waitForReturn(a.ctx, a.client, queue)
	}
	if cfg.Prefetch = f.prefetch; f.count > 0 {
		cfg.Prefetch = min(f.prefetch, f.count) // others get the rest
	}
	r, err := receive.New(a.ctx, a.client, queue, cfg)
	if err != nil {
		return explain(err)
	}
	run := receiver.Config{Source: r, File: out.lines, Count: f.count, Idle: f.idle}
	if !isStdout(f.out) {
		run.Kept = a.showKept()
	}
	if f.exec != "" {
		run.Do, run.Failed = f.command(a, queue), func(m *receive.Received, err error, again time.Duration) {
			a.note("the command failed for message %s (%v); it will be delivered again in %v", m.ID, err, again)
		}
	}
	return f.receive(a, r, run, queue, keys, out)
}

// check looks at the flags.
func (f *receiveFlags) check(queue string) (cfg receive.Config, err error) {
	switch {
	case f.count < 0:
		return cfg, usagef("--count is negative")
	case f.idle < 0:
		return cfg, usagef("--idle is negative")
	case f.prefetch < 0 || f.prefetch > sealmq.MaxPrefetch:
		return cfg, usagef("--prefetch %d is not between 1 and %d", f.prefetch, sealmq.MaxPrefetch)
	case f.exec != "" && f.out != "":
		return cfg, usagef("--exec and --out cannot be combined")
	}
	if err := checkName(queueName, queue); err != nil {
		return cfg, err
	}
	if f.prefetch == 0 {
		f.prefetch = filePrefetch
		if f.exec != "" {
			f.prefetch = execPrefetch
		}
	}
	if f.out != "" {
		if f.stream, err = isStream(f.out); err != nil {
			return cfg, inPlace(err, "file with --out")
		}
	}
	// The file that the queue's name gives, if none is named.
	byName, flag, ending := &f.out, "--out", ".jsonl"
	if f.exec != "" || f.stream {
		byName, flag, ending = &f.ledger, "--ledger", ledgerSuffix
	}
	if *byName == "" {
		if strings.ContainsAny(queue, `/\:`) || strings.HasPrefix(queue, ".") {
			return cfg, usagef("queue %q gives no file name; choose the file with %s", queue, flag)
		}
		*byName = queue + ending
	}
	f.ledger = cmp.Or(f.ledger, f.out+ledgerSuffix)
	if cfg.Suites, err = parseSuites(f.open.suites); err != nil {
		return cfg, err
	}
	cfg.Exchange, cfg.RoutingKey, err = parseExpect(f.open.expect)
	cfg.DeadLetter = f.dead
	return cfg, err
}

// What a receiver holds when it is killed counts as delivered. Lines are written by the
// thousand; commands run one by one, so there a few are enough.
const (
	filePrefetch = 4096
	execPrefetch = 4
)

const ledgerSuffix = ".ledger"

// trust fills in the authorities to trust and the receiver's names.
func (f *receiveFlags) trust(a call, cfg *receive.Config) error {
	files, err := f.connect.files()
	if err != nil {
		return err
	}
	if _, err = trust.ReadVerifier(files.CA); err != nil {
		return err
	}
	cfg.Verifier = trust.FileVerifier{CA: files.CA} // it may change while messages come
	cfg.Log = slog.New(newNoteHandler(a.cmd))
	if cfg.Directory, err = f.directory.openIf(a.client, f.directory.pinsFile() != ""); err != nil {
		return err
	}
	cfg.Legacy = []seal.Legacy{ciphermq.Suites{}}
	if len(cfg.Suites) == 0 {
		cfg.Suites = acceptedSuites(cfg.Keys)
	}
	if cfg.Names = slices.Clone(f.open.names); len(cfg.Names) > 0 {
		return nil
	}
	name, err := f.connect.ownName()
	if err != nil {
		return err
	}
	cfg.Names = f.open.ownersOf([]string{name})
	return nil
}

// acceptedSuites are the suites that prove the sender, and the suites of the keys: a
// receiver with a key of CipherMQ wants to open messages for it.
func acceptedSuites(ring *seal.Keyring) []seal.Suite {
	return slices.DeleteFunc(seal.Suites(ciphermq.Suites{}), func(s seal.Suite) bool {
		hasKey := slices.ContainsFunc(ring.Live(), func(k *seal.PrivateKey) bool {
			return k.Suite() == s || ciphermq.IsBox(k.Suite()) && ciphermq.IsBox(s)
		})
		return !s.Proves() && !hasKey
	})
}

// findQueue keeps a misspelt name from making a queue, which consuming would do.
func (f *receiveFlags) findQueue(a call, queue string) error {
	if f.declare {
		_, lines := willMake(a.ctx, a.client, queue, "")
		err := retryInterrupted(func() error { return a.client.DeclareQueue(a.ctx, queue, nil) })
		if err == nil {
			a.notes(lines)
		}
		return explain(err)
	}
	err := retryInterrupted(func() error {
		_, err := a.client.Queue(a.ctx, queue)
		return err
	})
	switch sealmq.CodeOf(err) {
	case sealmq.NoQueue:
		if near := suggest(a.ctx, a.client, err, queueName, queue); near != err {
			return near
		}
		return withHint(fmt.Errorf("queue '%s' does not exist", queue), `"sealmq queue list" shows all queues; --declare makes this one`)
	case sealmq.Unsupported: // an older broker, which cannot say
		return nil
	}
	return explain(err)
}

// returnWait is how long waitForReturn waits. Other receivers may always hold messages.
const returnWait = time.Second

// waitForReturn waits until the messages that a killed receiver held are back in the queue.
// Otherwise later messages would come first. It is only for the order.
func waitForReturn(ctx context.Context, c *client.Client, queue string) {
	ctx, cancel := context.WithTimeout(ctx, returnWait)
	defer cancel()
	for {
		info, err := c.Queue(ctx, queue)
		if err != nil || info.Unacked == 0 || clock.Sleep(ctx, clock.System, returnWait/50) != nil {
			return // a next call will report the error
		}
	}
}

func (f *receiveFlags) receive(a call, source *receive.Receiver, cfg receiver.Config, queue string, keys *receiveKeys, out *output) error {
	r, gaps, began := receiver.New(cfg), newGapWatch(out.ledger), time.Now()
	err := withProgress(a.cmd, "received", func() uint64 { return r.Stats().Received }, func() error {
		watching, stop := context.WithCancel(a.ctx)
		var watch sync.WaitGroup
		watch.Go(func() { gaps.run(watching, a.note) })
		err := r.Run(a.ctx)
		stop()
		watch.Wait()
		settle, cancel := context.WithTimeout(context.WithoutCancel(a.ctx), settleTime)
		defer cancel()
		// If this fails, messages that are not acknowledged come again, and the ledger knows them.
		_ = source.GiveBack(settle)
		return err
	})
	st := r.Stats()
	name := f.out
	if f.stream {
		name = ""
	}
	if isStdout(f.out) {
		a.out = a.cmd.ErrOrStderr()
	}
	inFile := 0
	if out.file != nil {
		inFile = out.file.Len()
	}
	res := receiveResult{Queue: queue, File: name, Received: st.Received, Known: st.Repeated, Dead: st.Refused, Bytes: st.Bytes,
		Stayed: st.Stayed, Undecided: st.Undecided, Failed: st.Failed, Conflicts: st.Conflicts, Missing: gaps.missing(), InFile: inFile, Reconnects: a.client.Stats().Connections - 1, Seconds: time.Since(began).Seconds()}
	if perr := a.report(nil, res, "%v", res); perr != nil {
		return perr
	}
	var unopened *receive.UnopenedError
	var fork *keydir.ForkError
	switch {
	case errors.As(err, &unopened):
		return f.wrongKey(unopened, keys.ring)
	case errors.Is(err, receiver.ErrUnusable):
		return withHint(err, "check the command of --exec and its permissions; no message was moved, and no delivery counts as an attempt")
	case errors.As(err, &fork), errors.Is(err, keydir.ErrLog), errors.Is(err, keydir.ErrRollback), errors.Is(err, keydir.ErrPinned):
		return withHint(err, "nothing was moved; %s", cmp.Or(hintFor(err), "ask the broker's operator what happened to the key directory"))
	case err == nil && st.Stayed > 0:
		hint := fmt.Sprintf(`they stay in %s; "sealmq queue peek %s" shows them`, queue, queue)
		if !strings.HasSuffix(queue, sealmq.DeadSuffix) {
			hint += ", and --dead-letter moves them"
		}
		return withHint(fmt.Errorf("%s could not be opened", plural(st.Stayed, "message")), "%s", hint)
	case err == nil && st.Failed > 0 && st.Received == 0:
		return withHint(fmt.Errorf("the command succeeded for no message and failed %s", plural(st.Failed, "time")),
			"these messages are delivered again; at the queue's delivery limit they go to %s%s", queue, sealmq.DeadSuffix)
	case err == nil && st.Refused > 0:
		return withHint(fmt.Errorf("%s could not be opened", plural(st.Refused, "message")),
			`"sealmq queue peek %s%s" shows them with the reasons; "sealmq queue move" moves them back`, queue, sealmq.DeadSuffix)
	}
	return explain(err)
}

// wrongKey adds a hint, and names the keys that do not open the messages.
func (f *receiveFlags) wrongKey(e *receive.UnopenedError, ring *seal.Keyring) error {
	const move = "; --dead-letter moves messages that cannot be opened"
	hint := "check --key-file" + move
	switch {
	case errors.Is(e, seal.ErrReceiver):
		hint = "if it is for you, give the name that the sender used with --name NAME" + move
	case errors.Is(e, seal.ErrUntrusted):
		hint = "check the file of authorities (--ca), and add the senders' authority to it" + move
	case errors.Is(e, seal.ErrWrongKey):
	case hintFor(e) != "":
		hint = hintFor(e) + move
	}
	if !errors.Is(e, seal.ErrWrongKey) {
		return withHint(fmt.Errorf("%w; nothing was moved", e), "%s", hint)
	}
	keys := ring.Live()
	prints := make([]string, len(keys))
	for i, k := range keys {
		prints[i] = k.Public().Fingerprint()
	}
	what := "the first message is"
	if e.Messages > 1 {
		what = fmt.Sprintf("none of the first %d messages can be opened; the first is", e.Messages)
	}
	return withHint(fmt.Errorf("%s not sealed for this key (%s); nothing was moved", what, strings.Join(prints, ", ")), "%s", hint)
}

func (r receiveResult) String() string {
	var s sentence
	s.add(true, "received %s, %s", plural(r.Received, "new message"), bytesText(r.Bytes))
	s.add(r.File != "", ", into %s (%d in it)", r.File, r.InFile)
	s.add(r.Failed > 0, "; the command failed %s", plural(r.Failed, "time"))
	s.add(r.Known > 0, "; %d came again and were already in the ledger", r.Known)
	s.add(r.Dead > 0, "; %d could not be opened and went to %s%s", r.Dead, r.Queue, sealmq.DeadSuffix)
	s.add(r.Stayed > 0, "; %d could not be opened and stay", r.Stayed)
	s.add(r.Missing > 0, "; %s missing in the output so far, although later ones are there", plural(r.Missing, "message"))
	s.add(r.Undecided > 0, "; %s a message could not be checked yet and was returned", plural(r.Undecided, "time"))
	return s.String()
}
