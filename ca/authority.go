package ca

import (
	"bytes"
	"cmp"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/clock"
	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/mtls"
)

// How long certificates last. No certificate outlives the authority above it.
const (
	rootYears         = 20
	intermediateYears = 15
	// DefaultDays is the life of an issued certificate.
	DefaultDays = 365
	// MaxDays bounds Request.Days.
	MaxDays = 3650
	// MinValid is the shortest life of a certificate.
	MinValid = 10 * time.Second
	// DefaultRenewFor is how long after a person has decided on it a certificate and its
	// successors may be renewed by their holder.
	DefaultRenewFor = 3 * 365 * 24 * time.Hour
)

// maxFileBytes bounds every file that this package reads.
const maxFileBytes = 1 << 20

// Options say how the authority works. The zero value is right for a new one.
type Options struct {
	// FS is where the files are; nil is the operating system's file system.
	FS durable.FS
	// Clock is the time; nil is the system's.
	Clock clock.Clock
	// KeyType is the type of new keys; empty is ECDSA.
	KeyType KeyType
	// RootPassphrase returns the passphrase of the root's key. It is called when the key has
	// one and is needed; nil is an error then.
	RootPassphrase func() ([]byte, error)
	// ProtectRoot, if not nil, returns a passphrase for a root's key that has none.
	ProtectRoot func() ([]byte, error)
	// Lists are files of revocations besides the authority's own. Where a name that they
	// revoke gets a new certificate, they are changed. Nil is Paths.Revoked and revoked.txt
	// in the data folder.
	Lists []string
	// Roles are roles besides server and admin that Setup makes a certificate for, named
	// like the role.
	Roles []sealmq.Role
	// KeyElsewhere lets Open and Setup succeed although the intermediate's key is not there.
	// What needs the key then returns ErrNoKey; everything else works.
	KeyElsewhere bool
}

// ErrNoKey says that a certificate or a CRL cannot be signed, because the authority's key is
// not here.
var ErrNoKey = errors.New("the authority's key is not here")

func (o Options) normalize() Options {
	o.FS = cmp.Or(o.FS, durable.OS())
	o.Clock = cmp.Or(o.Clock, clock.System)
	o.KeyType = cmp.Or(o.KeyType, ECDSA)
	return o
}

// Authority issues certificates with its intermediate. It is safe for concurrent use.
type Authority struct {
	paths   Paths
	options Options

	root, intermediate *x509.Certificate // intermediate may be nil
	key                crypto.Signer     // of intermediate

	newRoot crypto.Signer // the root's key, if it was made by this call

	mu      sync.Mutex // guards history
	history history
}

// Root is the certificate that peers trust.
func (a *Authority) Root() *x509.Certificate { return a.root }

// Intermediate is the certificate that signs the others. It is nil below an imported root
// that allows none: then the root signs itself.
func (a *Authority) Intermediate() *x509.Certificate { return a.intermediate }

// HasKey reports whether the key that signs was there when the authority was opened.
func (a *Authority) HasKey() bool {
	if a.isDirect() {
		f, err := a.options.FS.OpenFile(a.paths.RootKey, os.O_RDONLY, 0)
		if err != nil {
			return false
		}
		f.Close()
		return true
	}
	return a.key != nil
}

// Paths are the authority's files.
func (a *Authority) Paths() Paths { return a.paths }

// hintError is an error with what its reader can do about it.
type hintError struct{ text, hint string }

func (e *hintError) Error() string { return e.text }
func (e *hintError) Hint() string  { return e.hint }

// Open reads the authority in a data folder. It changes nothing, and fails if a file
// is missing, does not fit the others, or is a key that other users can read.
func Open(dir string, o Options) (*Authority, error) {
	a := &Authority{paths: In(dir), options: o.normalize()}
	root, err := a.readCert(a.paths.Root)
	if durable.IsNotExist(err) {
		return nil, &hintError{fmt.Sprintf("there is no authority in the data folder %q", dir),
			`run "sealmq init", or name the data folder with --data`}
	}
	if err != nil {
		return nil, err
	}
	a.root = root
	if a.options.Lists == nil {
		a.options.Lists = a.paths.lists()
	}
	if !a.isDirect() {
		if a.intermediate, err = a.readCert(a.paths.Intermediate); err != nil {
			return nil, err
		}
		a.key, err = a.readKey(a.paths.IntermediateKey)
		if err != nil && !(a.options.KeyElsewhere && durable.IsNotExist(err)) {
			return nil, err
		}
	}
	return a, a.check()
}

// check returns an error if the parts do not belong together.
func (a *Authority) check() error {
	// Nobody else looks at a root's own signature, which shows that not a bit of it is another one.
	if r := a.root; bytes.Equal(r.RawSubject, r.RawIssuer) || len(r.AuthorityKeyId) == 0 || bytes.Equal(r.SubjectKeyId, r.AuthorityKeyId) {
		err := a.root.CheckSignature(a.root.SignatureAlgorithm, a.root.RawTBSCertificate, a.root.Signature)
		if _, old := errors.AsType[x509.InsecureAlgorithmError](err); err != nil && !old {
			return &mtls.FileError{What: "certificate file", Path: a.paths.Root, Err: fmt.Errorf("its signature is not its own: %w", err)}
		}
	}
	if a.isDirect() {
		return nil
	}
	if a.key == nil && a.options.KeyElsewhere {
		return nil
	}
	if err := mtls.CheckPair(a.intermediate, a.key); err != nil {
		return &mtls.FileError{What: a.paths.Intermediate + " and", Path: a.paths.IntermediateKey, Err: err}
	}
	opts := x509.VerifyOptions{
		Roots:       mtls.Pool(a.root),
		CurrentTime: a.options.Clock.Now(),
		KeyUsages:   []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	}
	if _, err := a.intermediate.Verify(opts); err != nil {
		return &mtls.FileError{What: "certificate file", Path: a.paths.Intermediate, Err: fmt.Errorf("it is not valid below %s: %w", a.paths.Root, err)}
	}
	return nil
}

// lock takes the lock of the folder and reads what other processes have added.
func (a *Authority) lock() (unlock func(), err error) {
	release, err := lockFolder(a.paths.Dir, a.options)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	unlock = func() {
		a.mu.Unlock()
		_ = release()
	}
	if err := a.readHistory(); err != nil {
		unlock()
		return nil, err
	}
	return unlock, nil
}

// readHistory reads what was issued. The caller holds the folder's lock.
func (a *Authority) readHistory() error {
	if err := a.history.refresh(a.options.FS, a.paths.Issued); err != nil {
		return err
	}
	return a.history.checkCount(a.options.FS, a.paths.Issued)
}

// lockFolder makes the folders and takes their lock. It waits while another process holds
// the lock.
func lockFolder(dir string, o Options) (unlock func() error, err error) {
	p := In(dir)
	for _, d := range []string{filepath.Dir(p.Root), p.Certs()} {
		if err := durable.MkdirAll(o.FS, d, 0o700); err != nil {
			return nil, err
		}
	}
	deadline := time.Now().Add(lockWait)
	for {
		unlock, err := o.FS.Lock(filepath.Dir(p.Root))
		if !errors.Is(err, durable.ErrLocked) || time.Now().After(deadline) {
			return unlock, err
		}
		time.Sleep(lockPause)
	}
}

// Lock keeps everybody from changing the authority in a data folder, so that its files can be
// copied. It waits a while for its turn.
func Lock(dir string) (unlock func() error, err error) {
	return lockFolder(dir, Options{}.normalize())
}

// How long a process waits for the lock. Its holder only makes a few keys.
const (
	lockWait  = 10 * time.Second
	lockPause = 20 * time.Millisecond
)

// complete completes the authority in a data folder, as Setup promises, and lists the files that
// it made. The caller holds the folder's lock.
func complete(dir string, o Options) (*Authority, []string, error) {
	a := &Authority{paths: In(dir), options: o}
	m := &maker{fs: o.FS}

	if err := a.ensureRoot(m); err != nil {
		return nil, nil, err
	}
	if o.Lists == nil {
		a.options.Lists = a.paths.lists()
	}
	if err := a.ensureIntermediate(m); err != nil {
		return nil, nil, err
	}
	if err := a.check(); err != nil {
		return nil, nil, err
	}
	if err := a.readHistory(); err != nil {
		return nil, nil, err
	}
	roots, err := a.readChain(a.paths.Root)
	if err != nil {
		return nil, nil, err
	}
	if err := m.ensureContent(a.paths.CA, mtls.EncodeCertificates(roots...), 0o644); err != nil {
		return nil, nil, err
	}
	return a, m.made, nil
}

func missingKey(path string) error {
	return &hintError{path + " does not exist, but its certificate does",
		"restore the key from a backup, or delete the certificate to make both again"}
}

// ensureRoot reads the root, or makes it. Its key may be kept elsewhere.
func (a *Authority) ensureRoot(m *maker) error {
	root, err := a.readCert(a.paths.Root)
	if err == nil {
		a.root = root
		return a.checkRootKey()
	}
	if !durable.IsNotExist(err) {
		return err
	}
	// Files that were copied from a node with the authority must not be replaced by a new one's.
	if _, err := a.readCert(a.paths.CA); !durable.IsNotExist(err) {
		return &hintError{a.paths.Root + " does not exist, but " + a.paths.CA + " does",
			"if the folder is for a role on another host, copy ca/root.crt and ca/intermediate.crt too; to make a new authority, remove certs/ca.crt"}
	}
	key, err := a.newRootKey(m)
	if err != nil {
		return err
	}
	template := a.authorityTemplate(RootName, key, rootYears, 1)
	if a.root, err = sign(template, template, key.Public(), key); err != nil {
		return fmt.Errorf("make root certificate: %w", err)
	}
	a.newRoot = key
	return m.write(a.paths.Root, mtls.EncodeCertificates(a.root), 0o644)
}

func (a *Authority) ensureIntermediate(m *maker) error {
	if a.isDirect() {
		return nil
	}
	key, err := a.readKey(a.paths.IntermediateKey)
	if err != nil && !durable.IsNotExist(err) {
		return err
	}
	a.intermediate, err = a.readCert(a.paths.Intermediate)
	switch {
	case err == nil && key != nil:
		a.key = key
		return nil
	case err == nil && a.options.KeyElsewhere:
		return nil
	case err == nil:
		return missingKey(a.paths.IntermediateKey)
	case !durable.IsNotExist(err):
		return err
	}
	rootKey := a.newRoot
	if rootKey == nil {
		if rootKey, err = a.rootKey("to make an intermediate certificate"); err != nil {
			return err
		}
	}
	if key == nil {
		if key, err = m.newKey(a.paths.IntermediateKey, a.options.KeyType); err != nil {
			return err
		}
	}
	a.key = key
	template := a.authorityTemplate("SealMQ Issuer", key, intermediateYears, 0)
	if template.NotAfter.After(a.root.NotAfter) {
		template.NotAfter = a.root.NotAfter
	}
	if a.intermediate, err = sign(template, a.root, key.Public(), rootKey); err != nil {
		return fmt.Errorf("make intermediate certificate: %w", err)
	}
	if err := a.check(); err != nil {
		return err
	}
	return m.write(a.paths.Intermediate, mtls.EncodeCertificates(a.intermediate), 0o644)
}

// RootName is how the common name of every root begins.
const RootName = "SealMQ Root"

// authorityTemplate is a certificate that may sign others, with at most pathLen
// authorities below it. Its name ends in a part of the key's hash, so that two authorities
// never share a name.
func (a *Authority) authorityTemplate(name string, key crypto.Signer, years, pathLen int) *x509.Certificate {
	now := a.options.Clock.Now()
	id := keyID(key.Public())
	return &x509.Certificate{
		Subject:               pkix.Name{CommonName: name + " " + hex.EncodeToString(id[:4])},
		NotBefore:             now.Add(-mtls.Backdate),
		NotAfter:              now.AddDate(years, 0, 0),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLen:            pathLen,
		MaxPathLenZero:        pathLen == 0,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		SubjectKeyId:          id,
	}
}

func (a *Authority) readCert(path string) (*x509.Certificate, error) {
	chain, err := a.readChain(path)
	if err != nil {
		return nil, err
	}
	return chain[0], nil
}

func (a *Authority) readChain(path string) ([]*x509.Certificate, error) {
	data, err := durable.ReadFile(a.options.FS, path, maxFileBytes)
	if err != nil {
		return nil, err
	}
	certs, err := mtls.ParseCertificates(data)
	if err != nil {
		return nil, &mtls.FileError{What: "certificate file", Path: path, Err: err}
	}
	return certs, nil
}

// readKeyOf reads the key of a certificate.
func (a *Authority) readKeyOf(cert *x509.Certificate, certFile, path string) (crypto.Signer, error) {
	data, err := durable.ReadPrivate(a.options.FS, path, maxFileBytes)
	if err != nil {
		return nil, err
	}
	key, err := mtls.ParseKeyOf(cert, data)
	if err != nil {
		return nil, &mtls.FileError{What: certFile + " and", Path: path, Err: err}
	}
	return key, nil
}

func (a *Authority) readKey(path string) (crypto.Signer, error) {
	data, err := durable.ReadPrivate(a.options.FS, path, maxFileBytes)
	if err != nil {
		return nil, err
	}
	key, err := mtls.ParsePrivateKey(data)
	if err != nil {
		return nil, &mtls.FileError{What: "key file", Path: path, Err: err}
	}
	return key, nil
}
