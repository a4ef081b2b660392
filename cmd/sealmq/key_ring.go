package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/seal"
	"github.com/sealmq/sealmq/seal/ciphermq"
)

func newKeyShowCmd() *cobra.Command {
	var public bool
	cmd := &cobra.Command{
		Use:   "show FILE",
		Short: "Show the suite and the fingerprint of a key",
		Long: `Show the key in a key file. If the file has several private keys, show the newest, which senders should
use. FILE is a path, or the name of a key in the data folder. Sender and receiver compare the fingerprint,
or read it out, to make sure that they have the same key.

A private key with a passphrase is opened only if --passphrase-file is given. Otherwise the public key
file beside it is shown, without a check that the two belong together.`,
	}
	asJSON, pass := addJSONFlag(cmd), addPassphraseFlag(cmd)
	cmd.Flags().BoolVar(&public, "public", false, "print the public key in PEM form, to pass it on")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		path, err := findKeyFile(cmd, args[0], ".key", ".pub")
		if err != nil {
			return err
		}
		asked := pass
		if pass.file == "" {
			asked = nil
		}
		key, kind, beside, err := readAnyKey(cmd, path, asked)
		if err != nil {
			return err
		}
		w := cmd.OutOrStdout()
		info := describeKey(key, kind)
		if info.Unchecked = beside; beside != "" {
			fmt.Fprintf(cmd.ErrOrStderr(), "sealmq: this is the key in %s; to check that it belongs to %s, use --passphrase-file\n", beside, path)
		}
		switch {
		case *asJSON:
			info.PublicPEM = string(key.PEM())
			return printJSON(w, info)
		case public:
			_, err := w.Write(key.PEM())
			return err
		}
		fmt.Fprintf(w, "file         %s\n", path)
		fmt.Fprintf(w, "kind         %s key\n", info.Kind)
		fmt.Fprintf(w, "suite        %s, %d bits\n", info.Suite, info.Bits)
		if t := key.Created(); !t.IsZero() {
			fmt.Fprintf(w, "made         %s\n", stampText(t))
		}
		fmt.Fprintf(w, "fingerprint  %s\n", info.Fingerprint)
		fmt.Fprintf(w, "read out     %s\n", info.Digits)
		if note := key.Warning(); note != "" {
			fmt.Fprintf(w, "note         %s\n", note)
		}
		return nil
	}
	return cmd
}

// ringRow is one key of a file.
type ringRow struct {
	State       string `json:"state"` // newest, live or retired
	Suite       string `json:"suite"`
	Fingerprint string `json:"fingerprint"`
	Created     string `json:"created,omitempty"`
	Retired     string `json:"retired,omitempty"`
}

func ringRows(ring *seal.Keyring) []ringRow {
	at := func(t time.Time) string {
		if t.IsZero() {
			return ""
		}
		return t.UTC().Format(time.RFC3339)
	}
	rows := []ringRow{}
	for i, k := range ring.Live() {
		state := "live"
		if i == 0 {
			state = "newest"
		}
		rows = append(rows, ringRow{State: state, Suite: string(k.Suite()), Fingerprint: k.Public().Fingerprint(), Created: at(k.Created())})
	}
	for _, k := range ring.Retired() {
		rows = append(rows, ringRow{"retired", string(k.Suite), k.Fingerprint, at(k.Created), at(k.Retired)})
	}
	return rows
}

func newKeyListCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list FILE",
		Short: "List all keys of a receiver's key file",
		Long: `List the keys in a file of private keys: the newest key, which senders should use; older keys, which open
messages that are still on their way; and the fingerprints of retired keys.`,
	}
	asJSON, pass := addJSONFlag(cmd), addPassphraseFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		file, err := openKeyring(cmd, args[0], pass)
		if err != nil {
			return err
		}
		return printRing(cmd.OutOrStdout(), file.ring, *asJSON)
	}
	return cmd
}

func printRing(w io.Writer, ring *seal.Keyring, asJSON bool) error {
	rows := ringRows(ring)
	if asJSON {
		return printJSON(w, rows)
	}
	t := table{head: []string{"state", "suite", "created", "retired", "fingerprint"}}
	for _, r := range rows {
		t.add(r.State, r.Suite, orDash(r.Created), orDash(r.Retired), r.Fingerprint)
	}
	return t.print(w, "there are no keys")
}

// openKeyring finds and reads a file of private keys.
func openKeyring(cmd *cobra.Command, name string, pass *passphraseFlag) (*keyFile, error) {
	path, err := findKeyFile(cmd, name, ".key")
	if err != nil {
		return nil, err
	}
	return readKeyring(cmd, path, pass)
}

func newKeyRotateCmd() *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:   "rotate FILE",
		Short: "Add a new key to a receiver's key file",
		Long: `Make a new key, put it before the others in the file of private keys, and replace the public key file beside
it. The older keys stay, to open messages that are still on their way.

A running receiver reads its key files again when a message comes that no key opens. On another machine it
needs the new file before a sender uses the key. If the new key is the file's first of a CipherMQ suite,
restart the receiver: it accepts messages without a proven sender only if it had such a key when it started.

Then give the public key to the senders, or publish it with "sealmq key publish". Retire the old key with
"sealmq key retire" when no message waits for it any more.`,
		Example: `  sealmq key rotate lab
  sealmq key publish lab --as lab`,
	}
	asJSON, pass := addJSONFlag(cmd), addPassphraseFlag(cmd)
	cmd.Flags().StringVar(&name, "suite", "", "`suite` of the new key (default: the suite of the newest key)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		suite, err := oneSuite(name)
		if err != nil {
			return err
		}
		file, err := openKeyring(cmd, args[0], pass)
		if err != nil {
			return err
		}
		if suite == "" {
			suite = seal.DefaultSuite
			if k := file.ring.Newest(); k != nil {
				suite = k.Suite()
			}
		}
		taken := slices.Contains(acceptedSuites(file.ring), suite)
		key, err := file.ring.Rotate(suite, time.Now(), ciphermq.Suites{})
		if err != nil {
			return err
		}
		if err := file.write(); err != nil {
			return err
		}
		// After the private half: nobody may seal for a key that is not stored.
		public := strings.TrimSuffix(file.path, ".key") + ".pub"
		if err := durable.WriteFile(durable.OS(), public, key.Public().PEM(), 0o644); err != nil {
			return fmt.Errorf("write the public key: %w", err)
		}
		info := describeKey(key.Public(), "private")
		info.Private, info.Public = file.path, public
		if !taken {
			fmt.Fprintf(cmd.ErrOrStderr(), "sealmq: a running \"sealmq receive\" refuses messages of the suite %s: restart it before a sender uses the key\n", suite)
		}
		w := cmd.OutOrStdout()
		if *asJSON {
			return printJSON(w, info)
		}
		fmt.Fprintf(w, "private keys  %s  (%s open messages)\n", info.Private, plural(uint64(len(file.ring.Live())), "key"))
		fmt.Fprintf(w, "public key    %s  (goes to the senders)\n", info.Public)
		fmt.Fprintf(w, "fingerprint   %s\n", info.Fingerprint)
		return nil
	}
	return cmd
}

func newKeyRetireCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "retire FILE FINGERPRINT",
		Short: "Delete an old key from a receiver's key file for ever",
		Long: `Delete the secret of an old key. Then nobody, not even the receiver, can open messages that were sealed for
it. Check first that no message waits for it: "sealmq queue peek" shows the keys of waiting messages.

FINGERPRINT is shown by "sealmq key list"; its first eight digits are enough. The newest key cannot be
retired: rotate first.`,
	}
	asJSON, pass := addJSONFlag(cmd), addPassphraseFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		file, err := openKeyring(cmd, args[0], pass)
		if err != nil {
			return err
		}
		newest := file.ring.Newest()
		gone, err := file.ring.Retire(args[1], time.Now())
		if err != nil {
			return withHint(err, "\"sealmq key list %s\" shows the fingerprints", args[0])
		}
		if newest != nil && newest.Public().Fingerprint() == gone.Fingerprint {
			return withHint(fmt.Errorf("%s is the newest key, which senders use; nothing was changed", gone.Fingerprint), "\"sealmq key rotate %s\" first", args[0])
		}
		if err := file.write(); err != nil {
			return err
		}
		if *asJSON {
			return printRing(cmd.OutOrStdout(), file.ring, true)
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "retired %s; messages sealed for it can never be opened again\n", gone.Fingerprint)
		return err
	}
	return cmd
}
