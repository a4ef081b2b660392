package mtls

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"time"

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

func (f Files) paths() []string {
	var paths []string
	for _, p := range []string{f.Cert, f.Key, f.CA} {
		if p != "" {
			paths = append(paths, p)
		}
	}
	return paths
}

// material is what the files hold.
type material struct {
	certs []tls.Certificate // none for a client without certificate
	roots *x509.CertPool
	// digest tells whether a later read found something else.
	digest [sha256.Size]byte
}

// load reads and checks the files. Its errors name the file.
func (f Files) load() (*material, error) {
	m := &material{}
	sum := sha256.New()
	if f.Cert != "" || f.Key != "" {
		pair, err := loadPair(f.Cert, f.Key, sum)
		if err != nil {
			return nil, err
		}
		m.certs = []tls.Certificate{pair}
	}
	roots, err := loadRoots(f.CA, sum)
	if err != nil {
		return nil, err
	}
	m.roots = roots
	sum.Sum(m.digest[:0])
	return m, nil
}

// writer is the part of hash.Hash that is used here.
type writer interface{ Write([]byte) (int, error) }

func loadPair(certFile, keyFile string, sum writer) (tls.Certificate, error) {
	certPEM, err := durable.ReadFile(durable.OS(), certFile, MaxFileBytes)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("read certificate: %w", err)
	}
	certs, err := ParseCertificates(certPEM)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("certificate file %s: %w", certFile, err)
	}
	keyPEM, err := durable.ReadPrivate(durable.OS(), keyFile, MaxFileBytes)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("read key: %w", err)
	}
	key, err := ParsePrivateKey(keyPEM)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("key file %s: %w", keyFile, err)
	}
	if err := CheckPair(certs[0], key); err != nil {
		return tls.Certificate{}, fmt.Errorf("%s and %s: %w", certFile, keyFile, err)
	}
	pair := tls.Certificate{PrivateKey: key, Leaf: certs[0]}
	for _, c := range certs {
		pair.Certificate = append(pair.Certificate, c.Raw)
	}
	sum.Write(certPEM)
	sum.Write(keyPEM)
	return pair, nil
}

func loadRoots(file string, sum writer) (*x509.CertPool, error) {
	data, err := durable.ReadFile(durable.OS(), file, MaxFileBytes)
	if err != nil {
		return nil, fmt.Errorf("read CA certificates: %w", err)
	}
	certs, err := ParseCertificates(data)
	if err != nil {
		return nil, fmt.Errorf("CA file %s: %w", file, err)
	}
	pool := x509.NewCertPool()
	for _, c := range certs {
		// Whatever is in the pool is believed. A certificate that is no authority is
		// there by mistake, and its owner would be let in for ever.
		if c.Version == 3 && !(c.BasicConstraintsValid && c.IsCA) {
			return nil, fmt.Errorf("CA file %s: %s (serial %s) is not the certificate of an authority", file, c.Subject, Serial(c))
		}
		pool.AddCert(c)
	}
	sum.Write(data)
	return pool, nil
}

// stamp tells cheaply whether a file may have changed.
type stamp struct {
	mtime time.Time
	size  int64
}

// stamps of missing files are zero.
func (f Files) stamps() []stamp {
	var list []stamp
	for _, p := range f.paths() {
		var s stamp
		if info, err := os.Stat(p); err == nil {
			s = stamp{info.ModTime(), info.Size()}
		}
		list = append(list, s)
	}
	return list
}
