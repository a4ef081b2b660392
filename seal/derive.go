package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/binary"
)

// The labels of everything that is derived. A label ends in a zero byte, so that none is
// the beginning of another.
const (
	secretLabel     = "SealMQ v1 epoch secret\x00"
	maskLabel       = "SealMQ v1 epoch mask\x00"
	commitmentLabel = "SealMQ v1 epoch commitment\x00"
	keyLabel        = "SealMQ v1 key\x00"
	dataLabel       = "SealMQ v1 data\x00"
	digestLabel     = "SealMQ v1 digest\x00"
)

// export derives from an encapsulation: under secretLabel the epoch's secret of a single
// receiver, under maskLabel what hides the secret for one of several, by exclusive or. body
// is the SHA-256 of the header's body: who puts another name over a foreign encapsulation
// gets another secret.
func export(e exporter, label string, body [32]byte) (out [32]byte, err error) {
	p, err := e.Export(label+string(body[:]), len(out))
	copy(out[:], p)
	return out, err
}

func xor(a, b [32]byte) (out [32]byte) {
	for i := range out {
		out[i] = a[i] ^ b[i]
	}
	return out
}

// commit binds a header to one secret. Without it a sender could give each receiver a
// secret of its own under one signature, and have them read different texts in the same
// ciphertext.
func commit(secret, body [32]byte) [32]byte {
	return hkdf32(secret, body[:], commitmentLabel, nil)
}

// epoch is what both ends derive messages from.
type epoch struct {
	secret [32]byte
	hash   [32]byte // SHA-256 of the header, which is also the epoch's name
	data   []byte   // the beginning of every message's additional data
	max    uint64
}

// newEpoch prepares an epoch for its messages. headerBytes is the whole header.
func newEpoch(h *header, headerBytes []byte, secret [32]byte) *epoch {
	e := &epoch{secret: secret, hash: sha256.Sum256(headerBytes), max: h.maxMessages}
	p := append([]byte(dataLabel), e.hash[:]...)
	p = append(p, formatVersion)
	p = appendPrefixed(p, string(h.kem.suite))
	p = appendPrefixed(p, h.sender)
	p = append(p, byte(len(h.slots)))
	for _, s := range h.slots {
		p = appendPrefixed(p, s.name)
	}
	e.data = p[:len(p):len(p)]
	return e
}

// appendData appends a message's additional data: what everybody may read and nobody
// may change.
func (e *epoch) appendData(dst []byte, m *message) []byte {
	dst = append(dst, e.data...)
	dst = appendPrefixed(dst, m.id)
	dst = appendPrefixed(dst, m.exchange)
	dst = appendPrefixed(dst, m.routingKey)
	dst = binary.BigEndian.AppendUint64(dst, uint64(m.sealedAt))
	return binary.BigEndian.AppendUint64(dst, m.seq)
}

// aead is the cipher of one message. Its key is used once, so its nonce is zero.
func (e *epoch) aead(salt []byte, id []byte) (cipher.AEAD, error) {
	key := hkdf32(e.secret, salt, keyLabel, id)
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

var zeroNonce [12]byte

// digestOf identifies a message by all that is protected in it. With several receivers
// it is also what the sender signs.
func digestOf(data, salt, ciphertext []byte) (sum [32]byte) {
	h := sha256.New()
	h.Write([]byte(digestLabel))
	h.Write(data)
	h.Write(salt)
	h.Write(ciphertext)
	h.Sum(sum[:0])
	return sum
}

// hkdf32 is HKDF-SHA256 (RFC 5869) with 32 bytes of output. It is written out because
// crypto/hkdf makes four hashes on the heap for it, which was a fifth of the cost of a small
// message. Both of its keys are short, and one block of output is all there is.
func hkdf32(secret [32]byte, salt []byte, label string, info []byte) [32]byte {
	key := hmac256(salt, "", secret[:], nil)
	return hmac256(key[:], label, info, []byte{1})
}

// hmac256 is HMAC-SHA256 (RFC 2104) of the parts, with a key of at most 64 bytes.
func hmac256(key []byte, label string, a, b []byte) [32]byte {
	if len(key) > sha256.BlockSize {
		panic("seal: the key is longer than its callers allow")
	}
	var pad [sha256.BlockSize]byte
	copy(pad[:], key)
	for i := range pad {
		pad[i] ^= 0x36
	}
	var room [512]byte
	p := append(append(append(append(room[:0], pad[:]...), label...), a...), b...)
	inner := sha256.Sum256(p)
	for i := range pad {
		pad[i] ^= 0x36 ^ 0x5c
	}
	p = append(append(room[:0], pad[:]...), inner[:]...)
	return sha256.Sum256(p)
}
