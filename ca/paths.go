package ca

import (
	"crypto/x509"
	"path/filepath"
	"strings"

	"github.com/sealmq/sealmq/mtls"
)

// Paths are the files of the authority in a data folder.
//
//	ca/root.crt ca/root.key                    the root; the key may be kept elsewhere. Behind the
//	                                           root there may be others that are trusted like it
//	ca/intermediate.crt ca/intermediate.key    signs all other certificates
//	certs/ca.crt                               a copy of root.crt, for every peer
//	certs/<name>.crt certs/<name>.key          certificates with their chain, and keys
//	ca/issued.jsonl                            what was issued
//	ca/issued.count                            how many lines that has
//	ca/revocations.jsonl                       what was revoked, and the numbers of CRLs
//	<dir>.revocations-<id>.jsonl               a copy of it beside the data folder
//	crl/crl.pem                                the same as a CRL of X.509
//	crl/revoked.pem                            revocations by people and scripts
type Paths struct {
	Dir                           string // the data folder
	Root, RootKey                 string
	Intermediate, IntermediateKey string
	// CA is the file that peers need to verify each other.
	CA string
	// Issued and Revocations are records.
	Issued, Revocations string
	// CRL and RootCRL are the revocations of the intermediate and of the root as CRLs.
	CRL, RootCRL string
	// Revoked is a file for people and scripts, which is only read.
	Revoked string
}

// In returns the paths in a data folder.
func In(dir string) Paths {
	return Paths{
		Dir:             dir,
		Root:            filepath.Join(dir, "ca", "root.crt"),
		RootKey:         filepath.Join(dir, "ca", "root.key"),
		Intermediate:    filepath.Join(dir, "ca", "intermediate.crt"),
		IntermediateKey: filepath.Join(dir, "ca", "intermediate.key"),
		CA:              filepath.Join(dir, "certs", "ca.crt"),
		Issued:          filepath.Join(dir, "ca", "issued.jsonl"),
		Revocations:     filepath.Join(dir, "ca", "revocations.jsonl"),
		CRL:             filepath.Join(dir, "crl", "crl.pem"),
		RootCRL:         filepath.Join(dir, "crl", "root.pem"),
		Revoked:         filepath.Join(dir, "crl", "revoked.pem"),
	}
}

// lists are the files of revocations that people and scripts write.
func (p Paths) lists() []string { return []string{p.Revoked, filepath.Join(p.Dir, "revoked.txt")} }

// The names of the certificates that Setup makes and renews.
const (
	ServerName = "server"
	AdminName  = "admin"
)

// Certs is the folder of issued certificates.
func (p Paths) Certs() string { return filepath.Join(p.Dir, "certs") }

// Cert is the file of an issued certificate.
func (p Paths) Cert(name string) string { return filepath.Join(p.Certs(), name+".crt") }

// Key is the file of its key.
func (p Paths) Key(name string) string { return filepath.Join(p.Certs(), name+".key") }

// revocationsCopy is the copy of Revocations beside the data folder: restoring the folder
// takes no revocation back. Its name has a part of the root's key, because another authority
// may follow in the same folder. It is "" if nothing can be beside the folder.
func (p Paths) revocationsCopy(root *x509.Certificate) string {
	dir := filepath.Clean(p.Dir)
	if abs, err := filepath.Abs(dir); err == nil && (dir == "." || strings.HasSuffix(dir, "..")) {
		dir = abs
	}
	if filepath.Dir(dir) == dir {
		return ""
	}
	id := strings.TrimPrefix(mtls.Issuer(root), "sha256:")
	return dir + ".revocations-" + id[:12] + ".jsonl"
}
