package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// newRootCmd builds the whole command tree. Nothing is global, so tests can run several
// command lines in one process.
func newRootCmd() *cobra.Command {
	root := &cobra.Command{
		Use:   "sealmq",
		Short: "Move messages that nobody in between can read, and lose none that was confirmed",
		Long: `SealMQ is a message broker for sealed messages over mutual TLS, and a pipeline that takes messages over
HTTPS and stores them encrypted. It confirms a message when it is on stable storage, and delivers it
until it is acknowledged.

Start with "sealmq demo", or with "sealmq serve" and "sealmq send --help".

The exit status is 0 if a command did what it was asked to do, 1 if it failed or was interrupted, and 2 if the
command line is wrong.`,
		Version:       buildVersion().String(),
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetVersionTemplate("{{.Version}}\n")
	configFlag(root.PersistentFlags(), "data", "data", "data `folder` (SEALMQ_DATA)")
	root.PersistentFlags().String("config", "", "configuration `file` (SEALMQ_CONFIG); sealmq.yaml in the current folder if there is one")

	addQuietFlag(root)
	for _, g := range groups() {
		root.AddGroup(&cobra.Group{ID: g.title, Title: g.title})
		for _, c := range g.commands {
			c.GroupID = g.title
			root.AddCommand(c)
		}
	}
	root.SetHelpCommand(newHelpCmd())
	root.InitDefaultCompletionCmd()
	root.SetHelpCommandGroupID(aboutGroup)
	root.SetCompletionCommandGroupID(aboutGroup)
	strictArgs(root)
	completeAll(root)
	return root
}

// commandGroup is a title under which "sealmq --help" lists commands.
type commandGroup struct {
	title    string
	commands []*cobra.Command
}

const aboutGroup = "Measure and check:"

// groups are all commands.
func groups() []commandGroup {
	return []commandGroup{
		{"Run:", []*cobra.Command{newDemoCmd(), newInitCmd(), newServeCmd(), newServiceCmd()}},
		{"Send and receive:", []*cobra.Command{newIdentityCmd(), newKeyCmd(), newOpenCmd(), newPubCmd(), newPublishCmd(), newReceiveCmd(), newSealCmd(), newSendCmd(), newSpoolCmd(), newSubCmd(), newSubmitCmd()}},
		{"Administer:", []*cobra.Command{newAlertCmd(), newAPIKeyCmd(), newBackupCmd(), newBindCmd(), newBindingCmd(), newCACmd(), newCertCmd(), newConnectionCmd(), newDatabaseCmd(), newExchangeCmd(), newLogCmd(), newMessageCmd(), newQueueCmd(), newReloadCmd(), newRestoreCmd(), newStatsCmd(), newStatusCmd(), newUnbindCmd(), newUserCmd()}},
		{aboutGroup, []*cobra.Command{newBenchCmd(), newConfigCmd(), newJournalCmd(), newManCmd(), newVersionCmd()}},
	}
}

// strictArgs makes a command check the number of arguments that its Use line names, and an
// unknown subcommand an error; cobra would print the help and succeed.
func strictArgs(cmd *cobra.Command) {
	for _, c := range cmd.Commands() {
		strictArgs(c)
	}
	if cmd.Runnable() && cmd.Args == nil {
		cmd.Args = argsOf(cmd.Use)
	}
	if !cmd.HasSubCommands() || cmd.Runnable() {
		return
	}
	cmd.Args = cobra.ArbitraryArgs
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return unknownCommand(cmd, args[0])
		}
		return cmd.Help()
	}
}

// watchStart sets the returned flag when a command begins to run. Until then every error
// is wrong usage.
func watchStart(root *cobra.Command) *bool {
	started := new(bool)
	var wrap func(*cobra.Command)
	wrap = func(cmd *cobra.Command) {
		for _, c := range cmd.Commands() {
			wrap(c)
		}
		if runE := cmd.RunE; runE != nil {
			cmd.RunE = func(cmd *cobra.Command, args []string) error {
				if err := blankFlag(cmd); err != nil {
					return err
				}
				*started = true
				return runE(cmd, args)
			}
		}
	}
	wrap(root)
	return started
}

// blankFlag refuses a flag that was given a blank text. It mostly comes from a variable of a
// script that is not set, and would count as if the flag were not there: without --exec the
// messages go to a file, without --spool nothing survives a crash. Keys of the configuration
// have checks of their own.
func blankFlag(cmd *cobra.Command) (err error) {
	cmd.Flags().Visit(func(f *pflag.Flag) {
		values := []string{f.Value.String()}
		switch list, ok := f.Value.(pflag.SliceValue); {
		case err != nil, f.Annotations[configKeyAnnotation] != nil, f.Name == "message": // the pipeline's rules say what is wrong with one
			return
		case ok:
			values = list.GetSlice()
		case f.Value.Type() != "string":
			return
		}
		if len(values) == 0 || slices.ContainsFunc(values, func(v string) bool { return strings.TrimSpace(v) == "" }) {
			err = usage(fmt.Errorf("--%s is blank", f.Name), "give it a value, or leave it out")
		}
	})
	return err
}
