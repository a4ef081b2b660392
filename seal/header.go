package seal

import (
	"cmp"
	"crypto/sha256"
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
	kem           *kem
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

// body is all that is known before the secret is. It refuses what breaks the format's
// bounds, also in a header that is written.
func (h *header) body(f *fields) error {
	version, code, receivers := byte(formatVersion), byte(0), byte(len(h.slots))
	if h.kem != nil {
		code = h.kem.code
	}
	integer(f, &version, 1)
	integer(f, &code, 1)
	integer(f, &h.scheme, 2)
	integer(f, &h.created, 8)
	integer(f, &h.notAfter, 8)
	integer(f, &h.maxMessages, 8)
	f.array(h.previous[:])
	integer(f, &h.previousCount, 8)
	f.array(h.chain[:])
	if f.cut {
		return errHeaderCut
	}
	if h.kem = kemWhere(func(k *kem) bool { return k.code == code }); h.kem == nil {
		return refuse(ErrSuite, "install a newer SealMQ", "the epoch is of a suite with number %d, which is not known here", code)
	}
	if err := h.checkBounds(); err != nil {
		return err
	}
	prefixed(f, &h.sender)
	integer(f, &receivers, 1)
	if f.cut {
		return errHeaderCut
	}
	if receivers == 0 || receivers > MaxReceivers {
		return malformed("the epoch has %d receivers, and 1 to %d are allowed", receivers, MaxReceivers)
	}
	if f.reading {
		h.slots = make([]slot, receivers)
	}
	for i := range h.slots {
		s := &h.slots[i]
		prefixed(f, &s.name)
		f.array(s.key[:])
		f.bytes(&s.enc, h.kem.enc)
	}
	if err := h.extensionFields(f); err != nil {
		return err
	}
	return h.checkNames()
}

// rest is what follows the body.
func (h *header) rest(f *fields) {
	if len(h.slots) > 1 {
		for i := range h.slots {
			f.bytes(&h.slots[i].masked, len(h.commitment))
		}
	}
	f.array(h.commitment[:])
}

func (h *header) extensionFields(f *fields) error {
	var list fields
	for i := range h.extensions {
		h.extensions[i].fields(&list)
	}
	if prefixed(f, &list.p); f.cut {
		return errHeaderCut
	}
	if f.reading {
		list.reading = true
		for len(list.p) > 0 {
			var x Extension
			x.fields(&list)
			h.extensions = append(h.extensions, x)
		}
		if list.cut {
			return malformed("the epoch's extensions are cut")
		}
	}
	size, last := 0, -1
	for _, x := range h.extensions {
		if int(x.Type) <= last {
			return malformed("the extensions of an epoch are ordered by their type, each once")
		}
		last = int(x.Type)
		size += 4 + len(x.Value)
	}
	if size > MaxExtensions {
		return malformed("the epoch's extensions have %d bytes, and %d are allowed", size, MaxExtensions)
	}
	return nil
}

func (x *Extension) fields(f *fields) {
	integer(f, &x.Type, 2)
	prefixed(f, &x.Value)
}

// parseHeader reads a header and returns the SHA-256 of its body with it. What it
// returns is well formed and within the format's bounds, and is not authentic.
func parseHeader(p []byte) (h *header, body [32]byte, err error) {
	if len(p) > 0 && p[0] != formatVersion {
		return nil, body, refuse(ErrVersion, "install a newer SealMQ", "it is of version %d, and version %d is known here", p[0], formatVersion)
	}
	f := fields{p: p, reading: true}
	h = new(header)
	if err := h.body(&f); err != nil {
		return nil, body, err
	}
	body = sha256.Sum256(p[:len(p)-len(f.p)])
	h.rest(&f)
	return h, body, f.end("the epoch's header")
}

var errHeaderCut = malformed("the epoch's header is cut")

func (h *header) checkBounds() error {
	switch age := h.notAfter - h.created; {
	case uint64(h.created) > maxMillis || uint64(h.notAfter) > maxMillis:
		return malformed("the epoch's times are after the year 9999")
	case h.previous == [32]byte{} && h.previousCount != 0:
		return malformed("the epoch counts the messages of no epoch before it")
	case h.previousCount > MaxEpochMessages:
		return refuse(ErrEpoch, "", "it follows one of %d messages, and %d are allowed", h.previousCount, uint64(MaxEpochMessages))
	case age < 0 || age > MaxEpochAge.Milliseconds():
		return refuse(ErrEpoch, "", "it lasts %d ms, and %d are allowed", age, MaxEpochAge.Milliseconds())
	case h.maxMessages == 0 || h.maxMessages > MaxEpochMessages:
		return refuse(ErrEpoch, "", "it has room for %d messages, and %d are allowed", h.maxMessages, uint64(MaxEpochMessages))
	}
	return nil
}

func (h *header) checkNames() error {
	err := checkText("sender", h.sender)
	for _, s := range h.slots {
		err = cmp.Or(err, checkText("receiver", s.name))
	}
	if err = cmp.Or(err, distinct(h.slots)); err != nil {
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
