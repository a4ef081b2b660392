package main

import (
	"bytes"
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/seal"
	"github.com/sealmq/sealmq/seal/ciphermq"
)

// receiveKeys are the keys of all --key-file flags. They can be read again.
type receiveKeys struct {
	ring  *seal.Keyring
	files []*keyFile
	data  [][]byte // of each, as it was read last
}

func (f *receiveFlags) keys(cmd *cobra.Command) (*seal.Keyring, error) {
	k, err := f.readKeys(cmd)
	if err != nil {
		return nil, err
	}
	return k.ring, nil
}

func (f *receiveFlags) readKeys(cmd *cobra.Command) (*receiveKeys, error) {
	k := new(receiveKeys)
	for _, name := range f.keyFiles {
		path, err := findKeyFile(cmd, name, ".key")
		if err != nil {
			return nil, err
		}
		file, err := readKeyring(cmd, path, f.pass)
		if err != nil {
			return nil, err
		}
		k.files = append(k.files, file)
	}
	k.data = make([][]byte, len(k.files))
	return k, k.join()
}

// join makes one ring of all files.
func (k *receiveKeys) join() (err error) {
	if len(k.files) == 1 {
		k.ring = k.files[0].ring
		return nil
	}
	var all []byte
	for _, file := range k.files {
		all = append(all, file.ring.PEM()...)
	}
	if k.ring, err = seal.ParseKeyring(all, ciphermq.Suites{}); err != nil {
		return fmt.Errorf("the key files together: %w", err)
	}
	return nil
}

// reload reads the files again, with the known passphrases. It parses only files that have
// changed.
func (k *receiveKeys) reload(context.Context) (*seal.Keyring, error) {
	changed := false
	for i, file := range k.files {
		data, err := durable.ReadPrivate(durable.OS(), file.path, maxKeyBytes)
		if err != nil {
			return nil, err
		}
		if bytes.Equal(data, k.data[i]) {
			continue
		}
		text := data
		if seal.IsEncryptedKeyFile(data) {
			if text, err = seal.DecryptKeyFile(data, file.passphrase); err != nil {
				return nil, fmt.Errorf("%s: %w", file.path, err)
			}
		}
		ring, err := seal.ParseKeyring(text, ciphermq.Suites{})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file.path, err)
		}
		file.ring, k.data[i], changed = ring, data, true
	}
	if changed {
		if err := k.join(); err != nil {
			return nil, err
		}
	}
	return k.ring, nil
}
