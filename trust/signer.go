package trust

import (
	"github.com/sealmq/sealmq/mtls"
	"github.com/sealmq/sealmq/seal"
)

// ReadSigner returns a signer for the owner of a certificate. name is the name that its
// owner has as a connection.
func ReadSigner(files mtls.Files, name string) (*seal.Signer, error) {
	certs, key, err := mtls.ReadPair(files)
	if err != nil {
		return nil, err
	}
	chain := make([][]byte, len(certs))
	for i, c := range certs {
		chain[i] = c.Raw
	}
	return seal.NewSigner(name, chain, key)
}
