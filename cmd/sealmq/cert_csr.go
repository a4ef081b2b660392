package main

import (
	"crypto"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/mtls"
)

func newCertRequestCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "request NAME",
		Short: "Make a key and a request for its certificate",
		Long: `Write NAME.key and NAME.csr. The key stays where it is made. Send NAME.csr to the operator of the
authority, who runs "sealmq cert sign NAME NAME.csr" and sends NAME.crt and ca.crt back.

If NAME.key exists, the request is for that key.`,
		Example: `  sealmq cert request alice --out keys`,
	}
	out := cmd.Flags().String("out", ".", "`folder` for the files")
	keyType := cmd.Flags().String("key-type", string(ca.ECDSA), "`type` of a new key: ecdsa or rsa")
	return standalone(cmd, func(a call) error {
		kt, err := parseKeyType(*keyType)
		if err != nil {
			return err
		}
		name := a.args[0]
		keyFile, csrFile := filepath.Join(*out, name+".key"), filepath.Join(*out, name+".csr")
		key, err := keyOrNew(name, keyFile, kt)
		if err != nil {
			return err
		}
		csr, err := ca.NewCSR(name, key)
		if err != nil {
			return err
		}
		if err := durable.WriteFile(durable.OS(), csrFile, csr, 0o644); err != nil {
			return fmt.Errorf("write the request: %w", err)
		}
		return a.facts(nil, result{"key": keyFile, "request": csrFile}, "key", keyFile, "request", csrFile)
	})
}

// keyOrNew reads a key, or makes it if there is no such file.
func keyOrNew(name, file string, kt ca.KeyType) (crypto.Signer, error) {
	key, err := mtls.ReadKey(file)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	if key, err = ca.GenerateKey(kt); err != nil {
		return nil, err
	}
	if _, err := ca.NewCSR(name, key); err != nil {
		return nil, err // a bad name must not leave a key behind
	}
	data, err := mtls.EncodeKey(key)
	if err != nil {
		return nil, err
	}
	if err := durable.MkdirAll(durable.OS(), filepath.Dir(file), 0o700); err != nil {
		return nil, err
	}
	return key, durable.WriteFile(durable.OS(), file, data, 0o600)
}

func newCertSignCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "sign NAME CSR",
		Short: "Issue a certificate for a request",
		Long: `Issue a certificate for the key in the file CSR, a certificate signing request, and write NAME.crt.
Only the public key is taken from the request. If it has a common name, that must be NAME; everything else
that it asks for is ignored. Before you sign, make sure that the request comes from NAME.`,
		Example: `  sealmq cert sign alice alice.csr --out for-alice
  sealmq cert sign proxy-2 proxy-2.csr --role proxy --host proxy-2.example.org`,
	}
	f := addIssueFlags(cmd)
	cmd.Flags().BoolVar(&f.replace, "replace", false, "replace an existing certificate")
	return standalone(cmd, func(a call) error {
		r, err := f.request(a.args[0])
		if err != nil {
			return err
		}
		if r.CSR, err = durable.ReadFile(durable.OS(), a.args[1], ca.MaxCSRBytes); err != nil {
			return fmt.Errorf("read the request: %w", err)
		}
		r.Source = ca.SourceCSR
		return f.issue(a, r)
	})
}
