package ciphermq

import "github.com/sealmq/sealmq/seal"

// SealWith seals for an RSA key with a chosen content key and nonce.
func SealWith(k seal.LegacyPublicKey, id string, plaintext, contentKey, nonce []byte) ([]byte, error) {
	return k.(rsaPublic).sealWith(id, plaintext, contentKey, nonce)
}

// Sealed boxes of both types.
var (
	SealBoxA = sealBoxA
	SealBoxB = sealBoxB
	OpenBoxA = openBoxA
	OpenBoxB = openBoxB
)

// JSON prints the envelope byte for byte as CipherMQ's own sender does, for every
// generation but G6, which writes the members of G5 in another order.
func (e *Envelope) JSON() []byte {
	if e.Tag == nil && e.Receiver != "" && e.RoutingKey == "" {
		return e.print(G5)
	}
	return e.print(G4) // G2 and G3 are the same with less
}
