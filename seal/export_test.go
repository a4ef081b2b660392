package seal

// SealWith seals with a chosen content key and nonce, for the published vectors.
func SealWith(k *PublicKey, id string, plaintext, contentKey, nonce []byte) ([]byte, error) {
	return k.alg.(rsaPublic).sealWith(id, plaintext, contentKey, nonce)
}
