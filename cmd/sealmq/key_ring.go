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
	cmd := &cobra.Command{
		Use:   "show FILE",
		Short: "Show the suite and the fingerprint of a key",
		Long: `Show the key in a key file. If the file has several private keys, show the newest, which senders should
use. FILE is a path, or the name of a key in the data folder. Sender and receiver compare the fingerprint,
or read it out, to make sure that they have the same key.

A private key with a passphrase is opened only if --passphrase-file is given. Otherwise the public key
file beside it is shown, without a check that the two belong together.`,
	}
	pass := addPassphraseFlag(cmd)
	public := cmd.Flags().Bool("public", false, "print the public key in PEM form, to pass it on")
	return standalone(cmd, func(a call) error {
		path, err := findKeyFile(cmd, a.args[0], ".key", ".pub")
		if err != nil {
			return err
		}
		asked := pass
		if pass.file == "" {
			asked = nil
		}
		key, kind, beside, err := readAnyKey(path, asked)
		if err != nil {
			return err
		}
		info := describeKey(key, kind)
		if info.Unchecked = beside; beside != "" {
			a.note("this is the key in %s; to check that it belongs to %s, use --passphrase-file", beside, path)
		}
		if info.PublicPEM = string(key.PEM()); *public && !a.asJSON {
			_, err := io.WriteString(a.out, info.PublicPEM)
			return err
		}
		return a.facts(nil, info, "file", path, "kind", info.Kind+" key", "suite", fmt.Sprintf("%s, %d bits", info.Suite, info.Bits),
			"made", localTime(key.Created()), "fingerprint", info.Fingerprint, "read out", info.Digits, "note", key.Warning())
	})
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
	pass := addPassphraseFlag(cmd)
	return standalone(cmd, func(a call) error {
		file, err := openKeyring(cmd, a.args[0], pass)
		if err != nil {
			return err
		}
		return printList(a, nil, ringRows(file.ring), "there are no keys", []string{"state", "suite", "created", "retired", "fingerprint"}, func(r ringRow) []any {
			return []any{r.State, r.Suite, orDash(r.Created), orDash(r.Retired), r.Fingerprint}
		})
	})
}

// openKeyring finds and reads a file of private keys.
func openKeyring(cmd *cobra.Command, name string, pass *passphraseFlag) (*keyFile, error) {
	path, err := findKeyFile(cmd, name, ".key")
	if err != nil {
		return nil, err
	}
	return readKeyring(path, pass)
}

func newKeyRotateCmd() *cobra.Command {
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
	pass := addPassphraseFlag(cmd)
	name := cmd.Flags().String("suite", "", "`suite` of the new key (default: the suite of the newest key)")
	return standalone(cmd, func(a call) error {
		suite, err := oneSuite(*name)
		if err != nil {
			return err
		}
		file, err := openKeyring(cmd, a.args[0], pass)
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
			a.note(`a running "sealmq receive" refuses messages of the suite %s: restart it before a sender uses the key`, suite)
		}
		return a.facts(nil, info,
			"private keys", fmt.Sprintf("%s  (%s open messages)", info.Private, plural(len(file.ring.Live()), "key")),
			"public key", info.Public+"  (goes to the senders)",
			"fingerprint", info.Fingerprint)
	})
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
	pass := addPassphraseFlag(cmd)
	return standalone(cmd, func(a call) error {
		file, err := openKeyring(cmd, a.args[0], pass)
		if err != nil {
			return err
		}
		newest := file.ring.Newest()
		gone, err := file.ring.Retire(a.args[1], time.Now())
		if err != nil {
			return withHint(err, "\"sealmq key list %s\" shows the fingerprints", a.args[0])
		}
		if newest != nil && newest.Public().Fingerprint() == gone.Fingerprint {
			return withHint(fmt.Errorf("%s is the newest key, which senders use; nothing was changed", gone.Fingerprint), "\"sealmq key rotate %s\" first", a.args[0])
		}
		return a.report(file.write(), ringRows(file.ring), "retired %s; messages sealed for it can never be opened again", gone.Fingerprint)
	})
}
