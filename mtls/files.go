package mtls

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"path/filepath"
	"slices"

	"github.com/sealmq/sealmq/internal/durable"
)

// Files are the PEM files of one side of a connection.
type Files struct {
	// Cert is the certificate, followed by the intermediate certificates up to, and
	// without, the root.
	Cert string
	// Key is the key of Cert: PKCS#8, PKCS#1 or SEC1, not encrypted, and not readable
	// by other users.
	Key string
	// CA holds the roots that the peer's certificate may chain to.
	CA string
}

// FindFiles returns the files of a name as "sealmq cert issue" writes them: NAME.crt, NAME.key
// and ca.crt, in dir itself or in the folder certs of a data folder. They need not be there.
func FindFiles(dir, name string) Files {
	if names, err := durable.OS().ReadDir(dir); err != nil || !slices.Contains(names, name+".crt") {
		dir = filepath.Join(dir, "certs")
	}
	return FilesIn(dir, name)
}

// FilesIn is FindFiles for files in dir itself.
func FilesIn(dir, name string) Files {
	return Files{Cert: filepath.Join(dir, name+".crt"), Key: filepath.Join(dir, name+".key"), CA: filepath.Join(dir, "ca.crt")}
}

// content is what the files hold, as bytes.
type content struct{ cert, key, ca []byte }

// maxReads is how often certificate and key are read if they change meanwhile.
const maxReads = 3

// read reads the files, and refuses a key that others can read. A certificate that is replaced
// while the key is read would not fit it, so both are read again.
func (f Files) read() (c content, err error) {
	for range maxReads {
		if f.Cert == "" && f.Key == "" {
			break
		}
		before := c.cert
		if c.cert, err = durable.ReadFile(durable.OS(), f.Cert, MaxFileBytes); err != nil {
			return c, fmt.Errorf("read certificate: %w", err)
		}
		if before != nil && bytes.Equal(before, c.cert) {
			break
		}
		if c.key, err = durable.ReadPrivate(durable.OS(), f.Key, MaxFileBytes); err != nil {
			return c, fmt.Errorf("read key: %w", err)
		}
	}
	if c.ca, err = durable.ReadFile(durable.OS(), f.CA, MaxFileBytes); err != nil {
		return c, fmt.Errorf("read CA certificates: %w", err)
	}
	return c, nil
}

// digest tells contents apart.
func (c content) digest() [sha256.Size]byte {
	sums := [3][sha256.Size]byte{sha256.Sum256(c.cert), sha256.Sum256(c.key), sha256.Sum256(c.ca)}
	return sha256.Sum256(slices.Concat(sums[0][:], sums[1][:], sums[2][:]))
}

// FileError says that what is in a file of certificates, or in one of a key, cannot be used.
type FileError struct {
	What, Path string
	Err        error
}

// Error names the file.
func (e *FileError) Error() string { return fmt.Sprintf("%s %s: %v", e.What, e.Path, e.Err) }

// Unwrap returns what is wrong with it.
func (e *FileError) Unwrap() error { return e.Err }

// material is what the files say.
type material struct {
	certs []tls.Certificate // none for a client without certificate
	roots *x509.CertPool
}

// parse checks the content of the files. Its errors name the file.
func (f Files) parse(c content) (*material, error) {
	m := new(material)
	if c.cert != nil {
		certs, err := ParseCertificates(c.cert)
		if err != nil {
			return nil, &FileError{"certificate file", f.Cert, err}
		}
		key, err := f.keyOf(certs[0], c.key)
		if err != nil {
			return nil, err
		}
		pair := tls.Certificate{PrivateKey: key, Leaf: certs[0]}
		for _, c := range certs {
			pair.Certificate = append(pair.Certificate, c.Raw)
		}
		m.certs = []tls.Certificate{pair}
	}
	roots, err := ParseAuthorities(c.ca)
	if err != nil {
		return nil, &FileError{"CA file", f.CA, err}
	}
	m.roots = Pool(roots...)
	return m, nil
}

// keyOf finds the key of a certificate in the content of the key file.
func (f Files) keyOf(cert *x509.Certificate, data []byte) (crypto.Signer, error) {
	key, err := ParseKeyOf(cert, data)
	switch {
	case key == nil:
		return nil, &FileError{"key file", f.Key, err}
	case err != nil:
		return nil, &FileError{f.Cert + " and", f.Key, err}
	}
	return key, nil
}

// ReadPair reads a certificate with its chain and its key. Its errors name the file.
func ReadPair(f Files) ([]*x509.Certificate, crypto.Signer, error) {
	for i := 1; ; i++ {
		certs, err := ReadCertificates(f.Cert)
		if err != nil {
			return nil, nil, err
		}
		data, err := durable.ReadPrivate(durable.OS(), f.Key, MaxFileBytes)
		if err != nil {
			return nil, nil, err
		}
		key, err := f.keyOf(certs[0], data)
		if err == nil || i == maxReads {
			return certs, key, err
		}
	}
}

// ReadCertificates reads a file for ParseCertificates. Its errors name the file.
func ReadCertificates(file string) ([]*x509.Certificate, error) {
	return readPEM(file, ParseCertificates)
}

// ReadAuthorities reads a file for ParseAuthorities. Its errors name the file.
func ReadAuthorities(file string) ([]*x509.Certificate, error) {
	return readPEM(file, ParseAuthorities)
}

func readPEM(file string, parse func([]byte) ([]*x509.Certificate, error)) ([]*x509.Certificate, error) {
	f, err := durable.OpenNow(file) // it may be a pipe, which has no size
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxFileBytes+1))
	if err == nil && len(data) > MaxFileBytes {
		err = fmt.Errorf("%s has more than %d bytes", file, MaxFileBytes)
	}
	if err != nil {
		return nil, err
	}
	certs, err := parse(data)
	if err != nil {
		return nil, &FileError{"certificate file", file, err}
	}
	return certs, nil
}

// ReadKey reads a private key that its owner alone can read. Its errors name the file.
func ReadKey(file string) (crypto.Signer, error) {
	data, err := durable.ReadPrivate(durable.OS(), file, MaxFileBytes)
	if err != nil {
		return nil, err
	}
	key, err := ParsePrivateKey(data)
	if err != nil {
		return nil, &FileError{"key file", file, err}
	}
	return key, nil
}
