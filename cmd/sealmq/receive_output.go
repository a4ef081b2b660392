package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/sealmq/sealmq/cmd/sealmq/internal/jsonl"
	"github.com/sealmq/sealmq/cmd/sealmq/internal/receiver"
	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/receive"
)

// output is the ledger, and the output file, if there is one.
type output struct {
	ledger *receive.Ledger
	file   *jsonl.File
}

func (o *output) close() error {
	var err error
	if o.file != nil {
		err = o.file.Close()
	}
	return errors.Join(err, o.ledger.Close())
}

func (f *receiveFlags) openOutput(a call) (*output, error) {
	ledger, err := retryLocked(a.ctx, func() (*receive.Ledger, error) { return receive.OpenLedger(f.ledger, receive.LedgerConfig{}) })
	if errors.Is(err, durable.ErrLocked) {
		return nil, withHint(fmt.Errorf("%s is in use by another process", f.ledger), "another \"sealmq receive\" uses it; name other files with --out or --ledger")
	}
	if _, ok := errors.AsType[*receive.DamagedFileError](err); ok {
		return nil, withHint(err, "move the ledger away; a new one learns the messages in the file of --out")
	}
	if err != nil {
		return nil, err
	}
	o := &output{ledger: ledger}
	if f.exec != "" {
		return o, nil
	}
	o.file, err = retryLocked(a.ctx, func() (*jsonl.File, error) { return openFile(f.out, ledger) })
	var damaged *jsonl.DamagedError
	switch {
	case errors.As(err, &damaged) && damaged.Line == 0:
		err = withHint(err, "its messages were acknowledged and do not come again; restore the file, or move it away: then a new one begins, and %s still recognises what came before", f.ledger)
	case errors.As(err, &damaged):
		err = withHint(err, "name another file with --out; this one was not changed")
	case errors.Is(err, durable.ErrLocked):
		err = withHint(fmt.Errorf("%s is in use by another process", f.out), "another \"sealmq receive\" writes to it; name another file with --out")
	}
	if err != nil {
		o.file = nil
		return nil, errors.Join(err, ledger.Close())
	}
	if n := o.file.Cut(); n > 0 {
		a.note("cut off %d incomplete bytes at the end of %s; their messages will be delivered again", n, f.out)
	}
	return o, nil
}

// openFile opens the file and cuts off what the ledger has not committed. A new ledger
// learns the messages of an existing file.
func openFile(name string, ledger *receive.Ledger) (*jsonl.File, error) {
	known := ledger.Output()
	if known.Length > 0 || ledger.Len() > 0 {
		return jsonl.OpenAt(durable.OS(), name, known.Length, int(known.Messages))
	}
	file, err := jsonl.Open(durable.OS(), name, ledger.Add)
	if err != nil || file.Len() == 0 {
		return file, err
	}
	err = ledger.Rewrite(receive.Output{Length: file.Size(), Messages: uint64(file.Len())})
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// lenOf is the number of messages in a file, or 0 if there is none.
func lenOf(file *jsonl.File) int {
	if file == nil {
		return 0
	}
	return file.Len()
}

// command runs --exec for one message.
func (f *receiveFlags) command(a call, queue string) func(context.Context, *receive.Received) error {
	shell := []string{"sh", "-c", f.exec}
	if runtime.GOOS == "windows" {
		shell = []string{"cmd", "/C", f.exec}
	}
	succeeded := false
	return func(ctx context.Context, m *receive.Received) error {
		c := exec.CommandContext(ctx, shell[0], shell[1:]...)
		c.Stdin = strings.NewReader(string(m.Text))
		c.Stdout, c.Stderr = a.out, a.cmd.ErrOrStderr()
		c.WaitDelay = settleTime
		c.Env = append(os.Environ(), variables(queue, m)...)
		err := c.Run()
		if err == nil {
			succeeded = true
		} else if exit := new(exec.ExitError); !succeeded && errors.As(err, &exit) && slices.Contains(notRun, exit.ExitCode()) {
			// Otherwise every message would be tried until its delivery limit.
			return fmt.Errorf("%w: %w", receiver.ErrUnusable, err)
		}
		return err
	}
}

// notRun are the exit statuses of shells for a command that does not exist or may not be
// executed: those of POSIX 2.8.2, and that of cmd.exe.
var notRun = []int{126, 127, 9009}

// variables tell a command about its message. SEALMQ_MSG_SENDER is set only if the message
// proves its sender.
func variables(queue string, m *receive.Received) []string {
	exchange, key := m.Exchange, m.RoutingKey
	list := []string{"SEALMQ_MSG_ID=" + m.ID, "SEALMQ_MSG_QUEUE=" + queue, "SEALMQ_MSG_SUITE=" + string(m.Suite)}
	if d := m.Delivery; d.Attempt > 0 {
		list = append(list, "SEALMQ_MSG_ATTEMPT="+strconv.Itoa(int(d.Attempt)), "SEALMQ_MSG_PUBLISHER="+d.Publisher)
		if !m.Proven() {
			exchange, key = d.Exchange, d.Key
		}
	}
	if m.Proven() {
		list = append(list, "SEALMQ_MSG_SENDER="+m.Sender.ID, "SEALMQ_MSG_SEALED_AT="+m.SealedAt.UTC().Format("2006-01-02T15:04:05.000Z07:00"))
	}
	return append(list, "SEALMQ_MSG_EXCHANGE="+exchange, "SEALMQ_MSG_KEY="+key)
}

// shownAtOnce is how many messages of one write are shown.
const shownAtOnce = 10

// showKept returns what shows the person at the terminal which messages are in the file now;
// nil if nobody is there.
func (a call) showKept() func([]receive.Received) {
	w := a.cmd.ErrOrStderr()
	if !onTerminal(a.out) || !onTerminal(w) || a.asJSON || isQuiet(a.cmd) {
		return nil
	}
	return func(list []receive.Received) {
		for i := range list[:min(len(list), shownAtOnce)] {
			m := &list[i]
			from := "not proven"
			if m.Proven() {
				from = m.Sender.ID
			}
			fmt.Fprintf(w, "%s%s  %s\n", clearLine, colour(w, bold, printable(from)), cutLine(string(m.Text)))
		}
		if more := len(list) - shownAtOnce; more > 0 {
			fmt.Fprintf(w, "%s… and %s more\n", clearLine, plural(more, "message"))
		}
	}
}

// shownChars is how much of a text is shown on its line.
const shownChars = 100

func cutLine(text string) string {
	chars := []rune(oneLine(text[:min(len(text), 4*shownChars)]))
	if len(chars) > shownChars {
		return string(chars[:shownChars]) + "…"
	}
	return string(chars)
}
