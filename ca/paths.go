package ca

import "path/filepath"

// Paths are the files of the authority in a data folder.
//
//	ca/root.crt ca/root.key                    the root; the key may be kept elsewhere
//	ca/intermediate.crt ca/intermediate.key    signs all other certificates
//	certs/ca.crt                               a copy of the root, for every peer
//	certs/<name>.crt certs/<name>.key          certificates with their chain, and keys
type Paths struct {
	Dir                           string // the data folder
	Root, RootKey                 string
	Intermediate, IntermediateKey string
	// CA is the file that peers need to verify each other.
	CA string
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
	}
}

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
