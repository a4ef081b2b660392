package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/keydir"
	"github.com/sealmq/sealmq/keydir/keylog"
	"github.com/sealmq/sealmq/seal"
)

func newKeyResetCmd() *cobra.Command {
	var suite string
	var yes bool
	cmd := &cobra.Command{
		Use:   "reset NAME",
		Short: "Take the keys of a name out of the key directory (administrators)",
		Long: `Take the keys of NAME out of the broker's key directory, all of them or those of one suite, so that NAME can
publish anew: with a certificate of another authority, or after all changes were used up by somebody
who had stolen the certificate. It stands in the directory's log for good.

Nobody who knows a key of NAME takes the next one by itself. Such senders get an error that says that an administrator has reset
it, with both fingerprints. They compare them with NAME, and then run "sealmq key directory --forget NAME".
NAME runs "sealmq key publish". Who has never seen a key of NAME takes the next one with a notice.

A reset shuts nobody out: whoever holds a certificate of NAME that the broker accepts can publish the next key, a thief
too. See that the stolen one is not accepted any more before you reset.`,
		Example: `  sealmq key reset lab
  sealmq key reset lab --suite hpke-x25519-aes256gcm --yes`,
		Args: cobra.ExactArgs(1),
	}
	conn, asJSON := addConnectFlags(cmd), addJSONFlag(cmd)
	cmd.Flags().StringVar(&suite, "suite", "", "reset the key of this `suite` only, or \""+keylog.Unproven+"\" for the one without a signature (default: all)")
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		name := args[0]
		if suite != "" && suite != keylog.Unproven && !slices.Contains(seal.Suites(), seal.Suite(suite)) {
			return usagef("there is no suite %q; there are %s, and %s for keys without a signature", suite, suiteNames(), keylog.Unproven)
		}
		if !yes {
			if err := confirmReset(cmd, conn, name, suite); err != nil {
				return err
			}
		}
		return conn.ask(cmd, func(ctx context.Context, c *client.Client) error {
			d, err := new(directoryFlags).unpinned(cmd, conn, c, nil)
			if err != nil {
				return err
			}
			done, err := d.Reset(ctx, name, seal.Suite(suite))
			if sealmq.CodeOf(err) == sealmq.NoKey {
				return withHint(err, "\"sealmq key directory %s\" shows what there is, and what was reset already", name)
			}
			if errors.Is(err, client.ErrInterrupted) {
				return withHint(err, "\"sealmq key directory %s\" shows whether it was reset", name)
			}
			if err != nil {
				return err
			}
			return printResets(cmd.OutOrStdout(), name, resetsOf(done), *asJSON)
		})
	}
	return cmd
}

// confirmReset shows what will be reset, and asks whoever sits at the terminal.
func confirmReset(cmd *cobra.Command, conn *connectFlags, name, suite string) error {
	in, ok := cmd.InOrStdin().(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return withHint(errors.New("a reset has to be confirmed, and there is no terminal to ask at"), "add --yes")
	}
	w := cmd.ErrOrStderr()
	err := conn.ask(cmd, func(ctx context.Context, c *client.Client) error {
		d, err := new(directoryFlags).unpinned(cmd, conn, c, nil)
		if err != nil {
			return err
		}
		a, err := d.Audit(ctx, name)
		if err != nil {
			return err
		}
		found := false
		for _, slot := range append(seal.Suites(), keylog.Unproven) {
			for _, r := range a.Records {
				if r.Newest && !r.Reset && r.Slot() == string(slot) && (suite == "" || suite == r.Slot()) {
					found = true
					fmt.Fprintf(w, "%s of %s will be reset (record %d)\n", keyText(r.Slot(), r.Serial), name, r.Index)
				}
			}
		}
		if !found {
			return withHint(fmt.Errorf("there is no key of %s to be reset", name), "\"sealmq key directory %s\" shows what there is", name)
		}
		return nil
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "Everybody who knows a key of %s will be told, and has to compare the next one. Type yes to go on: ", name)
	answer, err := bufio.NewReader(in).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the answer: %w", err)
	}
	if strings.TrimSpace(answer) != "yes" {
		return errors.New("nothing was reset")
	}
	return nil
}

func keyText(slot string, entry uint64) string {
	if slot == keylog.Unproven {
		return "the unproven key"
	}
	return fmt.Sprintf("entry %d for %s", entry, slot)
}

// resetInfo is a key that was reset.
type resetInfo struct {
	Suite  string `json:"suite"` // "unproven" of a bare key
	Entry  uint64 `json:"entry,omitempty"`
	Record int64  `json:"record"`
}

func resetsOf(records []keydir.Record) []resetInfo {
	list := []resetInfo{}
	for _, r := range records {
		if r.Reset {
			list = append(list, resetInfo{r.Slot(), r.Serial, r.Index})
		}
	}
	return list
}

func printResets(w io.Writer, name string, list []resetInfo, asJSON bool) error {
	if asJSON {
		return printJSON(w, list)
	}
	for _, r := range list {
		fmt.Fprintf(w, "reset %s of %s: record %d of the log\n", keyText(r.Suite, r.Entry), name, r.Record)
	}
	_, err := fmt.Fprintf(w, "%s publishes the next one with \"sealmq key publish\"; whoever knows the old one compares it and runs \"sealmq key directory --forget %s\"\n", name, name)
	return err
}
