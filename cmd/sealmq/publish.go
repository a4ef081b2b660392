package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/cmd/sealmq/internal/sender"
	"github.com/sealmq/sealmq/seal"
	"github.com/sealmq/sealmq/seal/ciphermq"
)

func newPublishCmd() *cobra.Command {
	return connected(&cobra.Command{
		Use:   "publish EXCHANGE KEY [FILE...]",
		Short: "Publish messages that are sealed already",
		Long: `Publish each line of the files, or of standard input. A line is an envelope as "sealmq seal" prints it, or
another program with the same format. A line that is not sealed is refused before it is sent; "sealmq pub"
publishes such lines.

The command ends when the broker has confirmed all of them. A line that is published a second time is not stored
again, so after an error the same command can be repeated.`,
		Example: `  sealmq seal report.txt --as alice --to lab=lab.pub | sealmq publish results lab --as alice`,
		Args:    cobra.MinimumNArgs(2),
	}, func(a call) error {
		in, err := openInput(a.cmd, a.args[2:], true)
		if err != nil {
			return err
		}
		defer in.close()
		a.ctx = a.cmd.Context() // standard input may take its time
		refused := make(chan error, 1)
		n := 0
		var bad error // a line that is not published
		for ; len(refused) == 0; n++ {
			text, err := in.next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return err
			}
			place := sender.Place(text.Source, text.Line)
			info, err := seal.Inspect(text.Body, ciphermq.Suites{})
			if err != nil {
				bad = withHint(fmt.Errorf("%s: %w; what is before it was published", place, err), `"sealmq pub" publishes messages that are not sealed`)
				break
			}
			m := sealmq.Message{Exchange: a.args[0], Key: a.args[1], ID: info.ID, Body: text.Body}
			err = a.client.PublishAsync(a.ctx, m, func(err error) {
				if err != nil {
					select {
					case refused <- fmt.Errorf("%s: %w", place, err):
					default:
					}
				}
			})
			if err != nil {
				return fmt.Errorf("%s: %w", place, err)
			}
		}
		if err := a.client.Flush(a.ctx); err != nil {
			return err
		}
		select {
		case err := <-refused:
			return suggest(a.ctx, a.client, err, exchangeName, a.args[0])
		default:
			return a.report(bad, result{"published": n}, "published %s", plural(n, "message"))
		}
	})
}
