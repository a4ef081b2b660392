package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq/cmd/sealmq/internal/sender"
	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/send"
)

func newSpoolCmd() *cobra.Command {
	return group("spool", "List and drop messages in a spool of \"sealmq send\"", newSpoolDropCmd(), newSpoolListCmd())
}

// spoolRow is a message that is not confirmed.
type spoolRow struct {
	ID   string    `json:"id"`
	Time time.Time `json:"time"`
	File string    `json:"file,omitempty"` // where the message was read from
	Line int       `json:"line,omitempty"`
}

func newSpoolListCmd() *cobra.Command {
	return standalone(&cobra.Command{Use: "list FOLDER", Short: "List the messages that no broker has confirmed yet"}, func(a call) error {
		s, err := openSpoolFolder(a, a.args[0])
		if err != nil {
			return err
		}
		rows := []spoolRow{}
		for _, e := range s.Entries() {
			from, perr := spooledFrom(s, e.Seq)
			err = errors.Join(err, perr)
			rows = append(rows, spoolRow{e.ID, e.Time.UTC(), from.File, from.Line})
		}
		err = errors.Join(err, s.Close())
		return printList(a, err, rows, "every message is confirmed", []string{"id", "spooled", "from"}, func(r spoolRow) []any {
			return []any{r.ID, stampText(r.Time), orDash(sender.Place(r.File, r.Line))}
		})
	})
}

func newSpoolDropCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "drop FOLDER ID...",
		Short: "Remove unconfirmed messages from a spool for ever",
		Long: `Remove messages from a spool for ever, for example one that the broker always refuses, so that all others wait
behind it. A removed message may have reached the broker all the same; the spool cannot know.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := openSpoolFolder(call{cmd: cmd}, args[0])
			if err != nil {
				return err
			}
			before := s.Len()
			err = s.Drop(args[1:]...)
			dropped := before - s.Len()
			if err = errors.Join(err, s.Close()); err != nil {
				return err
			}
			if dropped == 0 {
				return withHint(errors.New("no such message is in the spool"), "\"sealmq spool list %s\" shows its messages", args[0])
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "dropped %s\n", plural(uint64(dropped), "message"))
			return err
		},
	}
}

// openSpoolFolder opens an existing spool.
func openSpoolFolder(a call, dir string) (*send.Spool, error) {
	if _, err := durable.OS().ReadDir(dir); err != nil {
		return nil, err
	}
	s, err := openSpool(a, dir)
	if errors.Is(err, durable.ErrLocked) {
		return nil, withHint(err, "a running \"sealmq send\" uses it; stop that process first")
	}
	return s, err
}
