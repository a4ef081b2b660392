package enroll

import (
	"cmp"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/mtls"
)

// Files are where a machine keeps its certificate.
type Files struct {
	mtls.Files
	// Root and Intermediate are the authority's certificates, for a data folder whose roles
	// look for them. Empty writes none.
	Root, Intermediate string
	// FS is the file system; nil is the operating system's.
	FS durable.FS
}

func (f Files) fs() durable.FS {
	return cmp.Or(f.FS, durable.OS())
}

// note is the file that says where the certificate came from.
func (f Files) note() string {
	return strings.TrimSuffix(f.Cert, filepath.Ext(f.Cert)) + ".enrolled.json"
}

// enrolled is its content.
type enrolled struct {
	Server string `json:"server"`
}

// Server is the address of the main server that the certificate came from. It is empty if the
// certificate did not come from one.
func (f Files) Server() (string, error) {
	data, err := durable.ReadFile(f.fs(), f.note(), 4096)
	if durable.IsNotExist(err) {
		return "", nil
	}
	var e enrolled
	if err == nil {
		err = json.Unmarshal(data, &e)
	}
	if err != nil {
		return "", fmt.Errorf("read %s: %w", f.note(), err)
	}
	return e.Server, nil
}

func (f Files) writeNote(server string) error {
	data, err := json.Marshal(enrolled{server})
	if err != nil {
		return err
	}
	return durable.WriteFile(f.fs(), f.note(), append(data, '\n'), 0o600)
}

func (f Files) readCert() (*x509.Certificate, error) {
	chain, err := f.readChain()
	if err != nil {
		return nil, err
	}
	return chain[0], nil
}

func (f Files) readChain() ([]*x509.Certificate, error) { return f.read(f.Cert) }

func (f Files) read(file string) ([]*x509.Certificate, error) {
	data, err := durable.ReadFile(f.fs(), file, mtls.MaxFileBytes)
	if err != nil {
		return nil, err
	}
	certs, err := mtls.ParseCertificates(data)
	if err != nil {
		return nil, &mtls.FileError{What: "certificate file", Path: file, Err: err}
	}
	return certs, nil
}

// roots are the authorities that the machine believes.
func (f Files) roots() (*x509.CertPool, error) {
	certs, err := f.read(f.CA)
	if err != nil {
		return nil, err
	}
	return mtls.Pool(certs...), nil
}

func (f Files) readKeys() ([]crypto.Signer, error) {
	data, err := durable.ReadPrivate(f.fs(), f.Key, mtls.MaxFileBytes)
	if err != nil {
		return nil, err
	}
	keys, err := mtls.ParsePrivateKeys(data)
	if err != nil {
		return nil, &mtls.FileError{What: "key file", Path: f.Key, Err: err}
	}
	return keys, nil
}

func (f Files) writeKeys(keys ...crypto.Signer) error {
	var data []byte
	for _, key := range keys {
		block, err := mtls.EncodeKey(key)
		if err != nil {
			return err
		}
		data = append(data, block...)
	}
	if err := durable.MkdirAll(f.fs(), filepath.Dir(f.Key), 0o700); err != nil {
		return err
	}
	return durable.WriteFile(f.fs(), f.Key, data, 0o600)
}

// nextKey returns the key for the next certificate, which is on disk then, and the key of cert.
// A key that an interrupted call has made is used. cert may be nil.
func (f Files) nextKey(cert *x509.Certificate) (next, old crypto.Signer, err error) {
	keys, err := f.readKeys()
	if err != nil && !durable.IsNotExist(err) {
		return nil, nil, err
	}
	if cert == nil && len(keys) > 0 {
		return keys[0], nil, nil
	}
	for i, key := range keys {
		if mtls.CheckPair(cert, key) != nil {
			continue
		}
		if old = key; i == 0 && len(keys) == 2 {
			return keys[1], old, nil
		}
	}
	if next, err = ca.GenerateKey(keyType(cert)); err != nil {
		return nil, nil, err
	}
	if old == nil { // what there is belongs to nothing
		return next, nil, f.writeKeys(next)
	}
	return next, old, f.writeKeys(old, next)
}

// keyType is that of the old key, so that peers that understand one type only go on doing so.
func keyType(cert *x509.Certificate) ca.KeyType {
	if cert != nil && cert.PublicKeyAlgorithm == x509.RSA {
		return ca.RSA
	}
	return ca.ECDSA
}

// install writes a certificate for a key of the key file, and then leaves that key alone there.
func (f Files) install(chain []byte, key crypto.Signer) error {
	if err := durable.WriteFile(f.fs(), f.Cert, chain, 0o644); err != nil {
		return err
	}
	return f.writeKeys(key)
}

// keepRoot writes the authority's certificates where they are missing. Others are never replaced.
func (f Files) keepRoot(root, intermediate *x509.Certificate) error {
	for _, w := range []struct {
		file string
		cert *x509.Certificate
	}{{f.Root, root}, {f.Intermediate, intermediate}, {f.CA, root}} {
		if w.file == "" || w.cert == nil {
			continue
		}
		if err := f.checkAuthority(w.file, w.cert); !errors.Is(err, errMissing) {
			if err != nil {
				return err
			}
			continue
		}
		if err := durable.MkdirAll(f.fs(), filepath.Dir(w.file), 0o700); err != nil {
			return err
		}
		if err := durable.WriteFile(f.fs(), w.file, mtls.EncodeCertificates(w.cert), 0o644); err != nil {
			return err
		}
	}
	return nil
}

var errMissing = errors.New("the file is missing")

// checkAuthority returns nil if a file has a certificate.
func (f Files) checkAuthority(file string, cert *x509.Certificate) error {
	certs, err := f.read(file)
	if durable.IsNotExist(err) {
		return errMissing
	}
	if err != nil {
		return err
	}
	if slices.ContainsFunc(certs, cert.Equal) {
		return nil
	}
	return &hintError{file + " has the certificate of another authority", "choose another folder; if this machine is to change to the new authority, move the old files away first"}
}

// hintError is an error with what its reader can do about it.
type hintError struct{ text, hint string }

func (e *hintError) Error() string { return e.text }
func (e *hintError) Hint() string  { return e.hint }
