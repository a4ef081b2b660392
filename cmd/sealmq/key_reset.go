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
			indexes, err := keydir.Reset(ctx, c, name, seal.Suite(suite))
			if sealmq.CodeOf(err) == sealmq.NoKey {
				return withHint(err, "\"sealmq key directory %s\" shows what there is, and what was reset already", name)
			}
			if errors.Is(err, client.ErrInterrupted) {
				return withHint(err, "\"sealmq key directory %s\" shows whether it was reset", name)
			}
			if err != nil {
				return err
			}
			d, err := new(directoryFlags).unpinned(cmd, conn, c, nil)
			if err != nil {
				return err
			}
			a, err := d.Audit(ctx, name)
			if err != nil {
				return fmt.Errorf("the broker says that it was reset, which cannot be seen: %w", err)
			}
			done, err := resetsAt(a.Records, indexes)
			if err != nil {
				return err
			}
			return printResets(cmd.OutOrStdout(), name, done, *asJSON)
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
		newest := make(map[string]keydir.Record)
		for _, r := range a.Records {
			newest[slotName(r)] = r
		}
		found := false
		for _, slot := range append(seal.Suites(), keylog.Unproven) {
			if r, ok := newest[string(slot)]; ok && !r.Reset && (suite == "" || suite == string(slot)) {
				found = true
				fmt.Fprintf(w, "%s of %s will be reset (record %d)\n", keyText(string(slot), r.Serial), name, r.Index)
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

// slotName is what --suite calls the place of a key.
func slotName(r keydir.Record) string {
	if !r.Proven {
		return keylog.Unproven
	}
	return r.Suite
}

func keyText(slot string, entry uint64) string {
	if slot == keylog.Unproven {
		return "the unproven key"
	}
	return fmt.Sprintf("entry %d for %s", entry, slot)
}

// explainPublish says when only an administrator can help.
func explainPublish(name string, err error) error {
	code := sealmq.CodeOf(err)
	switch {
	case errors.Is(err, seal.ErrUntrusted), code == sealmq.Denied && strings.Contains(err.Error(), "another authority"):
		return withHint(err, "the key of %s was published with a certificate of another authority; an administrator takes it out of the directory with \"sealmq key reset %s\"", name, name)
	case code == sealmq.LimitReached && strings.Contains(err.Error(), "changes of one key"):
		return withHint(err, "ask who has changed it so often: \"sealmq key directory %s\"; an administrator begins anew with \"sealmq key reset %s\"", name, name)
	}
	return err
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
			list = append(list, resetInfo{slotName(r), r.Serial, r.Index})
		}
	}
	return list
}

// resetsAt returns the resets at the places where a broker says that they stand, and demands
// that they do.
func resetsAt(records []keydir.Record, indexes []int64) ([]resetInfo, error) {
	done := slices.DeleteFunc(resetsOf(records), func(r resetInfo) bool { return !slices.Contains(indexes, r.Record) })
	if len(done) == 0 || len(done) != len(indexes) {
		return nil, withHint(fmt.Errorf("%w: the broker says that records %v are the resets, and they are not", keydir.ErrLog, indexes), "the broker lies: ask its operator")
	}
	return done, nil
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

// shownKey looks up what a record is about, and demands that the directory shows the one that its
// log has as the newest: a pinned key is taken although there is a newer one. It is nil if
// the key was reset and there is none since.
func shownKey(ctx context.Context, d *keydir.Directory, pins *keydir.Pins, scope string, newest keydir.Record) (*seal.PublicKey, error) {
	key, err := d.Find(ctx, newest.Owner, seal.Suite(newest.Suite))
	if newest.Reset && (sealmq.CodeOf(err) == sealmq.NoKey || errors.Is(err, keydir.ErrUnproven)) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	all, err := pins.Keys(scope)
	if err != nil {
		return nil, err
	}
	pin, proven := all[newest.Owner][newest.Suite]
	if newest.Reset && !proven {
		return nil, nil // a bare key is for suites of CipherMQ's, too
	}
	if pin.Serial < newest.Serial || newest.Reset && pin.Serial == newest.Serial {
		return nil, withHint(fmt.Errorf("key of %s: %w: it shows entry %d, and record %d of its log is newer", newest.Owner, keydir.ErrRollback, pin.Serial, newest.Index),
			"the broker lies: ask its operator")
	}
	return key, nil
}
