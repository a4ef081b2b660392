package main

import (
	"errors"
	"fmt"
	"io"
	"os"

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
	var to []string
	var suite, out, exchange, key string
	var force bool
	cmd := &cobra.Command{
		Use:   "seal FILE --to RECEIVER",
		Short: "Seal a file for receivers, without a broker",
		Long: `Seal a file, or standard input if FILE is -, and print the envelope: one line of JSON with a new message id.
"sealmq send" publishes the same, and "sealmq open" opens it. Every receiver needs a key file, --to NAME=FILE,
because without a broker there is no key directory.`,
		Example: `  sealmq seal report.txt --as alice --to lab=lab.pub --out report.sealed`,
	}
	conn := addIdentityFlags(cmd, "sign")
	fl := cmd.Flags()
	fl.StringArrayVar(&to, "to", nil, "receiver and key file, `NAME=FILE`; for FILE alone, NAME is the file's name; can be repeated")
	fl.StringVar(&suite, "suite", "", "`suite` to seal with (default: the suite of the receiver's key)")
	fl.StringVar(&out, "out", "", "`file` to write (default: standard output)")
	fl.StringVar(&exchange, "exchange", "", "`exchange` that the message is meant for")
	fl.StringVar(&key, "key", "", "`routing key` that the message is meant for")
	fl.BoolVar(&force, "force", false, forceUsage)
	_ = cmd.MarkFlagRequired("to")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		name, err := oneSuite(suite)
		if err != nil {
			return err
		}
		if err := checkOutput(out, force); err != nil {
			return err
		}
		r, err := findRecipients(cmd, to)
		if err != nil {
			return err
		}
		for _, to := range r.names {
			if r.keys[to] == nil {
				return withHint(fmt.Errorf("no key file is named for %s, and without a broker there is no key directory", to), "name the file with --to %s=FILE", to)
			}
		}
		text, err := readInput(cmd, args[0], seal.MaxContentBytes)
		if err != nil {
			return err
		}
		cfg := seal.SealerConfig{Signer: func() (*seal.Signer, error) { return conn.offlineSigner(cmd) }}
		for _, to := range r.names {
			key := r.keys[to]
			if name != "" && name != key.Suite() {
				if key, err = key.WithSuite(name); err != nil {
					return withHint(fmt.Errorf("key of %s: %w", to, err), "omit --suite, or name a key of that suite")
				}
			}
			cfg.Receivers = append(cfg.Receivers, seal.Receiver{Name: to, Key: key})
		}
		sealer, err := seal.NewSealer(cfg)
		if err != nil {
			return err
		}
		body, err := sealer.Seal(seal.Content{ID: seal.NewID(), Exchange: exchange, RoutingKey: key, Body: text})
		if err != nil {
			return err
		}
		return writeOutput(cmd, out, append(body, '\n'), 0o644)
	}
	return cmd
}

func newOpenCmd() *cobra.Command {
	var keyFiles, names, suites []string
	var out, expect, authority string
	var force bool
	cmd := &cobra.Command{
		Use:   "open FILE --key-file KEY",
		Short: "Open a sealed file, without a broker",
		Long: `Open an envelope, from "sealmq seal" or from a queue, and print its content. Standard error says who sealed it
and when. Unlike "sealmq receive", it has no ledger, so it opens the same message any number of times.`,
	}
	pass := addPassphraseFlag(cmd)
	fl := cmd.Flags()
	fl.StringVar(&authority, "ca", "", caUsage)
	fl.StringArrayVar(&keyFiles, "key-file", nil, "private key: a `file`, or the name of a key in the data folder; can be repeated")
	fl.StringArrayVar(&names, "name", nil, "your `name`, as the sender knows it (default: the names of the key files)")
	fl.StringArrayVar(&suites, "suite", nil, "accept only this `suite`; can be repeated")
	fl.StringVar(&expect, "expect", "", "open only messages for `EXCHANGE/KEY`; either may be empty")
	fl.StringVar(&out, "out", "", "`file` to write (default: standard output)")
	fl.BoolVar(&force, "force", false, forceUsage)
	_ = cmd.MarkFlagRequired("key-file")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := checkOutput(out, force); err != nil {
			return err
		}
		m, err := openFileOf(cmd, authority, &receiveFlags{keyFiles: keyFiles, names: names, suites: suites, expect: expect, pass: pass}, args[0])
		if err != nil {
			return err
		}
		if m.Proven() {
			fmt.Fprintf(cmd.ErrOrStderr(), "sealmq: sealed by %s on %s\n", m.Sender.ID, stampText(m.SealedAt))
		} else {
			fmt.Fprintln(cmd.ErrOrStderr(), "sealmq: the sender is not proven")
		}
		return writeOutput(cmd, out, m.Text, 0o600)
	}
	return cmd
}

func openFileOf(cmd *cobra.Command, authority string, f *receiveFlags, name string) (*seal.Message, error) {
	want := seal.Expect{AnyID: true}
	var err error
	if want.Exchange, want.RoutingKey, err = parseExpect(f.expect); err != nil {
		return nil, err
	}
	accepted, err := parseSuites(f.suites)
	if err != nil {
		return nil, err
	}
	ring, err := f.keys(cmd)
	if err != nil {
		return nil, err
	}
	if len(accepted) == 0 {
		accepted = acceptedSuites(ring)
	}
	if authority == "" {
		data, err := dataDir(cmd)
		if err != nil {
			return nil, err
		}
		authority = ca.In(data).CA
	}
	body, err := readInput(cmd, name, maxSealedFile)
	if err != nil {
		return nil, err
	}
	names := f.names
	for _, path := range f.keyFiles {
		if len(f.names) == 0 {
			names = append(names, ownerOf(path))
		}
	}
	if name == "-" {
		name = "standard input"
	}
	var m *seal.Message
	for _, receiver := range names {
		o, oerr := seal.NewOpener(seal.OpenerConfig{Name: receiver, Keys: ring, Verifier: trust.FileVerifier{CA: authority}, Suites: accepted, Legacy: []seal.Legacy{ciphermq.Suites{}}})
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
		return durable.ReadFile(durable.OS(), name, most)
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

const forceUsage = "replace the file of --out if it exists"

// checkOutput refuses an existing file before any work is done.
func checkOutput(name string, force bool) error {
	if name == "" || force {
		return nil
	}
	if _, err := os.Lstat(name); err == nil {
		return withHint(fmt.Errorf("%s already exists", name), "choose another file with --out, or replace it with --force")
	}
	return nil
}

// writeOutput replaces a file in one step, or prints.
func writeOutput(cmd *cobra.Command, name string, data []byte, perm os.FileMode) error {
	if name == "" {
		_, err := cmd.OutOrStdout().Write(data)
		return err
	}
	return durable.WriteFile(durable.OS(), name, data, perm)
}
