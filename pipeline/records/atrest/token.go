package atrest

import (
	"crypto/cipher"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"time"
)

// ErrToken says that a token of a number is not one of this Hasher's, or has expired.
var ErrToken = errors.New("the token of a number is not valid any more")

const (
	tokenInfo  = "sealmq/records/number-token/v1"
	hashBytes  = 32
	tokenStart = 2 + 8 // key id, and expiry
)

// Token stands for a number where the number itself must not be seen, for example in an address:
// it can be searched with until a time. It is the number's hashes, encrypted, so that two tokens of
// one number are not alike, and none leads to the number.
func (h *Hasher) Token(number string, until time.Time) string {
	plain := binary.BigEndian.AppendUint64(nil, uint64(until.Unix())) //nolint:gosec // times after 1970
	for _, hash := range h.Candidates(number) {
		b, err := hex.DecodeString(hash)
		if err != nil {
			panic("atrest: internal error: " + err.Error()) // HashWith makes hexadecimal digits
		}
		plain = append(plain, b...)
	}
	id := binary.BigEndian.AppendUint16(nil, h.ring.current)
	return base64.RawURLEncoding.EncodeToString(append(id, h.tokens(h.ring.current).Seal(nil, nil, plain, id)...))
}

// Hashes are what a token stands for: hashes as Candidates returns them.
func (h *Hasher) Hashes(token string, now time.Time) (hashes []string, err error) {
	b, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(b) < tokenStart {
		return nil, ErrToken
	}
	key := binary.BigEndian.Uint16(b)
	if h.keys[key] == nil {
		return nil, ErrToken
	}
	plain, err := h.tokens(key).Open(nil, nil, b[2:], b[:2])
	if err != nil || len(plain) < 8+hashBytes || uint64(now.Unix()) > binary.BigEndian.Uint64(plain) { //nolint:gosec // times after 1970
		return nil, ErrToken
	}
	for rest := plain[8:]; len(rest) >= hashBytes; rest = rest[hashBytes:] {
		hashes = append(hashes, hex.EncodeToString(rest[:hashBytes]))
	}
	return hashes, nil
}

// tokens encrypts tokens with a key of their own.
func (h *Hasher) tokens(key uint16) cipher.AEAD {
	return aead(h.ring.keys[key].derive(nil, tokenInfo), cipher.NewGCMWithRandomNonce)
}
