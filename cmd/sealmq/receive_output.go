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
	"time"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq/cmd/sealmq/internal/jsonl"
	"github.com/sealmq/sealmq/cmd/sealmq/internal/receiver"
	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/receive"
)

// output is the ledger, and the file that it speaks of, if there is one.
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

func (f *receiveFlags) openOutput(cmd *cobra.Command) (*output, error) {
	var ledger *receive.Ledger
	err := whileLocked(cmd.Context(), func() (err error) {
		ledger, err = receive.OpenLedger(f.ledger, receive.LedgerConfig{})
		return err
	})
	if errors.Is(err, durable.ErrLocked) {
		return nil, withHint(fmt.Errorf("%s is in use by another process", f.ledger), "another sealmq receive works with it; name other files with --out or --ledger")
	}
	var broken *receive.DamagedFileError
	if errors.As(err, &broken) {
		return nil, withHint(err, "move it away to begin a new one, which learns from --out what is there")
	}
	if err != nil {
		return nil, err
	}
	o := &output{ledger: ledger}
	if f.exec != "" {
		return o, nil
	}
	err = whileLocked(cmd.Context(), func() (err error) {
		o.file, err = openFile(f.out, ledger)
		return err
	})
	var damaged *jsonl.DamagedError
	switch {
	case errors.As(err, &damaged):
		err = withHint(err, "name another file with --out; this one was not changed")
	case errors.Is(err, durable.ErrLocked):
		err = withHint(fmt.Errorf("%s is in use by another process", f.out), "another sealmq receive writes to it; name another file with --out")
	}
	if err != nil {
		o.file = nil
		return nil, errors.Join(err, ledger.Close())
	}
	if n := o.file.Cut(); n > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "sealmq: cut off %d bytes at the end of %s that were not finished; their messages come again\n", n, f.out)
	}
	return o, nil
}

// openFile opens the file at what the ledger says is committed. A new ledger learns what is
// in a file that is there already.
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

// lenOf is how many messages are in a file, if there is one.
func lenOf(file *jsonl.File) int {
	if file == nil {
		return 0
	}
	return file.Len()
}

// command runs --exec for one message.
func (f *receiveFlags) command(cmd *cobra.Command, queue string) func(context.Context, *receive.Received) error {
	shell := []string{"sh", "-c", f.exec}
	if runtime.GOOS == "windows" {
		shell = []string{"cmd", "/C", f.exec}
	}
	succeeded := false
	return func(ctx context.Context, m *receive.Received) error {
		c := exec.CommandContext(ctx, shell[0], shell[1:]...)
		c.Stdin = strings.NewReader(string(m.Text))
		c.Stdout, c.Stderr = cmd.OutOrStdout(), cmd.ErrOrStderr()
		c.WaitDelay = settleTime
		c.Env = append(os.Environ(), variables(queue, m)...)
		err := c.Run()
		if err == nil {
			succeeded = true
		} else if exit := new(exec.ExitError); !succeeded && errors.As(err, &exit) && slices.Contains(notRun, exit.ExitCode()) {
			// Else every message would be tried, and die at the delivery limit.
			return fmt.Errorf("%w: %w", receiver.ErrUnusable, err)
		}
		return err
	}
}

// notRun are the exit statuses by which a shell says that there is no such command, or that
// it may not be executed: POSIX 2.8.2, and cmd.exe's.
var notRun = []int{126, 127, 9009}

// variables are what a command learns of its message. SEALMQ_MSG_SENDER is there only if the
// message proves who sent it.
func variables(queue string, m *receive.Received) []string {
	exchange, key := m.Exchange, m.RoutingKey
	list := []string{"SEALMQ_MSG_ID=" + m.ID, "SEALMQ_MSG_QUEUE=" + queue, "SEALMQ_MSG_SUITE=" + string(m.Suite)}
	if meta, err := m.Delivery.Meta(); err == nil {
		list = append(list, "SEALMQ_MSG_ATTEMPT="+strconv.Itoa(int(meta.Attempt)), "SEALMQ_MSG_PUBLISHER="+meta.Publisher)
		if !m.Proven() {
			exchange, key = meta.Exchange, meta.Key
		}
	}
	if m.Proven() {
		list = append(list, "SEALMQ_MSG_SENDER="+m.Sender.ID, "SEALMQ_MSG_SEALED_AT="+m.SealedAt.UTC().Format("2006-01-02T15:04:05.000Z07:00"))
	}
	return append(list, "SEALMQ_MSG_EXCHANGE="+exchange, "SEALMQ_MSG_KEY="+key)
}

// failed tells of a command that did not succeed.
func (f *receiveFlags) failed(cmd *cobra.Command) func(*receive.Received, error, time.Duration) {
	return func(m *receive.Received, err error, again time.Duration) {
		fmt.Fprintf(cmd.ErrOrStderr(), "sealmq: the command failed for message %s, %v; it comes again in %v\n", m.ID, err, again)
	}
}
