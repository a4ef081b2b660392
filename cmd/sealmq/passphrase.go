package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/seal"
	"github.com/sealmq/sealmq/seal/ciphermq"
)

// passphraseFlag is --passphrase-file of every command that reads or writes private keys.
type passphraseFlag struct {
	cmd  *cobra.Command
	file string
}

func addPassphraseFlag(cmd *cobra.Command) *passphraseFlag {
	f := &passphraseFlag{cmd: cmd}
	cmd.Flags().StringVar(&f.file, "passphrase-file", "", "`file` whose first line is the passphrase (default: ask for it)")
	return f
}

// read returns the passphrase from the file, or asks the person at the terminal.
func (f *passphraseFlag) read(prompt string) ([]byte, error) {
	if f.file != "" {
		line, err := readPassword(f.file)
		if private, ok := errors.AsType[*durable.PrivateError](err); ok {
			private.What = "passphrase file"
			return nil, private
		}
		if err != nil {
			return nil, fmt.Errorf("read the passphrase: %w", err)
		}
		if line == "" {
			return nil, fmt.Errorf("the first line of %s is empty", f.file)
		}
		return []byte(line), nil
	}
	in := terminalOf(f.cmd)
	if in == nil {
		return nil, withHint(errors.New("the private key needs a passphrase, and there is no terminal to ask for it"), "name a file with --passphrase-file")
	}
	fmt.Fprint(f.cmd.ErrOrStderr(), prompt)
	text, err := term.ReadPassword(int(in.Fd()))
	fmt.Fprintln(f.cmd.ErrOrStderr())
	if err != nil {
		return nil, fmt.Errorf("read the passphrase: %w", err)
	}
	return text, nil
}

// choose asks for a new passphrase twice, or reads it from the file.
func (f *passphraseFlag) choose() ([]byte, error) {
	first, err := f.read("New passphrase: ")
	if err != nil || f.file != "" {
		return first, err
	}
	second, err := f.read("Repeat the passphrase: ")
	if err != nil {
		return nil, err
	}
	if len(first) == 0 || !bytes.Equal(first, second) {
		return nil, errors.New("the two passphrases differ or are empty; nothing was written")
	}
	return first, nil
}

// protectFlags are those of the commands that make a private key.
type protectFlags struct {
	pass *passphraseFlag
	on   bool
}

func addProtectFlags(cmd *cobra.Command) *protectFlags {
	f := &protectFlags{pass: addPassphraseFlag(cmd)}
	cmd.Flags().BoolVar(&f.on, "passphrase", false, "encrypt the private key for sealed messages with a passphrase")
	return f
}

// encrypt encrypts a new private key, if that is wanted.
func (f *protectFlags) encrypt(private []byte) ([]byte, error) {
	if !f.on && f.pass.file == "" {
		return private, nil
	}
	passphrase, err := f.pass.choose()
	if err != nil {
		return nil, err
	}
	return seal.EncryptKeyFile(private, passphrase)
}

// terminalOf is standard input if it is a terminal, else nil.
func terminalOf(cmd *cobra.Command) *os.File {
	if in, ok := cmd.InOrStdin().(*os.File); ok && term.IsTerminal(int(in.Fd())) {
		return in
	}
	return nil
}

// keyFile is an open file of private keys.
type keyFile struct {
	path       string
	data       []byte // as it was read last
	ring       *seal.Keyring
	passphrase []byte // nil if it has none
}

// readKeyring reads all private keys of a file.
func readKeyring(path string, pass *passphraseFlag) (*keyFile, error) {
	f := &keyFile{path: path}
	_, err := f.read(pass)
	if errors.Is(err, seal.ErrEncryptedKey) {
		err = withHint(err, `remove the passphrase with "openssl rsa", and protect the file with its mode`)
	}
	if _, ok := errors.AsType[*durable.PrivateError](err); ok {
		if _, perr := readPublicKey(path); perr == nil {
			return nil, fmt.Errorf("%s: %w", path, seal.ErrPublicKey)
		}
	}
	return f, err
}

// read reads the file, and parses it if it has changed. It uses the passphrase that is
// known, or asks for it if pass is not nil.
func (f *keyFile) read(pass *passphraseFlag) (changed bool, err error) {
	data, err := durable.ReadPrivate(durable.OS(), f.path, maxKeyBytes)
	if err != nil || f.ring != nil && bytes.Equal(data, f.data) {
		return false, err
	}
	text := data
	if seal.IsEncryptedKeyFile(data) {
		if f.passphrase == nil && pass != nil {
			if f.passphrase, err = pass.read(fmt.Sprintf("Passphrase of %s: ", f.path)); err != nil {
				return false, err
			}
		}
		if text, err = seal.DecryptKeyFile(data, f.passphrase); err != nil {
			return false, fmt.Errorf("%s: %w", f.path, err)
		}
	}
	ring, err := seal.ParseKeyring(text, ciphermq.Suites{})
	if cert := certificateOf(f.path, text); cert != "" {
		return false, errCertificateKey(f.path, cert)
	}
	if err != nil {
		return false, fmt.Errorf("%s: %w", f.path, err)
	}
	f.data, f.ring = data, ring
	return true, nil
}

// write replaces the file in one step, encrypted if it has a passphrase.
func (f *keyFile) write() (err error) {
	data := f.ring.PEM()
	if f.passphrase != nil {
		if data, err = seal.EncryptKeyFile(data, f.passphrase); err != nil {
			return err
		}
	}
	if err := durable.WriteFile(durable.OS(), f.path, data, 0o600); err != nil {
		return fmt.Errorf("write the private keys: %w", err)
	}
	return nil
}
