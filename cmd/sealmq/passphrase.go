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
type passphraseFlag struct{ file string }

func addPassphraseFlag(cmd *cobra.Command) *passphraseFlag {
	f := &passphraseFlag{}
	cmd.Flags().StringVar(&f.file, "passphrase-file", "", "`file` whose first line is the passphrase of the private key (default: ask for it)")
	return f
}

// read returns the passphrase from the file, or asks the person at the terminal.
func (f *passphraseFlag) read(cmd *cobra.Command, prompt string) ([]byte, error) {
	if f.file != "" {
		text, err := durable.ReadPrivate(durable.OS(), f.file, 4096)
		var open *durable.PrivateError
		if errors.As(err, &open) {
			return nil, withHint(fmt.Errorf("passphrase file %q is open to other users (mode %04o)", open.Path, open.Mode.Perm()), "%s", open.Hint())
		}
		if err != nil {
			return nil, fmt.Errorf("read the passphrase: %w", err)
		}
		line, _, _ := bytes.Cut(text, []byte("\n"))
		if line = bytes.TrimSuffix(line, []byte("\r")); len(line) == 0 {
			return nil, fmt.Errorf("the first line of %s is empty", f.file)
		}
		return line, nil
	}
	in, ok := cmd.InOrStdin().(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return nil, withHint(errors.New("the private key needs a passphrase, and there is no terminal to ask for it"), "name a file with --passphrase-file")
	}
	fmt.Fprint(cmd.ErrOrStderr(), prompt)
	text, err := term.ReadPassword(int(in.Fd()))
	fmt.Fprintln(cmd.ErrOrStderr())
	if err != nil {
		return nil, fmt.Errorf("read the passphrase: %w", err)
	}
	return text, nil
}

// choose asks for a new passphrase twice, or reads it from the file.
func (f *passphraseFlag) choose(cmd *cobra.Command) ([]byte, error) {
	first, err := f.read(cmd, "New passphrase: ")
	if err != nil || f.file != "" {
		return first, err
	}
	second, err := f.read(cmd, "Repeat the passphrase: ")
	if err != nil {
		return nil, err
	}
	if len(first) == 0 || !bytes.Equal(first, second) {
		return nil, errors.New("the two passphrases differ or are empty; nothing was written")
	}
	return first, nil
}

// keyFile is an open file of private keys.
type keyFile struct {
	path       string
	ring       *seal.Keyring
	passphrase []byte // nil if it has none
}

// readKeyring reads all private keys of a file.
func readKeyring(cmd *cobra.Command, path string, pass *passphraseFlag) (*keyFile, error) {
	data, err := durable.ReadPrivate(durable.OS(), path, maxKeyBytes)
	var open *durable.PrivateError
	if errors.As(err, &open) {
		if _, perr := readPublicKey(path); perr == nil {
			return nil, fmt.Errorf("%s: %w", path, seal.ErrPublicKey)
		}
	}
	if err != nil {
		return nil, err
	}
	f := &keyFile{path: path}
	if seal.IsEncryptedKeyFile(data) {
		if f.passphrase, err = pass.read(cmd, fmt.Sprintf("Passphrase of %s: ", path)); err != nil {
			return nil, err
		}
		if data, err = seal.DecryptKeyFile(data, f.passphrase); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	f.ring, err = seal.ParseKeyring(data, ciphermq.Suites{})
	if errors.Is(err, seal.ErrEncryptedKey) {
		return nil, withHint(fmt.Errorf("%s: %w", path, err), `remove the passphrase with "openssl rsa", and protect the file with its mode`)
	}
	if cert := certificateOf(path, data); cert != "" {
		return nil, errCertificateKey(path, cert)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return f, nil
}

// write replaces the file in one step, encrypted if it has a passphrase.
func (f *keyFile) write() error {
	data := f.ring.PEM()
	if f.passphrase != nil {
		var err error
		if data, err = seal.EncryptKeyFile(data, f.passphrase); err != nil {
			return err
		}
	}
	if err := durable.WriteFile(durable.OS(), f.path, data, 0o600); err != nil {
		return fmt.Errorf("write the private keys: %w", err)
	}
	return nil
}
