package main

import (
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

func newManCmd() *cobra.Command {
	return standalone(&cobra.Command{
		Use:   "man FOLDER",
		Short: "Write manual pages of all commands",
		Long: `Write a manual page for each command into FOLDER, which is made if it is missing. They are made from what
"sealmq COMMAND --help" shows.`,
		Example: `  sealmq man ./man1 && man ./man1/sealmq-queue-list.1`,
	}, func(a call) error {
		folder := a.args[0]
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return err
		}
		root := a.cmd.Root()
		root.DisableAutoGenTag = true
		v := buildVersion()
		header := &doc.GenManHeader{Title: "SEALMQ", Section: "1", Source: "sealmq " + v.Version, Manual: "SealMQ"}
		if made, err := time.Parse(time.RFC3339, v.Time); err == nil {
			header.Date = &made // so that the pages of one version are the same everywhere
		}
		if err := doc.GenManTree(root, header, folder); err != nil {
			return err
		}
		pages, err := filepath.Glob(filepath.Join(folder, "sealmq*.1"))
		return a.report(err, result{"folder": folder, "pages": len(pages)}, "wrote %s into %s", plural(len(pages), "page"), folder)
	})
}

// newHelpCmd is cobra's, except that an unknown command is an error.
func newHelpCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND...]",
		Short: "Show the help of a command",
		RunE: func(cmd *cobra.Command, args []string) error {
			found, rest, err := cmd.Root().Find(args)
			if found == nil {
				return err
			}
			if len(rest) > 0 || err != nil {
				return unknownCommand(found, rest[0])
			}
			found.InitDefaultHelpFlag()
			return found.Help()
		},
	}
}
