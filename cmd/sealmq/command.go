package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/client"
)

// This file has what most commands are made of. A new command is a cobra.Command with a Use
// line, which also says how many arguments there are, and a function that gets a call. The
// function does the work and ends with one of the call's methods that print: a sentence, a
// list of facts or a table, or JSON if --json asks for it.

// call is one run of a command.
type call struct {
	ctx    context.Context
	cmd    *cobra.Command
	args   []string
	out    io.Writer
	asJSON bool
	// client is the connection of a command that was made by connected, else nil.
	client *client.Client
}

// standalone completes a command that makes no connection by itself. It adds --json, and
// --watch if the command is a list.
func standalone(cmd *cobra.Command, run func(a call) error) *cobra.Command {
	return complete(cmd, func(a call) error { return a.repeat(run) })
}

// configured is standalone for a command that needs the configuration, of clientConfig.
func configured(cmd *cobra.Command, run func(a call, cfg Config) error) *cobra.Command {
	return standalone(cmd, func(a call) error {
		cfg, err := clientConfig(cmd)
		if err != nil {
			return err
		}
		return run(a, cfg)
	})
}

func complete(cmd *cobra.Command, run func(a call) error) *cobra.Command {
	asJSON := cmd.Flags().Bool("json", false, "print JSON")
	if cmd.Name() == "list" {
		addWatchFlag(cmd)
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return run(call{ctx: cmd.Context(), cmd: cmd, args: args, out: cmd.OutOrStdout(), asJSON: *asJSON})
	}
	return cmd
}

// connected completes a command that sends the broker requests. It adds the flags to connect
// to those of standalone. Arguments that are names are checked first, and a missing one is
// compared with those that exist. All requests together have commandTimeout.
func connected(cmd *cobra.Command, run func(a call) error) *cobra.Command {
	conn := addConnectFlags(cmd)
	return complete(cmd, func(a call) error {
		if err := checkNames(cmd.Use, a.args); err != nil {
			return err
		}
		return conn.withClient(func(ctx context.Context, c *client.Client) error {
			a.client = c
			return a.repeat(func(a call) error {
				ctx, cancel := context.WithTimeout(ctx, commandTimeout)
				defer cancel()
				a.ctx = ctx
				return a.suggestArgument(run(a))
			})
		})
	})
}

// group is a command that only has subcommands.
func group(use, short string, sub ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short}
	cmd.AddCommand(sub...)
	return cmd
}

// note prints a line for the person at the terminal.
func (a call) note(format string, args ...any) { notef(a.cmd, format, args...) }

func (a call) notes(lines []string) {
	for _, line := range lines {
		a.note("%s", line)
	}
}

func notef(cmd *cobra.Command, format string, args ...any) {
	if isQuiet(cmd) {
		return
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "sealmq: %s\n", oneLine(fmt.Sprintf(format, args...)))
}

// result is the JSON of a command that reports a change.
type result map[string]any

// report prints the result of a change: v as JSON, or a sentence. It returns err if that is
// set.
func (a call) report(err error, v any, format string, args ...any) error {
	if err != nil || a.asJSON {
		return a.json(err, v)
	}
	if isQuiet(a.cmd) {
		return nil
	}
	_, err = fmt.Fprintln(a.out, sealmq.Escape(fmt.Sprintf(format, args...)))
	return err
}

// facts prints v as JSON, or names and values in turn, without those that are "". It returns
// err if that is set.
func (a call) facts(err error, v any, pairs ...any) error {
	if err != nil || a.asJSON {
		return a.json(err, v)
	}
	return factsTable(pairs...).print(a.out, "")
}

func factsTable(pairs ...any) *table {
	t := &table{}
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			t.add(pairs[i], pairs[i+1])
		}
	}
	return t
}

// printList prints a list as JSON, or as a table with these columns, or empty if the list is
// empty. It returns err if that is set.
func printList[T any](a call, err error, list []T, empty string, head []string, cells func(T) []any) error {
	if err != nil || a.asJSON {
		return a.json(err, list)
	}
	t := &table{head: head}
	for _, v := range list {
		t.add(cells(v)...)
	}
	return t.print(a.out, empty)
}

func (a call) json(err error, v any) error {
	if err != nil {
		return err
	}
	return printJSON(a.out, v)
}

// count reads a flag that must not be negative.
func (a call) count(flag string) (int, error) {
	n, err := a.cmd.Flags().GetInt(flag)
	if err == nil && n < 0 {
		err = usagef("--%s is negative", flag)
	}
	return n, err
}

// checked makes a command look at its flags before it reads or connects to anything.
func checked(cmd *cobra.Command, check func() error) *cobra.Command {
	cmd.PreRunE = func(*cobra.Command, []string) error { return check() }
	return cmd
}

// oneOf checks a flag that has few values.
func oneOf[S ~string](flag string, value S, values ...S) error {
	if slices.Contains(values, value) {
		return nil
	}
	return usagef("--%s: %q is not one of %s", flag, value, strings.Trim(strings.ReplaceAll(fmt.Sprint(values), " ", ", "), "[]"))
}

// between checks a flag that is a number.
func between(flag string, n, least, most int) error {
	if n >= least && n <= most {
		return nil
	}
	return usagef("--%s: %d is not between %d and %d", flag, n, least, most)
}

// notZero refuses flags that were given as zero, which would mean their default.
func notZero(cmd *cobra.Command, flags ...string) error {
	for _, name := range flags {
		if f := cmd.Flag(name); f.Changed && (f.Value.String() == "0" || f.Value.String() == "0s") {
			return usagef("--%s must be more than 0", name)
		}
	}
	return nil
}

func printJSON(w io.Writer, v any) error {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err
	}
	_, err := io.WriteString(w, sealmq.Escape(b.String()))
	return err
}

// argumentWords are the words of a Use line that stand for arguments.
func argumentWords(use string) (list []string) {
	words := strings.Fields(use)[1:]
	for i, word := range words {
		if !strings.HasPrefix(word, "--") && (i == 0 || !strings.HasPrefix(words[i-1], "--")) {
			list = append(list, word)
		}
	}
	return list
}

// argsOf checks the number of arguments that a Use line names: a word for each, in brackets
// if it can be omitted, with dots if it can be repeated. Flags in the line do not count.
func argsOf(use string) cobra.PositionalArgs {
	least, most := 0, 0
	for _, word := range argumentWords(use) {
		most++
		if !strings.HasPrefix(word, "[") {
			least++
		}
		if strings.Contains(word, "...") {
			return cobra.MinimumNArgs(least)
		}
	}
	switch {
	case most == 0:
		return cobra.NoArgs
	case least == most:
		return cobra.ExactArgs(most)
	}
	return cobra.RangeArgs(least, most)
}
