package main

import (
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/keydir"
	"github.com/sealmq/sealmq/keydir/keylog"
	"github.com/sealmq/sealmq/seal"
	"github.com/sealmq/sealmq/seal/ciphermq"
)

func newKeyResetCmd() *cobra.Command {
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
	dir := quiet(addConnectFlags(cmd))
	suite := cmd.Flags().String("suite", "", "reset only the key of this `suite`, or \""+keylog.Unproven+"\" for the key without a signature (default: all keys)")
	yes := addYesFlag(cmd)
	return standalone(cmd, func(a call) error {
		name, suite := a.args[0], seal.Suite(*suite)
		if suite != "" && suite != keylog.Unproven && !slices.Contains(seal.Suites(ciphermq.Suites{}), suite) {
			return usagef("there is no suite %q; the suites are %s, and %s for keys without a signature", suite, suiteNames(), keylog.Unproven)
		}
		if !*yes {
			if err := confirmReset(a, dir, name, string(suite)); err != nil {
				return err
			}
		}
		return dir.with(a, func(a call, d *keydir.Directory) error {
			done, err := d.Reset(a.ctx, name, suite)
			switch {
			case sealmq.CodeOf(err) == sealmq.NoKey:
				return withHint(err, "\"sealmq key directory %s\" shows its keys and earlier resets", name)
			case errors.Is(err, client.ErrInterrupted):
				return withHint(err, "\"sealmq key directory %s\" shows whether it was reset", name)
			case err != nil:
				return err
			}
			return printResets(a, name, resetsOf(done))
		})
	})
}

// confirmReset shows what will be reset, and asks the person at the terminal.
func confirmReset(a call, dir *directoryFlags, name, suite string) error {
	in, w := terminalOf(a.cmd), a.cmd.ErrOrStderr()
	if in == nil {
		return withHint(errors.New("a reset needs a confirmation, and there is no terminal to ask for it"), "add --yes")
	}
	err := dir.with(a, func(a call, d *keydir.Directory) error {
		audit, err := d.Audit(a.ctx, name)
		if err != nil {
			return err
		}
		found := false
		for _, slot := range append(seal.Suites(ciphermq.Suites{}), keylog.Unproven) {
			for _, r := range audit.Records {
				if r.Newest && !r.Reset && r.Slot() == string(slot) && (suite == "" || suite == r.Slot()) {
					found = true
					fmt.Fprintf(w, "%s of %s will be reset (record %d)\n", keyText(r.Slot(), r.Serial), printable(name), r.Index)
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
	return askYes(a.cmd, in, "nothing was reset", "Senders that have pinned a key of %s will refuse the next one until they compare it", name)
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

func printResets(a call, name string, list []resetInfo) error {
	if !a.asJSON {
		for _, r := range list {
			fmt.Fprintf(a.out, "reset %s of %s: record %d of the log\n", keyText(r.Suite, r.Entry), printable(name), r.Record)
		}
	}
	return a.report(nil, list, "%s publishes a new key with \"sealmq key publish\"; senders that pinned the old one compare the new one and run \"sealmq key directory --forget %s\"", name, name)
}
