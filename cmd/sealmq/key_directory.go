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
		Short: "Put your public key into the broker's key directory",
		Long: `Sign the public key in FILE with your certificate's key and put it into the broker's key directory,
where "sealmq send --to NAME" finds it. FILE is a key file of either kind, or the name of a key in the
data folder; its private half is not sent. Of a private key under a passphrase the passphrase is asked for: the
public key beside it may be another one. The key takes the place of the one that you have published for
the same suite before: keep the old private key until nothing waits for it.

The name is that of your certificate. A file that is named after somebody else who has a certificate in the data
folder is refused, and so is any other name than the file's if you have not said who you are.`,
		Example: `  sealmq key publish lab --as lab
  sealmq key publish ./receiver.pub --cert lab.crt --cert-key lab.key --ca ca.crt`,
		Args: cobra.ExactArgs(1),
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
		return conn.ask(cmd, func(ctx context.Context, c *client.Client) error {
			d, _, _, err := dir.open(cmd, conn, c)
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

// checkOwner refuses a key under another name than its file's, if somebody here is called
// as the file is, or nobody has said as whom it is to be published.
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
	return withHint(fmt.Errorf("the file %s is named after %s, and this would publish its key as that of %s; nothing was published", path, owner, name),
		"--as %s publishes it as %s; if it is %s's all the same, --force publishes it", owner, owner, name)
}

// signer signs as the owner of the certificate of this connection, under the name that the
// broker knows.
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

// directoryRow is a key as the log has it last, beside what is pinned.
type directoryRow struct {
	Name   string `json:"name"`
	Suite  string `json:"suite,omitempty"`
	Proven bool   `json:"proven"`
	Entry  uint64 `json:"entry,omitempty"`
	Hash   string `json:"hash"`
	Record int64  `json:"record"`
	Reset  bool   `json:"reset,omitempty"` // the record says that the key was reset
	// Pinned is the fingerprint of the key that is pinned for this name and suite, on the
	// rows of its entry and of the newest one; PinnedEntry is its number.
	Pinned      string `json:"pinned,omitempty"`
	PinnedEntry uint64 `json:"pinned_entry,omitempty"`
}

func newKeyDirectoryCmd() *cobra.Command {
	var forget string
	cmd := &cobra.Command{
		Use:   "directory [NAME]",
		Short: "List the keys in the broker's key directory",
		Long: `Read the whole log of the broker's key directory, check that it is one log that continues what was seen
before, and list the newest key of everybody, or every change under one name. A key without a signed
entry, as CipherMQ's clients register them, is marked unproven. A key that an administrator of the broker
took out of the directory is marked reset. PINNED is the fingerprint of the key that is
pinned; in brackets behind it is the entry that it is of, if that is another one.

--forget forgets what is pinned of one name, and asks no broker.`,
		Example: `  sealmq key directory
  sealmq key directory lab
  sealmq key directory --forget lab`,
		Args: cobra.MaximumNArgs(1),
	}
	conn, dir := addConnectFlags(cmd), &directoryFlags{}
	dir.addPins(cmd)
	asJSON := addJSONFlag(cmd)
	cmd.Flags().StringVar(&forget, "forget", "", "forget the pinned keys of this `name`, so that its next key is taken as the first")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		name := strings.Join(args, "")
		if forget != "" && name != "" {
			return usagef("a name and --forget exclude each other")
		}
		if forget != "" {
			return dir.forget(cmd, conn, forget, *asJSON)
		}
		return conn.ask(cmd, func(ctx context.Context, c *client.Client) error {
			d, pins, scope, err := dir.open(cmd, conn, c)
			if err != nil {
				return err
			}
			a, err := d.Audit(ctx, name)
			if err != nil {
				return err
			}
			pinned, err := pins.Keys(scope)
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

// forget removes what is pinned of a name, and says what that was.
func (f *directoryFlags) forget(cmd *cobra.Command, conn *connectFlags, name string, asJSON bool) error {
	pins, scope, _, err := f.remembered(cmd, conn)
	if err != nil {
		return err
	}
	before, err := pins.Forget(cmd.Context(), scope, name)
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
		_, directory, _ := strings.Cut(scope, " ")
		_, err := fmt.Fprintf(w, "nothing was pinned of %s for the directory %s in %s\n", name, directory, f.pins)
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

// verifyInfo is the outcome of key verify.
type verifyInfo struct {
	Name       string      `json:"name"`
	Records    int64       `json:"records"`
	LogKey     string      `json:"log_key"`
	Checkpoint string      `json:"checkpoint"`
	Keys       []entryInfo `json:"keys"`
	Unproven   int         `json:"unproven"` // bare keys that were registered under the name
	Resets     []resetInfo `json:"resets"`   // keys that an administrator took out, the owner's or a thief's
}

func newKeyVerifyCmd() *cobra.Command {
	var keyFile string
	cmd := &cobra.Command{
		Use:   "verify [NAME]",
		Short: "Check that the key directory shows everybody the right keys",
		Long: `Read the whole log of the broker's key directory, check that it continues what was seen before, and
show the keys under NAME, by default your own. With --key-file the newest one must be the key in the file.
Do this for your own name from time to time: an entry that you have not published was put by somebody who
has your certificate's key. So does a reset that you have not asked for: an administrator of the broker took a key out
of the directory, and whoever was the first published the next one. "sealmq key directory NAME" lists all of them.`,
		Example: `  sealmq key verify --as lab --key-file lab
  sealmq key verify alice`,
		Args: cobra.MaximumNArgs(1),
	}
	conn, dir := addConnectFlags(cmd), addDirectoryFlags(cmd)
	asJSON, pass := addJSONFlag(cmd), addPassphraseFlag(cmd)
	cmd.Flags().StringVar(&keyFile, "key-file", "", "key `file` of which the directory must have the public half")
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
		return conn.ask(cmd, func(ctx context.Context, c *client.Client) error {
			d, pins, scope, err := dir.open(cmd, conn, c)
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
				err = errors.Join(err, sayKeys(ctx, cmd, conn, c, name, pins, scope))
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

// sayKeys prints what there is to compare with the owner: the pinned keys of a name, and the
// one that the directory shows, for which nothing is promised and which is not pinned.
func sayKeys(ctx context.Context, cmd *cobra.Command, conn *connectFlags, c *client.Client, name string, pins *keydir.Pins, scope string) error {
	pinned, err := pins.Keys(scope)
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

// newVerifyInfo describes what was verified, and compares it with a key, unless that is nil.
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
					"if you have not published it, somebody else has your certificate's key, and certificates cannot be revoked: get one under another name, or have the authority made anew, and tell the senders")
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
		fmt.Fprintf(w, "note         %s was reset by an administrator of the broker (record %d of the log); if you are %s and do not know why, ask\n", keyText(r.Suite, r.Entry), r.Record, v.Name)
	}
	if v.Unproven > 0 {
		fmt.Fprintf(w, "note         %s registered under this name without a signature; only senders that allow unproven keys use them\n", plural(v.Unproven, "key"))
	}
	return nil
}
