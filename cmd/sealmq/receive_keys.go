package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq/seal"
	"github.com/sealmq/sealmq/seal/ciphermq"
)

// receiveKeys are the keys of all --key-file flags. They can be read again.
type receiveKeys struct {
	ring  *seal.Keyring
	files []*keyFile
}

func readReceiveKeys(cmd *cobra.Command, f *openFlags) (*receiveKeys, error) {
	k := new(receiveKeys)
	for _, name := range f.keyFiles {
		file, err := openKeyring(cmd, name, f.pass)
		if err != nil {
			return nil, err
		}
		k.files = append(k.files, file)
	}
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
	for _, file := range k.files {
		again, err := file.read(nil)
		if err != nil {
			return nil, err
		}
		changed = changed || again
	}
	if changed {
		if err := k.join(); err != nil {
			return nil, err
		}
	}
	return k.ring, nil
}
