package atrest

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"slices"
)

// OldHash is the key id of numbers that were hashed with a salt and no key.
const OldHash uint16 = 0

const numberInfo = "sealmq/records/number/v1"

// Hasher turns a number into a value that can be searched for, and from which the number
// cannot be found without the key. It may be used by several goroutines.
type Hasher struct {
	ring  *Ring
	keys  map[uint16][]byte
	order []uint16 // in which to search: the current key, then the others, newest first
	salt  *string
}

// NewHasher makes a hasher from the ring of its own key files. If oldSalt is not nil, numbers
// that the earlier implementation hashed with that salt are found too.
func NewHasher(r *Ring, oldSalt *string) *Hasher {
	h := &Hasher{ring: r, keys: make(map[uint16][]byte), salt: oldSalt}
	for version, k := range r.keys {
		h.keys[version] = k.derive(nil, numberInfo)
	}
	h.order = r.Versions()
	slices.Reverse(h.order)
	h.order = slices.DeleteFunc(h.order, func(v uint16) bool { return v == r.current })
	h.order = slices.Insert(h.order, 0, r.current)
	return h
}

// Equal reports whether two hashers have the same keys and the same salt.
func (h *Hasher) Equal(other *Hasher) bool {
	sameSalt := h.salt == other.salt || h.salt != nil && other.salt != nil && *h.salt == *other.salt
	return sameSalt && h.ring.Equal(other.ring)
}

// Current is the id of the key for new rows.
func (h *Hasher) Current() uint16 { return h.ring.current }

// Versions are the ids that have a key, ascending.
func (h *Hasher) Versions() []uint16 { return h.ring.Versions() }

// Fingerprint is Ring.Fingerprint.
func (h *Hasher) Fingerprint(key uint16) string { return h.ring.Fingerprint(key) }

// Hash hashes a number for a new row: 64 hexadecimal digits, and the id of the key.
func (h *Hasher) Hash(number string) (hash string, key uint16) {
	hash, _ = h.HashWith(h.ring.current, number)
	return hash, h.ring.current
}

// HashWith hashes a number with the key of an id, which may not be there.
func (h *Hasher) HashWith(key uint16, number string) (hash string, ok bool) {
	if key == OldHash {
		if h.salt == nil {
			return "", false
		}
		sum := sha256.Sum256([]byte(*h.salt + number))
		return hex.EncodeToString(sum[:]), true
	}
	secret, ok := h.keys[key]
	if !ok {
		return "", false
	}
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(number))
	return hex.EncodeToString(mac.Sum(nil)), true
}

// Candidates are the hashes that a number can have in the database, the most likely first.
func (h *Hasher) Candidates(number string) (hashes []string) {
	for _, key := range append(slices.Clone(h.order), OldHash) {
		if hash, ok := h.HashWith(key, number); ok {
			hashes = append(hashes, hash)
		}
	}
	return hashes
}

// Mask makes a number fit for display. Most of its digits are replaced.
func Mask(number string) string {
	r := []rune(number)
	switch {
	case len(r) < 6:
		return "****"
	case len(r) <= 8:
		return string(r[:3]) + "****" + string(r[len(r)-2:])
	}
	return string(r[:4]) + "****" + string(r[len(r)-4:])
}

// MaskHash stands for a number that is not stored.
func MaskHash(hash string) string { return "hash:" + hash[:min(8, len(hash))] }
