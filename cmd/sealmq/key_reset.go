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
	"github.com/sealmq/sealmq/seal/ciphermq"
)

func newKeyResetCmd() *cobra.Command {
	var suite string
	var yes bool
	cmd := &cobra.Command{
		Use:   "reset NAME",
		Short: "Remove the keys of a name from the key directory (administrators)",
		Long: `Remove all keys of NAME, or the key of one suite, from the broker's key directory, so that NAME can publish a
new key with a certificate of another authority, or after somebody with a stolen certificate used up all
changes. The directory's log keeps the reset for ever.

NAME then runs "sealmq key publish". Senders that have pinned a key of NAME refuse the next one: their error
says that an administrator reset the key, and shows both fingerprints. They compare the fingerprints with NAME
and run "sealmq key directory --forget NAME". Senders that have never seen a key of NAME accept the next one
with a notice.

A reset does not lock out a thief: anybody with a certificate of NAME that the broker accepts can publish the
next key. Revoke the stolen certificate before you reset.`,
		Example: `  sealmq key reset lab
  sealmq key reset lab --suite hpke-x25519-aes256gcm --yes`,
	}
	conn, asJSON := addConnectFlags(cmd), addJSONFlag(cmd)
	cmd.Flags().StringVar(&suite, "suite", "", "reset only the key of this `suite`, or \""+keylog.Unproven+"\" for the key without a signature (default: all keys)")
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask for confirmation")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		name := args[0]
		if suite != "" && suite != keylog.Unproven && !slices.Contains(seal.Suites(ciphermq.Suites{}), seal.Suite(suite)) {
			return usagef("there is no suite %q; the suites are %s, and %s for keys without a signature", suite, suiteNames(), keylog.Unproven)
		}
		if !yes {
			if err := confirmReset(cmd, conn, name, suite); err != nil {
				return err
			}
		}
		return conn.withClient(cmd, func(ctx context.Context, c *client.Client) error {
			d, err := new(directoryFlags).unpinned(cmd, conn, c, nil)
			if err != nil {
				return err
			}
			done, err := d.Reset(ctx, name, seal.Suite(suite))
			if sealmq.CodeOf(err) == sealmq.NoKey {
				return withHint(err, "\"sealmq key directory %s\" shows its keys and earlier resets", name)
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

// confirmReset shows what will be reset, and asks the person at the terminal.
func confirmReset(cmd *cobra.Command, conn *connectFlags, name, suite string) error {
	in, ok := cmd.InOrStdin().(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return withHint(errors.New("a reset needs a confirmation, and there is no terminal to ask for it"), "add --yes")
	}
	w := cmd.ErrOrStderr()
	err := conn.withClient(cmd, func(ctx context.Context, c *client.Client) error {
		d, err := new(directoryFlags).unpinned(cmd, conn, c, nil)
		if err != nil {
			return err
		}
		a, err := d.Audit(ctx, name)
		if err != nil {
			return err
		}
		found := false
		for _, slot := range append(seal.Suites(ciphermq.Suites{}), keylog.Unproven) {
			for _, r := range a.Records {
				if r.Newest && !r.Reset && r.Slot() == string(slot) && (suite == "" || suite == r.Slot()) {
					found = true
					fmt.Fprintf(w, "%s of %s will be reset (record %d)\n", keyText(r.Slot(), r.Serial), name, r.Index)
				}
			}
		}
		if !found {
			return withHint(fmt.Errorf("there is no key of %s to reset", name), "\"sealmq key directory %s\" shows its keys", name)
		}
		return nil
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "Senders that have pinned a key of %s will refuse the next one until they compare it. Type yes to continue: ", name)
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
	_, err := fmt.Fprintf(w, "%s publishes a new key with \"sealmq key publish\"; senders that pinned the old one compare the new one and run \"sealmq key directory --forget %s\"\n", name, name)
	return err
}
