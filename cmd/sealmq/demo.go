package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq/cmd/sealmq/internal/demo"
	"github.com/sealmq/sealmq/internal/durable"
)

func newDemoCmd() *cobra.Command {
	var f demoFlags
	cmd := standalone(&cobra.Command{
		Use:   "demo",
		Short: "See sealed messages survive crashes, and a stolen certificate refused",
		Long: `Start a broker in a new folder on free ports, and send sealed letters through it from one client to
another. Sender, broker and receiver are processes of their own; each is killed once (kill -9) and
started again. Count the letters that arrived, and search the broker's files for their text.

Then start the roles of the pipeline, and submit messages over HTTPS with a certificate. The worker is
killed half-way. Count the rows in the database, search all files for texts and numbers, revoke the client,
and measure how long it is still let in.

Then the demo prints a link to the portal and where to look, and goes on submitting messages until Ctrl-C. At the end it removes everything, unless
--dir names a folder.`,
	}, f.run)
	cmd.Flag("json").Usage = "with --once: print one JSON object"
	cmd.Flags().BoolVar(&f.once, "once", false, "exit after counting, with status 0 if all is well and 1 if not")
	cmd.Flags().IntVar(&f.messages, "messages", demo.DefaultMessages, fmt.Sprintf("number of letters to send, from %d to %d", demo.MinMessages, demo.MaxMessages))
	cmd.Flags().StringVar(&f.dir, "dir", "", "new or empty `folder` that keeps everything (default: a temporary one)")
	return cmd
}

type demoFlags struct {
	once     bool
	messages int
	dir      string
}

func (f *demoFlags) run(a call) (err error) {
	if a.asJSON && !f.once {
		return usagef("--json needs --once")
	}
	if f.messages < demo.MinMessages || f.messages > demo.MaxMessages {
		return usagef("--messages: %d is not between %d and %d", f.messages, demo.MinMessages, demo.MaxMessages)
	}
	say := func(format string, args ...any) {
		if !a.asJSON {
			fmt.Fprintf(a.out, format+"\n", args...)
		}
	}
	dir, remove, err := demoFolder(f.dir)
	if err != nil {
		return err
	}
	defer func() {
		if remove && (err == nil || a.ctx.Err() != nil) {
			err = errors.Join(err, os.RemoveAll(dir))
		} else if err != nil {
			err = withHint(err, "the broker's log and all files are in %s", dir)
		}
	}()
	exe, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	d, err := demo.Start(a.ctx, demo.Config{Exe: exe, Dir: dir, Messages: f.messages, Say: say})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	res, err := d.Run(a.ctx)
	if err != nil {
		return err
	}
	if a.asJSON {
		err = a.json(nil, res)
	}
	printDemo(say, res)
	if err = errors.Join(err, res.Failed()); err != nil || f.once {
		return err
	}
	atTheEnd := " and removes " + dir
	if !remove {
		atTheEnd = "; " + dir + " stays"
	}
	setup, err := d.SetupLink(a.ctx)
	if err != nil {
		return err
	}
	printWhereToLook(say, exe, atTheEnd, setup, d)
	ctx, cancel := context.WithCancel(a.ctx)
	traffic := make(chan error, 1)
	go func() { traffic <- d.Traffic(ctx) }()
	defer func() { cancel(); err = errors.Join(err, <-traffic) }()
	select {
	case <-a.ctx.Done():
		say("\nstopping")
		return nil
	case <-d.Done():
		return errors.New("the broker has ended")
	}
}

// demoFolder is the folder of the demonstration, and whether to remove it at the end.
func demoFolder(dir string) (path string, remove bool, err error) {
	if dir == "" {
		path, err = os.MkdirTemp("", "sealmq-demo-")
		return path, true, err
	}
	var entries []os.DirEntry
	if err = durable.MkdirAll(durable.OS(), dir, 0o700); err == nil {
		entries, err = os.ReadDir(dir)
	}
	if err != nil {
		return "", false, fmt.Errorf("make a folder for the demonstration: %w", err)
	}
	if len(entries) > 0 {
		return "", false, withHint(fmt.Errorf("folder %s is not empty", dir), "name a new folder with --dir, or omit --dir")
	}
	return dir, false, nil
}

func printDemo(say func(string, ...any), r *demo.Result) {
	say("")
	say("  sent and confirmed      %d", r.Sent)
	say("  received and opened     %d", r.Received)
	say("  lost                    %d", r.Lost)
	say("  arrived twice           %d", r.Duplicates)
	say("  readable at the broker  %d  (a message that was not sealed was found %s)", r.PlaintextHits, times(r.ControlHits))
	say("  killed and restarted    sender %s, broker %s, receiver %s", times(r.SenderRestarts), times(r.BrokerRestarts), times(r.ReceiverRestarts))
	p := &r.Pipeline
	say("")
	say("  submitted over HTTPS    %d", p.Submitted)
	say("  in the database         %d  (%d lost, %d twice; the worker was killed %s)", p.Delivered, p.Lost, p.Duplicates, times(p.WorkerRestarts))
	say("  sealed at rest          %s", yesNo(p.SealedAtRest))
	say("  revoked client          refused after %.0f ms, and on new connections: %s", r.Trust.RevocationMS, yesNo(r.Trust.RevokedRefused))
	say("")
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "NO"
}

func times(n int) string {
	switch n {
	case 1:
		return "once"
	case 2:
		return "twice"
	}
	return fmt.Sprintf("%d times", n)
}
