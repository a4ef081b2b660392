package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/sealmq/sealmq/cmd/sealmq/internal/jsonl"
	"github.com/sealmq/sealmq/cmd/sealmq/internal/receiver"
	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/receive"
)

// output is the ledger, and where the lines go, if anywhere.
type output struct {
	ledger *receive.Ledger
	lines  receiver.Lines // nil with --exec
	file   *jsonl.File    // nil if the lines go nowhere or to a stream
	closer io.Closer      // of lines
}

func (o *output) close() error {
	var err error
	if o.closer != nil {
		err = o.closer.Close()
	}
	return errors.Join(err, o.ledger.Close())
}

func (f *receiveFlags) openOutput(a call) (*output, error) {
	if err := checkLedger(f.ledger); err != nil {
		return nil, err
	}
	ledger, err := retryLocked(a.ctx, func() (*receive.Ledger, error) { return receive.OpenLedger(f.ledger, receive.LedgerConfig{}) })
	err = inPlace(err, "file with --ledger")
	if errors.Is(err, durable.ErrLocked) {
		return nil, withHint(fmt.Errorf("%s is in use by another process", f.ledger), "another \"sealmq receive\" uses it; name other files with --out or --ledger")
	}
	if _, ok := errors.AsType[*receive.DamagedFileError](err); ok {
		return nil, withHint(err, "put it back from a backup, or move it away: %s", f.withoutLedger("a new one learns the messages in "+f.out))
	}
	if err != nil {
		return nil, err
	}
	if cut := ledger.Cut(); cut.Bytes > 0 {
		a.note("the ledger %s ended inside a record: its last %s are in %s now; %s", f.ledger, plural(uint64(cut.Bytes), "byte"), cut.Kept,
			f.withoutLedger("it learns the messages at the end of "+f.out))
	}
	o := &output{ledger: ledger}
	switch {
	case f.exec != "":
		return o, nil
	case f.stream:
		return o, f.openStream(a, o)
	}
	known := ledger.Output()
	o.file, err = retryLocked(a.ctx, func() (*jsonl.File, error) {
		return jsonl.Open(durable.OS(), f.out, known.Length, int(known.Messages), ledger)
	})
	err = inPlace(err, "file with --out")
	var damaged *jsonl.DamagedError
	switch {
	case errors.As(err, &damaged) && damaged.Line == 0:
		err = withHint(err, "its messages were acknowledged and do not come again; restore the file, or move it away: then a new one begins, and %s still recognises what came before", f.ledger)
	case errors.As(err, &damaged):
		err = withHint(err, "nothing was changed: put the file back as it was, or name another one with --out; "+
			"to go on with what is in it, make all its lines whole, and move the ledger %s away: a new one learns them", f.ledger)
	case errors.Is(err, durable.ErrLocked):
		err = withHint(fmt.Errorf("%s is in use by another process", f.out), "another \"sealmq receive\" writes to it; name another file with --out")
	}
	if err != nil {
		return nil, errors.Join(err, ledger.Close())
	}
	o.lines, o.closer = o.file, o.file
	if err := f.agree(a, o, known); err != nil {
		return nil, errors.Join(err, o.close())
	}
	return o, nil
}

// openStream opens an output that is no file.
func (f *receiveFlags) openStream(a call, o *output) error {
	name := f.out
	if isStdout(name) {
		name = "standard output"
	}
	a.note("the lines go to %s: a message is acknowledged once its line is written there, so what the reader loses does not come again; the ledger is %s", name, f.ledger)
	w, err := openStream(a.ctx, a.cmd, f.out)
	if err != nil {
		return errors.Join(err, o.ledger.Close())
	}
	lines := jsonl.NewStream(w)
	o.lines, o.closer = lines, lines
	return nil
}

// withoutLedger says what happens to messages that a ledger does not know any more.
func (f *receiveFlags) withoutLedger(learns string) string {
	switch {
	case f.exec != "":
		return "the command may run a second time for messages that were not acknowledged"
	case f.stream:
		return "messages that were not acknowledged may be written a second time"
	}
	return learns
}

// checkLedger refuses a name that cannot be a ledger, before there is a lock file beside it.
func checkLedger(name string) error {
	if stream, err := isStream(name); err != nil || stream {
		return cmp.Or(err, withHint(fmt.Errorf("%s is no file", name), "a ledger is read again at the next start; name a file for it with --ledger"))
	}
	if dir := filepath.Dir(name); !isFolder(dir) {
		return withHint(fmt.Errorf("there is no folder %s", dir), "make it, or name other files with --out and --ledger")
	}
	return nil
}

func isFolder(name string) bool {
	info, err := os.Stat(name)
	return err != nil && !errors.Is(err, fs.ErrNotExist) || err == nil && info.IsDir()
}

// agree makes the ledger say what is in the file, and tells how they differed. The ledger has
// learned the lines that it did not know: a receiver was killed between the two, the ledger is
// new, or it was damaged.
func (f *receiveFlags) agree(a call, o *output, known receive.Output) error {
	if cut := o.file.Cut(); cut.Bytes > 0 {
		a.note("%s ended inside a line: its last %s are in %s now; the message comes again if it was not acknowledged", f.out, plural(uint64(cut.Bytes), "byte"), cut.Kept)
	}
	now := receive.Output{Length: o.file.Size(), Messages: uint64(o.file.Len())}
	switch {
	case now == known:
		return nil
	case now.Length == 0:
		a.note("%s is missing or empty, though %s were written to it; it begins again, and they do not come again", f.out, plural(known.Messages, "message"))
	case known != receive.Output{}:
		a.note("the ledger %s did not know %s at the end of %s, and knows them now", f.ledger, plural(now.Messages-known.Messages, "message"), f.out)
	}
	return o.ledger.Rewrite(now)
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
		c.Env = append(environWithout(variablePrefix), variables(queue, m)...)
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

// variablePrefix begins the variables of --exec.
const variablePrefix = "SEALMQ_MSG_"

// environWithout is this process's environment without the variables with a prefix. A caller
// could otherwise set one that says what a message does not say. On Windows, names of
// variables are the same in upper and lower case.
func environWithout(prefix string) []string {
	return slices.DeleteFunc(os.Environ(), func(kv string) bool {
		return len(kv) >= len(prefix) && strings.EqualFold(kv[:len(prefix)], prefix)
	})
}

// variables tell a command about its message. SEALMQ_MSG_SENDER is set only if the message
// proves its sender.
func variables(queue string, m *receive.Received) []string {
	exchange, key := m.Exchange, m.RoutingKey
	var list []string
	set := func(name, value string) { list = append(list, variablePrefix+name+"="+value) }
	set("ID", m.ID)
	set("QUEUE", queue)
	set("SUITE", string(m.Suite))
	if d := m.Delivery; d.Attempt > 0 {
		set("ATTEMPT", strconv.Itoa(int(d.Attempt)))
		set("PUBLISHER", d.Publisher)
		if !m.Proven() {
			exchange, key = d.Exchange, d.Key
		}
	}
	if m.Proven() {
		set("SENDER", m.Sender.ID)
		set("SEALED_AT", m.SealedAt.UTC().Format("2006-01-02T15:04:05.000Z07:00"))
	}
	set("EXCHANGE", exchange)
	set("KEY", key)
	return list
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
