package main

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/cmd/sealmq/internal/jsonl"
	"github.com/sealmq/sealmq/cmd/sealmq/internal/sender"
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
because without a broker there is no key directory.

With --lines each line of FILE is a message, and becomes a line at once, so that the command can stand in a
pipe. "sealmq publish" publishes such lines.`,
		Example: `  sealmq seal report.txt --as alice --to lab=lab.pub --out report.sealed
  tail -f log.txt | sealmq seal - --lines --as alice --to lab=lab.pub | sealmq publish results lab --as alice`,
	}
	conn, fl := addIdentityFlags(cmd, "sign"), cmd.Flags()
	list := fl.StringArray("to", nil, "receiver and key file, `NAME=FILE`; for FILE alone, NAME is the file's name; can be repeated")
	suite := fl.String("suite", "", "`suite` to seal with (default: the suite of the receiver's key)")
	exchange := fl.String("exchange", "", "`exchange` that the message is meant for")
	key := fl.String("key", "", "`routing key` that the message is meant for")
	lines := fl.Bool("lines", false, "seal each line as a message, and print it at once")
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
			if to.keys[name] == nil && strings.Contains(name, ",") {
				return withHint(fmt.Errorf("no key file is named for %s", name), oneEach)
			}
			if to.keys[name] == nil {
				return withHint(fmt.Errorf("no key file is named for %s, and without a broker there is no key directory", name), "name the file with --to %s=FILE", name)
			}
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
		sealed := func(text []byte) ([]byte, error) {
			body, err := sealer.Seal(seal.Content{ID: seal.NewID(), Exchange: *exchange, RoutingKey: *key, Body: text})
			return append(body, '\n'), err
		}
		if *lines {
			return out.eachLine(args[0], sealed)
		}
		text, err := readInput(cmd, args[0], seal.MaxContentBytes)
		if err != nil {
			return err
		}
		body, err := sealed(text)
		if err != nil {
			return err
		}
		return out.write(body, 0o644)
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
	fl.StringArrayVar(&f.keyFiles, "key-file", nil, "private key: a `file`, or the name of a key; can be repeated (default: the key of --as)")
	fl.StringArrayVar(&f.names, "name", nil, "your `name`, as "+name)
	fl.StringArrayVar(&f.suites, "suite", nil, "accept only this `suite`; can be repeated"+suite)
	fl.StringVar(&f.expect, "expect", "", expect+" `EXCHANGE/KEY`; either may be empty")
	return f
}

// addOwnKey makes the key of the one who is named the key file, if none is named.
func (f *openFlags) addOwnKey(conn *connectFlags) error {
	if len(f.keyFiles) > 0 {
		return nil
	}
	path, err := conn.keyFile()
	f.keyFiles = []string{path}
	return err
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
		Use:   "open FILE --as NAME",
		Short: "Open a sealed file, without a broker",
		Long: `Open an envelope, from "sealmq seal" or from a queue, and print its content. Standard error says who sealed it
and when. Unlike "sealmq receive", it has no ledger, so it opens the same message any number of times.

With --lines each line of FILE is an envelope, and becomes a line of JSON at once, as "sealmq receive" writes it.
FILE is - for standard input.`,
		Example: `  sealmq open report.sealed --as lab
  ./consume.py results | sealmq open - --lines --as lab`,
	}
	f := addOpenFlags(cmd, "the sender knows it (default: the names of the key files)", "", "open only messages for")
	conn, lines := &connectFlags{cmd: cmd}, cmd.Flags().Bool("lines", false, "open each line, and print it at once as a line of JSON")
	cmd.Flags().StringVar(&conn.as, "as", cmp.Or(os.Getenv("SEALMQ_AS"), ca.AdminName), "open with the key of this `name`: an identity, or a key in the data folder (SEALMQ_AS)")
	cmd.Flags().StringVar(&conn.ca, "ca", os.Getenv("SEALMQ_CA"), caUsage)
	out := addOutputFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := out.check(); err != nil {
			return err
		}
		open, err := f.opener(conn)
		if err != nil {
			return err
		}
		if *lines {
			return out.eachLine(args[0], func(body []byte) ([]byte, error) {
				m, err := open(body)
				if err != nil {
					return nil, err
				}
				r := jsonl.Record{MessageID: m.ID, Message: m.Text, Received: time.Now(), Exchange: m.Exchange, Key: m.RoutingKey}
				if m.Proven() {
					r.Sender, r.SealedAt = m.Sender.ID, m.SealedAt
				}
				return append(r.AppendJSON(nil), '\n'), nil
			})
		}
		name, what := args[0], args[0]
		body, err := readInput(cmd, name, maxSealedFile)
		if err != nil {
			return err
		}
		if name == "-" {
			what = "standard input"
		}
		m, err := open(body)
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
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

// opener returns what opens an envelope.
func (f *openFlags) opener(conn *connectFlags) (func(body []byte) (*seal.Message, error), error) {
	want := seal.Expect{AnyID: true}
	var err error
	if want.Exchange, want.RoutingKey, err = parseExpect(f.expect); err != nil {
		return nil, err
	}
	cfg := seal.OpenerConfig{Legacy: []seal.Legacy{ciphermq.Suites{}}}
	if cfg.Suites, err = parseSuites(f.suites); err != nil {
		return nil, err
	}
	if err := f.addOwnKey(conn); err != nil {
		return nil, err
	}
	keys, err := readReceiveKeys(conn.cmd, f)
	if err != nil {
		return nil, err
	}
	if cfg.Keys = keys.ring; len(cfg.Suites) == 0 {
		cfg.Suites = acceptedSuites(keys.ring)
	}
	files, err := conn.files()
	if err != nil {
		return nil, err
	}
	cfg.Verifier = trust.FileVerifier{CA: files.CA}
	names := f.names
	if len(names) == 0 {
		names = f.ownersOf(nil)
	}
	var openers []*seal.Opener
	for _, cfg.Name = range names {
		o, err := seal.NewOpener(cfg)
		if err != nil {
			return nil, err
		}
		openers = append(openers, o)
	}
	return func(body []byte) (m *seal.Message, err error) {
		for _, o := range openers {
			if m, err = o.Open(body, want); err == nil || !errors.Is(err, seal.ErrReceiver) {
				break
			}
		}
		if errors.Is(err, seal.ErrReceiver) {
			err = withHint(err, "if it is for you, give the name that the sender used with --name NAME")
		}
		return m, err
	}, nil
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
	part, err := durable.OpenFile(f.name+".part-"+rand.Text(), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
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

// eachLine makes a line of each line of a file, or of standard input, and prints it at once.
func (f *outputFlags) eachLine(name string, do func([]byte) ([]byte, error)) error {
	if f.name != "" {
		return usagef("--lines and --out cannot be combined; redirect the output")
	}
	in, err := openInput(f.cmd, []string{name}, true)
	if err != nil {
		return err
	}
	defer in.close()
	for {
		text, err := in.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		line, err := do(text.Body)
		if err != nil {
			return fmt.Errorf("%s: %w", sender.Place(text.Source, text.Line), err)
		}
		if _, err := f.cmd.OutOrStdout().Write(line); err != nil {
			return err
		}
	}
}
