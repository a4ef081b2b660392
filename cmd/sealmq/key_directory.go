package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/keydir"
	"github.com/sealmq/sealmq/seal"
)

func newKeyPublishCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "publish [FILE]",
		Short: "Publish your public key in the broker's key directory",
		Long: `Sign the public key in FILE with your certificate's key, and publish it in the broker's key directory,
where "sealmq send --to NAME" finds it. NAME is the name in your certificate.

FILE is a private or public key file, or the name of a key; without it the key of --as is meant. Only the public key is sent.
If the private key has a passphrase, the command asks for it, because the public key file beside it may
hold another key. The new key replaces the one that you published for the same suite before. Keep the old
private key until no message waits for it.

A file whose name differs from NAME is refused, unless --as or --cert says who you are and no certificate
in the data folder has the name of the file.`,
		Example: `  sealmq key publish --as lab
  sealmq key publish ./receiver.pub --cert lab.crt --cert-key lab.key --ca ca.crt`,
	}
	dir, pass := addPinsFlags(addConnectFlags(cmd)), addPassphraseFlag(cmd)
	force := cmd.Flags().Bool("force", false, "publish the key even if its file is named after somebody else")
	return standalone(cmd, func(a call) error {
		find := dir.conn.keyFile
		if len(a.args) > 0 {
			find = func() (string, error) { return findKeyFile(cmd, a.args[0], ".key", ".pub") }
		}
		path, err := find()
		if err != nil {
			return err
		}
		key, _, _, err := readAnyKey(path, pass)
		if err != nil {
			return err
		}
		return dir.with(a, func(a call, d *keydir.Directory) error {
			name, sign, err := dir.conn.signers()
			if err != nil {
				return err
			}
			if err := dir.conn.checkOwner(path, name); err != nil && !*force {
				return err
			}
			signer, err := sign()
			if err != nil {
				return err
			}
			e, err := d.Publish(a.ctx, signer, key)
			if err != nil {
				return err
			}
			info := newEntryInfo(e.Owner, e.Serial, e.PublicKey(), e.Created)
			return a.facts(nil, info, "name", info.Name, "suite", info.Suite, "entry", fmt.Sprintf("%d, of %s", info.Entry, stampText(e.Created)),
				"fingerprint", info.Fingerprint, "read out", info.Digits)
		})
	})
}

// checkOwner refuses a key file that is named after somebody else, if there is an identity of
// that name or a certificate in the data folder, or if neither --as nor --cert was given.
func (f *connectFlags) checkOwner(path, name string) error {
	owner := ownerOf(path)
	if owner == name {
		return nil
	}
	cfg, err := clientConfig(f.cmd)
	if err != nil {
		return err
	}
	_, known := identityDir(cfg, owner)
	if _, err := os.Stat(ca.In(cfg.Data).Cert(owner)); err != nil && !known && (f.cert != "" || f.asGiven()) {
		return nil
	}
	return withHint(fmt.Errorf("the file %s is named after %s, but its key would be published as the key of %s; nothing was published", path, owner, name),
		"use --as %s to publish it as the key of %s, or --force if it is the key of %s", owner, owner, name)
}

// entryInfo describes a published key.
type entryInfo struct {
	Name        string `json:"name"`
	Suite       string `json:"suite"`
	Entry       uint64 `json:"entry"`
	Published   string `json:"published"`
	Fingerprint string `json:"fingerprint"`
	Digits      string `json:"digits"`
	// Unbound says that the entry is of an older version and names no key directory.
	Unbound bool `json:"unbound,omitempty"`
}

func newEntryInfo(name string, entry uint64, key *seal.PublicKey, published time.Time) entryInfo {
	return entryInfo{Name: name, Suite: string(key.Suite()), Entry: entry, Published: published.UTC().Format(time.RFC3339), Fingerprint: key.Fingerprint(), Digits: key.Digits()}
}

// directoryRow is the last change of a key in the log, with the pinned key.
type directoryRow struct {
	Name   string `json:"name"`
	Suite  string `json:"suite,omitempty"`
	Proven bool   `json:"proven"`
	Entry  uint64 `json:"entry,omitempty"`
	Hash   string `json:"hash"`
	Record int64  `json:"record"`
	Reset  bool   `json:"reset,omitempty"` // the record says that the key was reset
	// Pinned is the fingerprint of the pinned key of this name and suite, and PinnedEntry
	// its entry. They are set in the rows of that entry and of the newest one.
	Pinned      string `json:"pinned,omitempty"`
	PinnedEntry uint64 `json:"pinned_entry,omitempty"`
}

func newKeyDirectoryCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "directory [NAME]",
		Short: "List the keys in the broker's key directory",
		Long: `Read the whole log of the broker's key directory, and check that it continues the log that was seen
before. List the newest key of each name or, with NAME, every change of its keys.

A key without a signed entry, such as CipherMQ's clients register, is marked unproven. A key that an
administrator removed is marked reset. PINNED is the fingerprint of the pinned key, with its entry in
brackets if that is not the entry of the row.

--forget removes the pins of one name. It does not connect to a broker.`,
		Example: `  sealmq key directory
  sealmq key directory lab
  sealmq key directory --forget lab`,
	}
	dir := addPinsFlags(addConnectFlags(cmd))
	forget := cmd.Flags().String("forget", "", "forget the pinned keys of this `name`, so that its next key is taken as the first")
	return standalone(cmd, func(a call) error {
		name := strings.Join(a.args, "")
		if *forget != "" && name != "" {
			return usagef("NAME and --forget cannot be combined")
		}
		if *forget != "" {
			return dir.forget(a, *forget)
		}
		return dir.with(a, func(a call, d *keydir.Directory) error {
			audit, err := d.Audit(a.ctx, name)
			if err != nil {
				return err
			}
			for _, r := range audit.Restores {
				a.note("record %d of the log: an administrator attested that it was restored from a backup; before: %s; since: %s", r.Index, treeText(r.Lost), treeText(r.Since))
			}
			pinned, err := d.Pins().Keys()
			return printList(a, err, directoryRows(audit, pinned, name == ""), "there are no keys",
				[]string{"NAME", "SUITE", ">ENTRY", ">RECORD", "HASH", "PINNED"}, directoryRow.cells)
		})
	})
}

// forgotten is a key that is no longer pinned.
type forgotten struct {
	Name        string `json:"name"`
	Suite       string `json:"suite"`
	Fingerprint string `json:"fingerprint"`
	Digits      string `json:"digits"`
}

// forget removes the pins of a name and prints them.
func (f *directoryFlags) forget(a call, name string) error {
	pins, _, err := f.openPins()
	if err != nil {
		return err
	}
	before, err := pins.Forget(a.ctx, name)
	gone := forgottenKeys(map[string]map[string]keydir.Pin{name: before})
	if err != nil || a.asJSON {
		return a.json(err, gone)
	}
	if len(gone) == 0 {
		_, directory, _ := strings.Cut(pins.Scope(), " ")
		_, err = fmt.Fprintf(a.out, "%s has no pinned key of %s for the directory %s\n", f.pins, printable(name), directory)
	}
	for _, k := range gone {
		_, err = fmt.Fprintf(a.out, "forgot the key of %s (%s): %s, read out: %s\n", printable(k.Name), k.Suite, k.Fingerprint, k.Digits)
	}
	return err
}

func directoryRows(a *keydir.Audit, pinned map[string]map[string]keydir.Pin, newest bool) []directoryRow {
	rows := []directoryRow{}
	for _, r := range a.Records {
		if newest && !r.Newest {
			continue
		}
		row := directoryRow{Name: r.Owner, Suite: r.Suite, Proven: r.Proven, Entry: r.Serial, Record: r.Index, Reset: r.Reset, Hash: hex.EncodeToString(r.Hash[:])}
		for slot, pin := range pinned[r.Owner] {
			if slot == r.Suite && (r.Hash == pin.Entry || r.Newest) || !r.Proven && !pin.Proven && r.Newest {
				row.Pinned, row.PinnedEntry = pin.Fingerprint, pin.Serial
			}
		}
		rows = append(rows, row)
	}
	return rows
}

func (r directoryRow) cells() []any {
	suite, entry := r.Suite, fmt.Sprint(r.Entry)
	if !r.Proven {
		suite, entry = "unproven, 32 bytes", "-"
	}
	if r.Reset {
		entry += " reset"
	}
	pin := orDash(r.Pinned)
	if r.PinnedEntry != r.Entry && r.Pinned != "" {
		pin += fmt.Sprintf(" (entry %d)", r.PinnedEntry)
	}
	return []any{r.Name, suite, entry, r.Record, r.Hash[:16], pin}
}

// verifyInfo is the result of key verify.
type verifyInfo struct {
	Name       string      `json:"name"`
	Records    int64       `json:"records"`
	LogKey     string      `json:"log_key"`
	Checkpoint string      `json:"checkpoint"`
	Keys       []entryInfo `json:"keys"`
	Unproven   int         `json:"unproven"` // bare keys that were registered under the name
	Resets     []resetInfo `json:"resets"`   // keys that an administrator removed
}

func newKeyVerifyCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "verify [NAME]",
		Short: "Check the keys of a name in the key directory",
		Long: `Read the whole log of the broker's key directory, check that it continues the log that was seen before, and
show the keys of NAME, by default your own. With --key-file the newest key must be the key in the file.

Check your own name from time to time. If there is an entry that you did not publish, somebody else has your
certificate's key. If there is a reset that you did not ask for, an administrator removed a key, and anybody
with a certificate of your name could publish the next one. "sealmq key directory NAME" lists all changes.`,
		Example: `  sealmq key verify --as lab --key-file lab
  sealmq key verify alice`,
	}
	dir, pass := addDirectoryFlags(addConnectFlags(cmd)), addPassphraseFlag(cmd)
	keyFile := cmd.Flags().String("key-file", "", "key `file` with the key that the directory must show")
	return standalone(cmd, func(a call) error {
		var key *seal.PublicKey
		if *keyFile != "" {
			path, err := findKeyFile(cmd, *keyFile, ".key", ".pub")
			if err != nil {
				return err
			}
			if key, _, _, err = readAnyKey(path, pass); err != nil {
				return err
			}
		}
		return dir.with(a, func(a call, d *keydir.Directory) error { return verifyName(a, d, dir.conn, key) })
	})
}

func verifyName(a call, d *keydir.Directory, conn *connectFlags, key *seal.PublicKey) error {
	name := strings.Join(a.args, "")
	if name == "" {
		var err error
		if name, err = conn.ownName(); err != nil {
			return err
		}
	}
	var info *verifyInfo
	v, err := d.Verify(a.ctx, name)
	if err == nil {
		info, err = newVerifyInfo(v, name, key)
	}
	if errors.Is(err, keydir.ErrPinned) || err == nil && len(info.Keys) == 0 && info.Unproven > 0 {
		err = errors.Join(err, printKeysToCompare(a, conn, name, d.Pins()))
	}
	if err != nil {
		return err
	}
	if err := info.print(a); err != nil || len(info.Keys) > 0 {
		return err
	}
	since := ""
	if len(info.Resets) > 0 {
		since = " since an administrator of the broker reset it"
	}
	return withHint(fmt.Errorf("the directory has no signed key of %s%s", name, since), `its owner publishes one with "sealmq key publish NAME --as NAME"`)
}

// printKeysToCompare prints the keys to compare with the owner: the pinned keys of a name, and the key
// that the directory shows. The latter is neither checked nor pinned.
func printKeysToCompare(a call, conn *connectFlags, name string, pins *keydir.Pins) error {
	pinned, err := pins.Keys()
	if err != nil {
		return err
	}
	for _, suite := range slices.Sorted(maps.Keys(pinned[name])) {
		a.note("pinned for %s (%s): %s", name, suite, pinned[name][suite].Fingerprint)
	}
	d, err := quiet(conn).unpinned(a.client)
	if err != nil {
		return err
	}
	key, err := d.Find(a.ctx, name, "")
	if sealmq.CodeOf(err) == sealmq.NoKey {
		a.note("the directory shows no key for %s", name)
		return nil
	}
	if err == nil {
		a.note("the directory shows for %s (%s): %s, read out: %s", name, key.Suite(), key.Fingerprint(), key.Digits())
	}
	return err
}

// newVerifyInfo describes the verified keys, and compares them with key if it is not nil.
func newVerifyInfo(v *keydir.Verified, name string, key *seal.PublicKey) (*verifyInfo, error) {
	info := &verifyInfo{Name: name, Records: v.Size, LogKey: v.LogKey, Checkpoint: string(v.Checkpoint), Keys: []entryInfo{}, Resets: resetsOf(v.Records)}
	since := ""
	for _, r := range v.Records {
		switch {
		case r.Reset && !r.Proven:
			info.Unproven = 0
		case !r.Proven:
			info.Unproven++
		case r.Reset && r.Newest && key != nil && r.Suite == string(key.Suite()):
			since = " since an administrator of the broker reset it"
		}
	}
	found := key == nil
	for _, k := range v.Keys {
		if key != nil && key.Suite() == k.Key.Suite() {
			if found = key.Fingerprint() == k.Key.Fingerprint(); !found {
				return nil, withHint(fmt.Errorf("the directory has another key of %s for %s than the file: %s", name, k.Suite, k.Key.Fingerprint()),
					"if you did not publish it, somebody else has your certificate's key: have the certificate revoked at once, get one with a new key, publish your key again, and tell the senders")
			}
		}
		entry := newEntryInfo(name, k.Serial, k.Key, k.Key.Created())
		entry.Unbound = k.Unbound
		info.Keys = append(info.Keys, entry)
	}
	if !found {
		return nil, withHint(fmt.Errorf("the directory has no key of %s for %s%s", name, key.Suite(), since), `publish it with "sealmq key publish"`)
	}
	return info, nil
}

func (v *verifyInfo) print(a call) error {
	if a.asJSON {
		return a.json(nil, v)
	}
	w := a.out
	fmt.Fprintf(w, "log          %s, signed, continues what was seen before\n", plural(v.Records, "record"))
	fmt.Fprintf(w, "log key      %s\n", v.LogKey)
	for _, k := range v.Keys {
		fmt.Fprintf(w, "%s %s, entry %d of %s\n", printable(orDash(k.Name)), k.Suite, k.Entry, k.Published)
		fmt.Fprintf(w, "  fingerprint  %s\n", k.Fingerprint)
		fmt.Fprintf(w, "  read out     %s\n", k.Digits)
		if k.Unbound {
			fmt.Fprintf(w, "  note         the entry is of an older version and names no key directory, so any broker could show it; \"sealmq key publish\" makes a new one\n")
		}
	}
	for _, r := range v.Resets {
		fmt.Fprintf(w, "note         %s was reset by an administrator of the broker (record %d of the log); if you are %s and did not ask for it, ask why\n", keyText(r.Suite, r.Entry), r.Record, printable(v.Name))
	}
	if v.Unproven > 0 {
		fmt.Fprintf(w, "note         %s registered with this name without a signature; only senders with --allow-unproven use them\n", plural(v.Unproven, "key"))
	}
	return nil
}
