package pipeline

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"time"
)

// IDKeyBytes is the size of the key of an IDMaker.
const IDKeyBytes = 32

// NewMessageID makes the id of a message that its client gave no key: a UUID version 7
// (RFC 9562, section 5.7) of the given time.
func NewMessageID(now time.Time) string {
	var u [16]byte
	binary.BigEndian.PutUint64(u[:8], uint64(now.UnixMilli())<<16)
	rand.Read(u[6:])
	return formatUUID(u, 7)
}

// MessageIDFor makes the id of a message with a key of its client: a UUID version 8 (RFC
// 9562, section 5.8) from a keyed hash of both. The same client and key give the same id
// at every proxy that has the same secret, and nobody without it can guess the id and take
// it first.
func MessageIDFor(secret []byte, clientID, clientKey string) string {
	h := hmac.New(sha256.New, secret)
	var n [4]byte
	binary.BigEndian.PutUint32(n[:], uint32(len(clientID)))
	h.Write(n[:])
	h.Write([]byte(clientID))
	h.Write([]byte(clientKey))
	return formatUUID([16]byte(h.Sum(nil)), 8)
}

func formatUUID(u [16]byte, version byte) string {
	u[6] = version<<4 | u[6]&0x0f
	u[8] = 0x80 | u[8]&0x3f
	var b [36]byte
	hex.Encode(b[0:8], u[0:4])
	hex.Encode(b[9:13], u[4:6])
	hex.Encode(b[14:18], u[6:8])
	hex.Encode(b[19:23], u[8:10])
	hex.Encode(b[24:36], u[10:16])
	b[8], b[13], b[18], b[23] = '-', '-', '-', '-'
	return string(b[:])
}

// DigestOf is the Digest of an item: a keyed hash of everything that its client decided.
func DigestOf(secret []byte, it *Item, c *Content) []byte {
	b := make([]byte, 0, 512)
	for _, part := range [...]string{it.ClientID, it.Domain, c.SenderNumber, c.MessageBody} {
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(part))), part...)
	}
	b = append(binary.BigEndian.AppendUint32(b, uint32(len(c.Metadata))), c.Metadata...)
	h := hmac.New(sha256.New, secret)
	h.Write(b)
	return h.Sum(nil)[:16]
}
