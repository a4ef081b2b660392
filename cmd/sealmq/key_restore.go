package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/sealmq/sealmq/keydir"
	"github.com/sealmq/sealmq/keydir/keylog"
	"github.com/sealmq/sealmq/seal"
)

// treeText is how a state of the key directory's log is shown and compared.
func treeText(t tlog.Tree) string { return fmt.Sprintf("%s, root %s", plural(t.N, "record"), t.Hash) }

// restoreInfo is a record of the log that attests a restore.
type restoreInfo struct {
	Record int64  `json:"record"`
	Before string `json:"before"`
	Since  string `json:"since"`
}

func newRestoreInfo(r keydir.RestoreRecord) restoreInfo {
	return restoreInfo{r.Index, treeText(r.Lost), treeText(r.Since)}
}

func newKeyAttestRestoreCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "attest-restore [RECORDS] [ROOT]",
		Short: "Attest that the key directory was restored from a backup (administrators)",
		Long: `Put a record into the log of the broker's key directory: it was restored from a backup, and what came up to
the checkpoint of RECORDS and ROOT is lost. That must be the newest checkpoint that anybody has seen. Clients
show the one that they saw in their error; ask for the one with the most records. Without arguments it is the
one in your own pins.

The record makes nobody believe anything. Each client's user compares the two checkpoints with you and runs
"sealmq key accept-restore". If a client has seen more records, attest again with its checkpoint.`,
		Example: `  sealmq key attest-restore
  sealmq key attest-restore 12 hFFWVyE0xLtrRKOsU1zsD5vXaSXWZGpbFtLqCZVPxTA=`,
	}
	dir := addPinsFlags(addConnectFlags(cmd))
	return standalone(cmd, func(a call) error {
		lost, err := dir.lostTree(a.args)
		if err != nil {
			return err
		}
		return quiet(dir.conn).with(a, func(a call, d *keydir.Directory) error {
			r, err := d.AttestRestore(a.ctx, lost)
			if err != nil {
				return err
			}
			info := newRestoreInfo(r)
			return a.facts(nil, info, "record", info.Record, "before", info.Before, "since", info.Since,
				"next", `each client compares these two and runs "sealmq key accept-restore"`)
		})
	})
}

// lostTree is the checkpoint that a restore has lost.
func (f *directoryFlags) lostTree(args []string) (tlog.Tree, error) {
	if len(args) == 2 {
		lost, err := keylog.ParseTree(args[0], args[1])
		if err != nil {
			return lost, usage(errors.New("RECORDS and ROOT are not those of a checkpoint"), "copy both from a client's error, or from \"sealmq key directory\"")
		}
		return lost, nil
	}
	if len(args) == 1 {
		return tlog.Tree{}, usagef("RECORDS and ROOT must be given together")
	}
	pins, _, err := f.openPins()
	if err != nil {
		return tlog.Tree{}, err
	}
	lost, err := pins.Seen()
	if err == nil && lost.N == 0 {
		err = withHint(fmt.Errorf("%s has seen nothing of this directory", f.pins), "give RECORDS and ROOT as a client's error shows them")
	}
	return lost, err
}

// acceptedInfo is what "key accept-restore --json" prints.
type acceptedInfo struct {
	restoreInfo
	Forgotten []forgotten `json:"forgotten"`
}

func newKeyAcceptRestoreCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "accept-restore",
		Short: "Accept that the key directory was restored from a backup",
		Long: `Go on with a key directory that was restored from a backup, if an administrator has attested that. Read its
whole log, show the checkpoint before and since, and ask. Compare both with the administrator, by a way that you
trust: a broker that lies can write such a record too.

You give up the proof that nothing was changed between the backup and the restore. Pinned keys that the
restored log does not have are forgotten and shown: compare the next key of these names with its owner. A restore is
accepted once; another one needs another record.`,
		Example: `  sealmq key accept-restore
  sealmq key accept-restore --yes`,
	}
	dir := addPinsFlags(addConnectFlags(cmd))
	yes := addYesFlag(cmd)
	return standalone(cmd, func(a call) error {
		return dir.with(a, func(a call, d *keydir.Directory) error {
			accepted, err := d.AcceptRestore(a.ctx, func(r *keydir.Accepted) error { return confirmRestore(a, r, *yes) })
			if err != nil {
				return err
			}
			info := acceptedInfo{newRestoreInfo(accepted.RestoreRecord), forgottenKeys(accepted.Forgotten)}
			return a.report(nil, info, "accepted: the log that was restored takes the place of the one before; %s forgotten", plural(len(info.Forgotten), "pinned key"))
		})
	})
}

// forgottenKeys lists the keys that are no longer pinned, by name and suite.
func forgottenKeys(pins map[string]map[string]keydir.Pin) []forgotten {
	list := []forgotten{}
	for _, owner := range slices.Sorted(maps.Keys(pins)) {
		for _, suite := range slices.Sorted(maps.Keys(pins[owner])) {
			print := pins[owner][suite].Fingerprint
			list = append(list, forgotten{owner, suite, print, seal.ReadOut(print)})
		}
	}
	return list
}

// confirmRestore shows what a restore is about and what accepting it gives up, and asks.
func confirmRestore(a call, r *keydir.Accepted, yes bool) error {
	a.note("record %d of the log: an administrator attested that it was restored from a backup", r.Index)
	a.note("before: %s", treeText(r.Lost))
	a.note("since: %s", treeText(r.Since))
	a.note("you saw: %s", keylog.Describe(r.Before))
	a.note("shown now: %s", keylog.Describe(r.Now))
	for _, k := range forgottenKeys(r.Forgotten) {
		a.note("the log has lost the pinned key of %s (%s): %s; compare the next one with %s", k.Name, k.Suite, k.Digits, k.Name)
	}
	if yes {
		return nil
	}
	in := terminalOf(a.cmd)
	if in == nil {
		return withHint(errors.New("accepting a restore needs a confirmation, and there is no terminal to ask for it"), "compare both checkpoints with the administrator, and add --yes")
	}
	return askYes(a.cmd, in, "nothing was accepted", "You give up the proof that nothing was changed between the backup and the restore")
}
