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
	cmd := &cobra.Command{
		Use:   "spool",
		Short: "Look into a spool of \"sealmq send\"",
	}
	cmd.AddCommand(newSpoolDropCmd(), newSpoolListCmd())
	return cmd
}

// spoolRow is a message that is not confirmed.
type spoolRow struct {
	ID   string    `json:"id"`
	Time time.Time `json:"time"`
	File string    `json:"file,omitempty"` // that it was read from
	Line int       `json:"line,omitempty"`
}

func newSpoolListCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list FOLDER",
		Short: "List the messages that no broker has confirmed yet",
		Args:  cobra.ExactArgs(1),
	}
	asJSON := addJSONFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		s, err := openSpoolFolder(args[0])
		if err != nil {
			return err
		}
		rows := []spoolRow{}
		t := table{head: []string{"id", "spooled", "from"}}
		for _, e := range s.Entries() {
			from, err := spooledFrom(s, e.Seq)
			if err != nil {
				return errors.Join(err, s.Close())
			}
			rows = append(rows, spoolRow{e.ID, e.Time.UTC(), from.File, from.Line})
			t.add(e.ID, stampText(e.Time), orDash(sender.Place(from.File, from.Line)))
		}
		if *asJSON {
			err = printJSON(cmd.OutOrStdout(), rows)
		} else {
			err = t.print(cmd.OutOrStdout(), "every message is confirmed")
		}
		return errors.Join(err, s.Close())
	}
	return cmd
}

func newSpoolDropCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "drop FOLDER ID...",
		Short: "Give messages up that were not confirmed",
		Long: `Take messages out of a spool for ever, for example one that the broker refuses for good and that holds up all
others. Whether one has arrived nevertheless is not known here.`,
		Args: cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := openSpoolFolder(args[0])
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
				return withHint(errors.New("no such message is in the spool"), "\"sealmq spool list %s\" shows them", args[0])
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "dropped %s\n", plural(uint64(dropped), "message"))
			return err
		},
	}
}

// openSpoolFolder opens a spool that is there.
func openSpoolFolder(dir string) (*send.Spool, error) {
	if _, err := durable.OS().ReadDir(dir); err != nil {
		return nil, err
	}
	s, err := send.OpenSpool(dir, send.SpoolConfig{})
	if errors.Is(err, durable.ErrLocked) {
		return nil, withHint(err, "a sealmq send uses it; stop that first")
	}
	return s, err
}
