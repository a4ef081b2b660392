package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/seal"
	"github.com/sealmq/sealmq/seal/ciphermq"
	"github.com/sealmq/sealmq/trust"
)

// maxSealedFile limits an envelope in a file.
const maxSealedFile = 24 << 20

func newSealCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "seal FILE --to RECEIVER",
		Short: "Seal a file for receivers, without a broker",
		Long: `Seal a file, or standard input if FILE is -, and print the envelope: one line of JSON with a new message id.
"sealmq send" publishes the same, and "sealmq open" opens it. Every receiver needs a key file, --to NAME=FILE,
because without a broker there is no key directory.`,
		Example: `  sealmq seal report.txt --as alice --to lab=lab.pub --out report.sealed`,
	}
	conn, fl := addIdentityFlags(cmd, "sign"), cmd.Flags()
	list := fl.StringArray("to", nil, "receiver and key file, `NAME=FILE`; for FILE alone, NAME is the file's name; can be repeated")
	suite := fl.String("suite", "", "`suite` to seal with (default: the suite of the receiver's key)")
	exchange := fl.String("exchange", "", "`exchange` that the message is meant for")
	key := fl.String("key", "", "`routing key` that the message is meant for")
	out := addOutputFlags(cmd)
	_ = cmd.MarkFlagRequired("to")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		name, err := oneSuite(*suite)
		if err != nil {
			return err
		}
		if err := out.check(); err != nil {
			return err
		}
		to, err := findRecipients(cmd, *list)
		if err != nil {
			return err
		}
		for _, name := range to.names {
			if to.keys[name] == nil {
				return withHint(fmt.Errorf("no key file is named for %s, and without a broker there is no key directory", name), "name the file with --to %s=FILE", name)
			}
		}
		text, err := readInput(cmd, args[0], seal.MaxContentBytes)
		if err != nil {
			return err
		}
		cfg := seal.SealerConfig{Signer: conn.offlineSigner}
		for _, receiver := range to.names {
			key := to.keys[receiver]
			if name != "" && name != key.Suite() {
				if key, err = key.WithSuite(name); err != nil {
					return withHint(fmt.Errorf("key of %s: %w", receiver, err), "omit --suite, or name a key of that suite")
				}
			}
			cfg.Receivers = append(cfg.Receivers, seal.Receiver{Name: receiver, Key: key})
		}
		sealer, err := seal.NewSealer(cfg)
		if err != nil {
			return err
		}
		body, err := sealer.Seal(seal.Content{ID: seal.NewID(), Exchange: *exchange, RoutingKey: *key, Body: text})
		if err != nil {
			return err
		}
		return out.write(append(body, '\n'), 0o644)
	}
	return cmd
}

// openFlags are the flags of commands that open messages: what opens them, and what is
// accepted.
type openFlags struct {
	keyFiles, names, suites []string
	expect                  string
	pass                    *passphraseFlag
}

// addOpenFlags adds --key-file, --name, --suite, --expect and --passphrase-file. The
// arguments are the help of those whose help differs.
func addOpenFlags(cmd *cobra.Command, name, suite, expect string) *openFlags {
	f, fl := &openFlags{pass: addPassphraseFlag(cmd)}, cmd.Flags()
	fl.StringArrayVar(&f.keyFiles, "key-file", nil, "private key: a `file`, or the name of a key in the data folder; can be repeated")
	fl.StringArrayVar(&f.names, "name", nil, "your `name`, as "+name)
	fl.StringArrayVar(&f.suites, "suite", nil, "accept only this `suite`; can be repeated"+suite)
	fl.StringVar(&f.expect, "expect", "", expect+" `EXCHANGE/KEY`; either may be empty")
	_ = cmd.MarkFlagRequired("key-file")
	return f
}

// ownersOf adds the owners of the key files to the names.
func (f *openFlags) ownersOf(names []string) []string {
	for _, path := range f.keyFiles {
		if owner := ownerOf(path); !slices.Contains(names, owner) {
			names = append(names, owner)
		}
	}
	return names
}

func newOpenCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "open FILE --key-file KEY",
		Short: "Open a sealed file, without a broker",
		Long: `Open an envelope, from "sealmq seal" or from a queue, and print its content. Standard error says who sealed it
and when. Unlike "sealmq receive", it has no ledger, so it opens the same message any number of times.`,
	}
	f := addOpenFlags(cmd, "the sender knows it (default: the names of the key files)", "", "open only messages for")
	authority := cmd.Flags().String("ca", "", caUsage)
	out := addOutputFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := out.check(); err != nil {
			return err
		}
		m, err := openFileOf(cmd, *authority, f, args[0])
		if err != nil {
			return err
		}
		if m.Proven() {
			notef(cmd, "sealed by %s on %s", m.Sender.ID, stampText(m.SealedAt))
		} else {
			notef(cmd, "the sender is not proven")
		}
		return out.write(m.Text, 0o600)
	}
	return cmd
}

func openFileOf(cmd *cobra.Command, authority string, f *openFlags, name string) (*seal.Message, error) {
	want := seal.Expect{AnyID: true}
	var err error
	if want.Exchange, want.RoutingKey, err = parseExpect(f.expect); err != nil {
		return nil, err
	}
	cfg := seal.OpenerConfig{Legacy: []seal.Legacy{ciphermq.Suites{}}}
	if cfg.Suites, err = parseSuites(f.suites); err != nil {
		return nil, err
	}
	keys, err := readReceiveKeys(cmd, f)
	if err != nil {
		return nil, err
	}
	if cfg.Keys = keys.ring; len(cfg.Suites) == 0 {
		cfg.Suites = acceptedSuites(keys.ring)
	}
	if authority == "" {
		data, err := dataDir(cmd)
		if err != nil {
			return nil, err
		}
		authority = ca.In(data).CA
	}
	cfg.Verifier = trust.FileVerifier{CA: authority}
	body, err := readInput(cmd, name, maxSealedFile)
	if err != nil {
		return nil, err
	}
	names := f.names
	if len(names) == 0 {
		names = f.ownersOf(nil)
	}
	if name == "-" {
		name = "standard input"
	}
	var m *seal.Message
	for _, cfg.Name = range names {
		o, oerr := seal.NewOpener(cfg)
		if oerr != nil {
			return nil, oerr
		}
		if m, err = o.Open(body, want); err == nil || !errors.Is(err, seal.ErrReceiver) {
			break
		}
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", name, err)
	}
	if errors.Is(err, seal.ErrReceiver) {
		err = withHint(err, "if it is for you, give the name that the sender used with --name NAME")
	}
	return m, err
}

// readInput reads a file, or standard input.
func readInput(cmd *cobra.Command, name string, most int64) ([]byte, error) {
	if name != "-" {
		b, err := durable.ReadFile(durable.OS(), name, most)
		return b, explainFile(cmd, name, err)
	}
	text, err := io.ReadAll(io.LimitReader(cmd.InOrStdin(), most+1))
	if err != nil {
		return nil, fmt.Errorf("read standard input: %w", err)
	}
	if int64(len(text)) > most {
		return nil, fmt.Errorf("standard input is longer than %d bytes", most)
	}
	return text, nil
}

// outputFlags are --out and --force of commands that write a file or print it.
type outputFlags struct {
	cmd   *cobra.Command
	name  string
	force bool
}

func addOutputFlags(cmd *cobra.Command) *outputFlags {
	f := &outputFlags{cmd: cmd}
	cmd.Flags().StringVar(&f.name, "out", "", "`file` to write (default: standard output)")
	cmd.Flags().BoolVar(&f.force, "force", false, "replace the file of --out if it exists")
	return f
}

// check refuses an existing file before any work is done.
func (f *outputFlags) check() error {
	if f.name == "" || f.force {
		return nil
	}
	if stream, err := isStream(f.name); stream || err != nil {
		return err
	}
	if _, err := os.Lstat(f.name); err == nil {
		return withHint(fmt.Errorf("%s already exists", f.name), "choose another file with --out, or replace it with --force")
	}
	return nil
}

// write replaces the file in one step, or prints.
func (f *outputFlags) write(data []byte, perm os.FileMode) error {
	return writeOutput(f.cmd, cmp.Or(f.name, stdoutName), data, perm)
}

// open returns what is written to bit by bit. finish puts it in place, or drops it.
func (f *outputFlags) open() (w io.Writer, finish func(keep bool) error, err error) {
	if f.name == "" {
		return f.cmd.OutOrStdout(), func(bool) error { return nil }, nil
	}
	part, err := os.CreateTemp(filepath.Dir(f.name), filepath.Base(f.name)+".part-*")
	if err != nil {
		return nil, nil, err
	}
	return part, func(keep bool) error {
		err := errors.Join(part.Sync(), part.Close())
		if err == nil && keep {
			return os.Rename(part.Name(), f.name)
		}
		return errors.Join(err, os.Remove(part.Name()))
	}, nil
}
