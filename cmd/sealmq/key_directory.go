package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/keydir"
	"github.com/sealmq/sealmq/seal"
	"github.com/sealmq/sealmq/trust"
)

func newKeyPublishCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "publish FILE",
		Short: "Publish your public key in the broker's key directory",
		Long: `Sign the public key in FILE with your certificate's key, and publish it in the broker's key directory,
where "sealmq send --to NAME" finds it. NAME is the name in your certificate.

FILE is a private or public key file, or the name of a key in the data folder. Only the public key is sent.
If the private key has a passphrase, the command asks for it, because the public key file beside it may
hold another key. The new key replaces the one that you published for the same suite before. Keep the old
private key until no message waits for it.

A file whose name differs from NAME is refused, unless --as or --cert says who you are and no certificate
in the data folder has the name of the file.`,
		Example: `  sealmq key publish lab --as lab
  sealmq key publish ./receiver.pub --cert lab.crt --cert-key lab.key --ca ca.crt`,
	}
	conn, dir := addConnectFlags(cmd), &directoryFlags{}
	dir.addPins(cmd)
	asJSON, pass := addJSONFlag(cmd), addPassphraseFlag(cmd)
	force := cmd.Flags().Bool("force", false, "publish the key even if its file is named after somebody else")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		path, err := findKeyFile(cmd, args[0], ".key", ".pub")
		if err != nil {
			return err
		}
		key, _, _, err := readAnyKey(cmd, path, pass)
		if err != nil {
			return err
		}
		return conn.withClient(cmd, func(ctx context.Context, c *client.Client) error {
			d, err := dir.open(cmd, conn, c)
			if err != nil {
				return err
			}
			signer, err := conn.signer(ctx, cmd, c)
			if err != nil {
				return err
			}
			if err := conn.checkOwner(cmd, path, signer.Name()); err != nil && !*force {
				return err
			}
			e, err := d.Publish(ctx, signer, key)
			if err != nil {
				return err
			}
			return printEntry(cmd.OutOrStdout(), e, *asJSON)
		})
	}
	return cmd
}

// checkOwner refuses a key file that is named after somebody else, if the data folder has a
// certificate of that name, or if neither --as nor --cert was given.
func (f *connectFlags) checkOwner(cmd *cobra.Command, path, name string) error {
	owner := ownerOf(path)
	if owner == name {
		return nil
	}
	data, err := dataDir(cmd)
	if err != nil {
		return err
	}
	if _, err := os.Stat(ca.In(data).Cert(owner)); err != nil && (f.cert != "" || cmd.Flag("as").Changed) {
		return nil
	}
	return withHint(fmt.Errorf("the file %s is named after %s, but its key would be published as the key of %s; nothing was published", path, owner, name),
		"use --as %s to publish it as the key of %s, or --force if it is the key of %s", owner, owner, name)
}

// signer signs as the owner of the certificate of this connection, with the name that the
// broker gives it.
func (f *connectFlags) signer(ctx context.Context, cmd *cobra.Command, c *client.Client) (*seal.Signer, error) {
	files, err := f.files(cmd)
	if err != nil {
		return nil, err
	}
	who, err := c.Whoami(ctx)
	if err != nil {
		return nil, err
	}
	return trust.ReadSigner(files, who.ID)
}

// entryInfo describes a published key.
type entryInfo struct {
	Name        string `json:"name"`
	Suite       string `json:"suite"`
	Entry       uint64 `json:"entry"`
	Published   string `json:"published"`
	Fingerprint string `json:"fingerprint"`
	Digits      string `json:"digits"`
}

func printEntry(w io.Writer, e *seal.KeyEntry, asJSON bool) error {
	key := e.PublicKey()
	info := entryInfo{e.Owner, string(e.Suite()), e.Serial, e.Created.UTC().Format("2006-01-02T15:04:05Z"), key.Fingerprint(), key.Digits()}
	if asJSON {
		return printJSON(w, info)
	}
	fmt.Fprintf(w, "name         %s\n", info.Name)
	fmt.Fprintf(w, "suite        %s\n", info.Suite)
	fmt.Fprintf(w, "entry        %d, of %s\n", info.Entry, stampText(e.Created))
	fmt.Fprintf(w, "fingerprint  %s\n", info.Fingerprint)
	_, err := fmt.Fprintf(w, "read out     %s\n", info.Digits)
	return err
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
	var forget string
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
	conn, dir := addConnectFlags(cmd), &directoryFlags{}
	dir.addPins(cmd)
	asJSON := addJSONFlag(cmd)
	cmd.Flags().StringVar(&forget, "forget", "", "forget the pinned keys of this `name`, so that its next key is taken as the first")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		name := strings.Join(args, "")
		if forget != "" && name != "" {
			return usagef("NAME and --forget cannot be combined")
		}
		if forget != "" {
			return dir.forget(cmd, conn, forget, *asJSON)
		}
		return conn.withClient(cmd, func(ctx context.Context, c *client.Client) error {
			d, err := dir.open(cmd, conn, c)
			if err != nil {
				return err
			}
			a, err := d.Audit(ctx, name)
			if err != nil {
				return err
			}
			pinned, err := d.Pins().Keys()
			if err != nil {
				return err
			}
			return printDirectory(cmd.OutOrStdout(), a, pinned, name == "", *asJSON)
		})
	}
	return cmd
}

// forgotten is a key that is no longer pinned.
type forgotten struct {
	Name        string `json:"name"`
	Suite       string `json:"suite"`
	Fingerprint string `json:"fingerprint"`
	Digits      string `json:"digits"`
}

// forget removes the pins of a name and prints them.
func (f *directoryFlags) forget(cmd *cobra.Command, conn *connectFlags, name string, asJSON bool) error {
	pins, _, err := f.openPins(cmd, conn)
	if err != nil {
		return err
	}
	before, err := pins.Forget(cmd.Context(), name)
	if err != nil {
		return err
	}
	gone := []forgotten{}
	for _, suite := range slices.Sorted(maps.Keys(before)) {
		print := before[suite].Fingerprint
		gone = append(gone, forgotten{name, suite, print, seal.ReadOut(print)})
	}
	w := cmd.OutOrStdout()
	if asJSON {
		return printJSON(w, gone)
	}
	if len(gone) == 0 {
		_, directory, _ := strings.Cut(pins.Scope(), " ")
		_, err := fmt.Fprintf(w, "%s has no pinned key of %s for the directory %s\n", f.pins, name, directory)
		return err
	}
	for _, k := range gone {
		fmt.Fprintf(w, "forgot the key of %s (%s): %s, read out: %s\n", k.Name, k.Suite, k.Fingerprint, k.Digits)
	}
	return nil
}

func printDirectory(w io.Writer, a *keydir.Audit, pinned map[string]map[string]keydir.Pin, newest, asJSON bool) error {
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
	if asJSON {
		return printJSON(w, rows)
	}
	t := table{head: []string{"NAME", "SUITE", ">ENTRY", ">RECORD", "HASH", "PINNED"}}
	for _, r := range rows {
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
		t.add(r.Name, suite, entry, r.Record, r.Hash[:16], pin)
	}
	return t.print(w, "there are no keys")
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
	var keyFile string
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
	conn, dir := addConnectFlags(cmd), addDirectoryFlags(cmd)
	asJSON, pass := addJSONFlag(cmd), addPassphraseFlag(cmd)
	cmd.Flags().StringVar(&keyFile, "key-file", "", "key `file` with the key that the directory must show")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var key *seal.PublicKey
		if keyFile != "" {
			path, err := findKeyFile(cmd, keyFile, ".key", ".pub")
			if err != nil {
				return err
			}
			if key, _, _, err = readAnyKey(cmd, path, pass); err != nil {
				return err
			}
		}
		return conn.withClient(cmd, func(ctx context.Context, c *client.Client) error {
			d, err := dir.open(cmd, conn, c)
			if err != nil {
				return err
			}
			name := strings.Join(args, "")
			if name == "" {
				who, err := c.Whoami(ctx)
				if err != nil {
					return err
				}
				name = who.ID
			}
			var info *verifyInfo
			v, err := d.Verify(ctx, name)
			if err == nil {
				info, err = newVerifyInfo(v, name, key)
			}
			if errors.Is(err, keydir.ErrPinned) || err == nil && len(info.Keys) == 0 && info.Unproven > 0 {
				err = errors.Join(err, printKeysToCompare(ctx, cmd, conn, c, name, d.Pins()))
			}
			if err != nil {
				return err
			}
			if err := info.print(cmd.OutOrStdout(), *asJSON); err != nil {
				return err
			}
			if len(info.Keys) == 0 && len(info.Resets) > 0 {
				return withHint(fmt.Errorf("the directory has no signed key of %s since an administrator of the broker reset it", name), `its owner publishes one with "sealmq key publish NAME --as NAME"`)
			}
			if len(info.Keys) == 0 {
				return withHint(fmt.Errorf("the directory has no signed key of %s", name), `its owner publishes one with "sealmq key publish NAME --as NAME"`)
			}
			return nil
		})
	}
	return cmd
}

// printKeysToCompare prints the keys to compare with the owner: the pinned keys of a name, and the key
// that the directory shows. The latter is neither checked nor pinned.
func printKeysToCompare(ctx context.Context, cmd *cobra.Command, conn *connectFlags, c *client.Client, name string, pins *keydir.Pins) error {
	pinned, err := pins.Keys()
	if err != nil {
		return err
	}
	for _, suite := range slices.Sorted(maps.Keys(pinned[name])) {
		fmt.Fprintf(cmd.ErrOrStderr(), "sealmq: pinned for %s (%s): %s\n", name, suite, pinned[name][suite].Fingerprint)
	}
	d, err := new(directoryFlags).unpinned(cmd, conn, c, nil)
	if err != nil {
		return err
	}
	key, err := d.Find(ctx, name, "")
	if sealmq.CodeOf(err) == sealmq.NoKey {
		fmt.Fprintf(cmd.ErrOrStderr(), "sealmq: the directory shows no key for %s\n", name)
		return nil
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "sealmq: the directory shows for %s (%s): %s, read out: %s\n", name, key.Suite(), key.Fingerprint(), key.Digits())
	return nil
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
		info.Keys = append(info.Keys, entryInfo{Name: name, Suite: k.Suite, Entry: k.Serial,
			Published: k.Key.Created().UTC().Format("2006-01-02T15:04:05Z"), Fingerprint: k.Key.Fingerprint(), Digits: k.Key.Digits()})
	}
	if !found {
		return nil, withHint(fmt.Errorf("the directory has no key of %s for %s%s", name, key.Suite(), since), `publish it with "sealmq key publish"`)
	}
	return info, nil
}

func (v *verifyInfo) print(w io.Writer, asJSON bool) error {
	if asJSON {
		return printJSON(w, v)
	}
	fmt.Fprintf(w, "log          %s, signed, continues what was seen before\n", plural(v.Records, "record"))
	fmt.Fprintf(w, "log key      %s\n", v.LogKey)
	for _, k := range v.Keys {
		fmt.Fprintf(w, "%s %s, entry %d of %s\n", orDash(k.Name), k.Suite, k.Entry, k.Published)
		fmt.Fprintf(w, "  fingerprint  %s\n", k.Fingerprint)
		fmt.Fprintf(w, "  read out     %s\n", k.Digits)
	}
	for _, r := range v.Resets {
		fmt.Fprintf(w, "note         %s was reset by an administrator of the broker (record %d of the log); if you are %s and did not ask for it, ask why\n", keyText(r.Suite, r.Entry), r.Record, v.Name)
	}
	if v.Unproven > 0 {
		fmt.Fprintf(w, "note         %s registered with this name without a signature; only senders with --allow-unproven use them\n", plural(v.Unproven, "key"))
	}
	return nil
}
