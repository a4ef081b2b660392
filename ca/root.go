package ca

import (
	"crypto"
	"fmt"

	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/mtls"
	"github.com/sealmq/sealmq/seal"
)

// rootKey reads the root's key. purpose completes "is needed".
func (a *Authority) rootKey(purpose string) (crypto.Signer, error) {
	name := a.paths.RootKey
	data, err := durable.ReadPrivate(a.options.FS, name, maxFileBytes)
	if durable.IsNotExist(err) {
		return nil, &hintError{fmt.Sprintf("the key of the root, %s, is needed %s", name, purpose),
			"bring it back for this one command, or delete the ca folder to start with a new authority"}
	}
	if err != nil {
		return nil, err
	}
	if seal.IsEncryptedKeyFile(data) {
		if a.options.RootPassphrase == nil {
			return nil, &hintError{fmt.Sprintf("the key of the root, %s, is needed %s, and has a passphrase", name, purpose),
				`run "sealmq init" on a terminal, or with --passphrase-file`}
		}
		passphrase, err := a.options.RootPassphrase()
		if err != nil {
			return nil, err
		}
		if data, err = seal.DecryptKeyFile(data, passphrase); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	key, err := mtls.ParsePrivateKey(data)
	if err != nil {
		return nil, &mtls.FileError{What: "key file", Path: name, Err: err}
	}
	if a.root != nil {
		if err := mtls.CheckPair(a.root, key); err != nil {
			return nil, &mtls.FileError{What: a.paths.Root + " and", Path: name, Err: err}
		}
	}
	return key, nil
}

// checkRootKey checks the root's key if it is there and can be read without a passphrase. If
// one is wanted and it has none, it gets one.
func (a *Authority) checkRootKey() error {
	data, err := durable.ReadPrivate(a.options.FS, a.paths.RootKey, maxFileBytes)
	if durable.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if seal.IsEncryptedKeyFile(data) {
		return nil
	}
	if _, err := a.rootKey("here"); err != nil {
		return err
	}
	return a.protectRoot(data)
}

// protectRoot puts a passphrase on the root's key, if one is wanted.
func (a *Authority) protectRoot(data []byte) error {
	if a.options.ProtectRoot == nil {
		return nil
	}
	passphrase, err := a.options.ProtectRoot()
	if err != nil {
		return err
	}
	if data, err = seal.EncryptKeyFile(data, passphrase); err != nil {
		return err
	}
	return durable.WriteFile(a.options.FS, a.paths.RootKey, data, 0o600)
}

// newRootKey makes the root's key, or takes the one that an interrupted call has left. It
// never is on the disk without its passphrase.
func (a *Authority) newRootKey(m *maker) (crypto.Signer, error) {
	if _, err := durable.ReadPrivate(a.options.FS, a.paths.RootKey, maxFileBytes); !durable.IsNotExist(err) {
		if err != nil {
			return nil, err
		}
		return a.rootKey("to make the root's certificate")
	}
	if a.options.ProtectRoot == nil {
		return m.newKey(a.paths.RootKey, a.options.KeyType)
	}
	key, err := GenerateKey(a.options.KeyType)
	if err != nil {
		return nil, err
	}
	data, err := mtls.EncodeKey(key)
	if err != nil {
		return nil, err
	}
	if err := a.protectRoot(data); err != nil {
		return nil, err
	}
	m.made = append(m.made, a.paths.RootKey)
	return key, nil
}

// isDirect reports whether the root allows no authority below it, so that it signs
// certificates itself.
func (a *Authority) isDirect() bool { return a.root.MaxPathLen == 0 && a.root.MaxPathLenZero }
