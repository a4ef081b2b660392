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
