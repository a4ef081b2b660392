package seal

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"
)

// Bounds of an epoch.
const (
	// MaxReceivers bounds the receivers of one envelope.
	MaxReceivers = 32
	// MaxEpochMessages bounds the messages of an epoch.
	MaxEpochMessages = 1 << 32
	// MaxEpochAge bounds the time that an epoch is used for sealing.
	MaxEpochAge = 24 * time.Hour
	// MaxExtensions bounds the extensions of an epoch's header together.
	MaxExtensions = 4096

	formatVersion  = 1
	maxMillis      = 253402300799999 // the end of the year 9999
	maxHeaderBytes = 1<<16 - 1
)

// Extension is something more that a sender says, signed, in the header of an epoch.
// What a receiver does not know it leaves alone.
type Extension struct {
	Type  uint16
	Value []byte
}

// ExtCheckpoint is the latest checkpoint of the key directory's log that the sender saw.
const ExtCheckpoint uint16 = 1

// header opens an epoch. Its bytes, all integers big-endian:
//
//	  0    1  version, 1
//	  1    1  suite: 1 HPKEHybrid, 2 HPKEX25519
//	  2    2  signature scheme
//	  4    8  created, milliseconds since 1970
//	 12    8  not after, the same
//	 20    8  most messages
//	 28   32  SHA-256 of the header of the sender's epoch before, or zeros
//	 60    8  messages that were sealed in that one
//	 68   32  SHA-256 of the certificate chain
//	100  2+n  sender
//	       1  number of receivers, and for each
//	     2+n    name
//	      16    key id
//	       e    encapsulation, 1120 or 32 bytes by the suite
//	     2+n  extensions, each: type (2), value (2+n); types ascend
//	          so far the body, whose SHA-256 goes into the derivation of the secret
//	  n × 32  the secret, masked for each receiver; only if there is more than one
//	      32  commitment to the secret
type header struct {
	suite         Suite
	scheme        Scheme
	created       int64 // milliseconds since 1970
	notAfter      int64
	maxMessages   uint64
	previous      [32]byte
	previousCount uint64
	chain         [32]byte
	sender        string
	slots         []slot
	extensions    []Extension
	commitment    [32]byte
}

// slot is one receiver's part of a header.
type slot struct {
	name   string
	key    keyID
	enc    []byte
	masked []byte // nil if there is one receiver
}

// appendBody encodes all that is known before the secret is.
func (h *header) appendBody(dst []byte) []byte {
	dst = append(dst, formatVersion, kemOf(h.suite).code)
	dst = binary.BigEndian.AppendUint16(dst, uint16(h.scheme))
	dst = binary.BigEndian.AppendUint64(dst, uint64(h.created))
	dst = binary.BigEndian.AppendUint64(dst, uint64(h.notAfter))
	dst = binary.BigEndian.AppendUint64(dst, h.maxMessages)
	dst = append(dst, h.previous[:]...)
	dst = binary.BigEndian.AppendUint64(dst, h.previousCount)
	dst = append(dst, h.chain[:]...)
	dst = appendPrefixed(dst, h.sender)
	dst = append(dst, byte(len(h.slots)))
	for _, s := range h.slots {
		dst = appendPrefixed(dst, s.name)
		dst = append(dst, s.key[:]...)
		dst = append(dst, s.enc...)
	}
	return appendPrefixed(dst, encodeExtensions(h.extensions))
}

// appendRest encodes what follows the body.
func (h *header) appendRest(dst []byte) []byte {
	if len(h.slots) > 1 {
		for _, s := range h.slots {
			dst = append(dst, s.masked...)
		}
	}
	return append(dst, h.commitment[:]...)
}

func encodeExtensions(list []Extension) (p []byte) {
	for _, x := range list {
		p = binary.BigEndian.AppendUint16(p, x.Type)
		p = appendPrefixed(p, x.Value)
	}
	return p
}

// parseHeader reads a header and returns the SHA-256 of its body with it. What it
// returns is well formed and within the format's bounds, and is not authentic.
func parseHeader(p []byte) (*header, [32]byte, error) {
	var body [32]byte
	if len(p) > 0 && p[0] != formatVersion {
		return nil, body, refuse(ErrVersion, "install a newer SealMQ", "it is of version %d, and version %d is known here", p[0], formatVersion)
	}
	r := reader{p}
	h := new(header)
	if err := h.parseFixed(&r); err != nil {
		return nil, body, err
	}
	if err := h.parseSlots(&r); err != nil {
		return nil, body, err
	}
	if err := h.parseExtensions(&r); err != nil {
		return nil, body, err
	}
	body = sha256.Sum256(p[:len(p)-len(r.p)])
	if len(h.slots) > 1 {
		for i := range h.slots {
			masked, ok := r.take(32)
			if !ok {
				return nil, body, errHeaderCut
			}
			h.slots[i].masked = masked
		}
	}
	commitment, ok := r.take(32)
	if !ok {
		return nil, body, errHeaderCut
	}
	copy(h.commitment[:], commitment)
	if len(r.p) > 0 {
		return nil, body, malformed("something follows the epoch's header")
	}
	return h, body, nil
}

var errHeaderCut = malformed("the epoch's header is cut")

func (h *header) parseFixed(r *reader) error {
	fixed, ok := r.take(100)
	if !ok {
		return errHeaderCut
	}
	for _, kem := range []*kem{hybridKEM, x25519KEM} {
		if kem.code == fixed[1] {
			h.suite = kem.suite
		}
	}
	if h.suite == "" {
		return refuse(ErrSuite, "install a newer SealMQ", "the epoch is of a suite with number %d, which is not known here", fixed[1])
	}
	h.scheme = Scheme(binary.BigEndian.Uint16(fixed[2:]))
	created, notAfter := binary.BigEndian.Uint64(fixed[4:]), binary.BigEndian.Uint64(fixed[12:])
	if created > maxMillis || notAfter > maxMillis {
		return malformed("the epoch's times are after the year 9999")
	}
	h.created, h.notAfter = int64(created), int64(notAfter)
	h.maxMessages = binary.BigEndian.Uint64(fixed[20:])
	copy(h.previous[:], fixed[28:])
	h.previousCount = binary.BigEndian.Uint64(fixed[60:])
	copy(h.chain[:], fixed[68:])
	if h.previous == [32]byte{} && h.previousCount != 0 {
		return malformed("the epoch counts the messages of no epoch before it")
	}
	if h.previousCount > MaxEpochMessages {
		return refuse(ErrEpoch, "", "it follows one of %d messages, and %d are allowed", h.previousCount, uint64(MaxEpochMessages))
	}
	if h.notAfter < h.created || h.notAfter-h.created > MaxEpochAge.Milliseconds() {
		return refuse(ErrEpoch, "", "it lasts %d ms, and %d are allowed", h.notAfter-h.created, MaxEpochAge.Milliseconds())
	}
	if h.maxMessages == 0 || h.maxMessages > MaxEpochMessages {
		return refuse(ErrEpoch, "", "it has room for %d messages, and %d are allowed", h.maxMessages, uint64(MaxEpochMessages))
	}
	return nil
}

func (h *header) parseSlots(r *reader) error {
	sender, ok := r.prefixed()
	if !ok {
		return errHeaderCut
	}
	h.sender = string(sender)
	if err := checkText("sender", h.sender); err != nil {
		return &Error{Kind: ErrMalformed, Err: err}
	}
	n, ok := r.uint8()
	if !ok || n == 0 || n > MaxReceivers {
		return malformed("the epoch has %d receivers, and 1 to %d are allowed", n, MaxReceivers)
	}
	h.slots = make([]slot, n)
	for i := range h.slots {
		name, ok1 := r.prefixed()
		key, ok2 := r.take(len(keyID{}))
		enc, ok3 := r.take(kemOf(h.suite).enc)
		if !ok1 || !ok2 || !ok3 {
			return errHeaderCut
		}
		h.slots[i] = slot{name: string(name), key: keyID(key), enc: enc}
		if err := checkText("receiver", h.slots[i].name); err != nil {
			return &Error{Kind: ErrMalformed, Err: err}
		}
	}
	if err := distinct(h.slots); err != nil {
		return &Error{Kind: ErrMalformed, Err: err}
	}
	return nil
}

// distinct refuses a receiver or a key that is there twice.
func distinct(slots []slot) error {
	for i, a := range slots {
		for _, b := range slots[:i] {
			if a.name == b.name {
				return fmt.Errorf("the receiver %q is there twice", a.name)
			}
			if a.key == b.key {
				return fmt.Errorf("the receivers %q and %q have the same key", b.name, a.name)
			}
		}
	}
	return nil
}

func (h *header) parseExtensions(r *reader) error {
	list, ok := r.prefixed()
	if !ok {
		return errHeaderCut
	}
	if len(list) > MaxExtensions {
		return malformed("the epoch's extensions have %d bytes, and %d are allowed", len(list), MaxExtensions)
	}
	e := reader{list}
	for last := -1; len(e.p) > 0; {
		kind, ok1 := e.uint16()
		value, ok2 := e.prefixed()
		if !ok1 || !ok2 {
			return malformed("the epoch's extensions are cut")
		}
		if int(kind) <= last {
			return malformed("the epoch's extensions are not in order")
		}
		last = int(kind)
		h.extensions = append(h.extensions, Extension{Type: kind, Value: value})
	}
	return nil
}
