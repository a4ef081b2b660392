package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq/cmd/sealmq/internal/demo"
)

func newDemoCmd() *cobra.Command {
	var once, asJSON bool
	var messages int
	var dir string
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "See sealed messages survive crashes of sender, broker and receiver",
		Long: `Start a broker in a new folder on free ports, and send sealed letters through it from one client to
another. Sender, broker and receiver are processes of their own; each is killed once (kill -9) and
started again. Count the letters that arrived, and search the broker's files for their text.

Then the demo prints where to look, and runs until Ctrl-C. At the end it removes everything, unless
--dir names a folder.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if asJSON && !once {
				return usagef("--json needs --once")
			}
			if messages < demo.MinMessages || messages > demo.MaxMessages {
				return usagef("--messages: %d is not between %d and %d", messages, demo.MinMessages, demo.MaxMessages)
			}
			say := func(format string, args ...any) { fmt.Fprintf(cmd.OutOrStdout(), format+"\n", args...) }
			if asJSON {
				say = func(string, ...any) {}
			}
			return runDemo(cmd.Context(), cmd.OutOrStdout(), demoRun{once, asJSON, messages, dir, say})
		},
	}
	cmd.Flags().BoolVar(&once, "once", false, "exit after counting, with status 0 if all is well and 1 if not")
	cmd.Flags().BoolVar(&asJSON, "json", false, "with --once: print one JSON object")
	cmd.Flags().IntVar(&messages, "messages", demo.DefaultMessages, fmt.Sprintf("number of messages to send, from %d to %d", demo.MinMessages, demo.MaxMessages))
	cmd.Flags().StringVar(&dir, "dir", "", "new or empty `folder` that keeps everything (default: a temporary one)")
	return cmd
}

type demoRun struct {
	once, asJSON bool
	messages     int
	dir          string
	say          func(format string, args ...any)
}

func runDemo(ctx context.Context, stdout io.Writer, run demoRun) (err error) {
	dir, remove, err := demoFolder(run.dir)
	if err != nil {
		return err
	}
	defer func() {
		if remove && (err == nil || ctx.Err() != nil) {
			err = errors.Join(err, os.RemoveAll(dir))
		} else if err != nil {
			err = withHint(err, "the broker's log and all files are in %s", dir)
		}
	}()
	exe, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	d, err := demo.Start(ctx, demo.Config{Exe: exe, Dir: dir, Messages: run.messages, Say: run.say})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	res, err := d.Run(ctx)
	if err != nil {
		return err
	}
	if run.asJSON {
		err = json.NewEncoder(stdout).Encode(res)
	} else {
		printDemo(run.say, res)
	}
	if err = errors.Join(err, res.Failed()); err != nil || run.once {
		return err
	}
	atTheEnd := " and removes " + dir
	if !remove {
		atTheEnd = "; " + dir + " stays"
	}
	printWhereToLook(run.say, exe, atTheEnd, d)
	select {
	case <-ctx.Done():
		run.say("\nstopping")
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
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", false, fmt.Errorf("make a folder for the demonstration: %w", err)
	}
	entries, err := os.ReadDir(dir)
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
	say("")
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
