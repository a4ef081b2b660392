package seal

import (
	"crypto/ecdh"
	"crypto/hpke"
	"fmt"
)

// kem is the part of an HPKE suite that makes and opens epochs. Of HPKE only the
// exporter is used (RFC 9180, section 5.3), because each message has a key of its own.
type kem struct {
	suite Suite
	hpke  hpke.KEM
	enc   int  // bytes of an encapsulation
	bits  int  // as people name the key
	code  byte // in the epoch header
}

var (
	hybridKEM = &kem{suite: HPKEHybrid, hpke: hpke.MLKEM768X25519(), enc: 1088 + 32, bits: 768, code: 1}
	x25519KEM = &kem{suite: HPKEX25519, hpke: hpke.DHKEM(ecdh.X25519()), enc: 32, bits: 255, code: 2}
)

// exporter derives secrets that only the two ends of an encapsulation know.
type exporter interface {
	Export(exporterContext string, length int) ([]byte, error)
}

const hpkeInfo = "SealMQ v1 epoch\x00"

// encapsulate opens a secret channel to the holder of a key.
func (k *kem) encapsulate(to hpke.PublicKey) (enc []byte, e exporter, err error) {
	enc, sender, err := hpke.NewSender(to, hpke.HKDFSHA256(), hpke.AES256GCM(), []byte(hpkeInfo+string(k.suite)))
	if err != nil {
		return nil, nil, fmt.Errorf("encapsulate with %s: %w", k.suite, err)
	}
	return enc, sender, nil
}

// decapsulate is the other end. It fails for an encapsulation that is no point or of
// another length; one for another key leads to other secrets.
func (k *kem) decapsulate(enc []byte, key hpke.PrivateKey) (exporter, error) {
	r, err := hpke.NewRecipient(enc, key, hpke.HKDFSHA256(), hpke.AES256GCM(), []byte(hpkeInfo+string(k.suite)))
	if err != nil {
		return nil, err
	}
	return r, nil
}

type kemPublic struct {
	kem *kem
	key hpke.PublicKey
}

type kemPrivate struct {
	kem *kem
	key hpke.PrivateKey
}

func (k *kem) generate(bits int) (privateAlg, error) {
	if bits != 0 {
		return nil, fmt.Errorf("keys of suite %s have one size; leave the bits out", k.suite)
	}
	key, err := k.hpke.GenerateKey()
	if err != nil {
		return nil, fmt.Errorf("generate a key of suite %s: %w", k.suite, err)
	}
	return kemPrivate{k, key}, nil
}

func (k *kem) public(raw []byte) (publicAlg, error) {
	key, err := k.hpke.NewPublicKey(raw)
	if err != nil {
		return nil, fmt.Errorf("this is no public key of suite %s", k.suite)
	}
	// Points of low order pass as keys and fail only when something is sealed for them.
	if _, _, err := k.encapsulate(key); err != nil {
		return nil, fmt.Errorf("nothing can be sealed for this key of suite %s", k.suite)
	}
	return kemPublic{k, key}, nil
}

func (k *kem) private(raw []byte) (privateAlg, error) {
	key, err := k.hpke.NewPrivateKey(raw)
	if err != nil {
		return nil, fmt.Errorf("this is no private key of suite %s", k.suite)
	}
	return kemPrivate{k, key}, nil
}

func (k kemPublic) Bytes() []byte { return k.key.Bytes() }

func (k kemPublic) Bits() int { return k.kem.bits }

func (k kemPrivate) public() kemPublic { return kemPublic{k.kem, k.key.PublicKey()} }

func (k kemPrivate) Bytes() []byte {
	raw, err := k.key.Bytes()
	if err != nil {
		panic("seal: internal error: " + err.Error()) // only keys from hardware have no bytes
	}
	return raw
}

// kemOf is the kem of a suite, or nil.
func kemOf(s Suite) *kem { return kemWhere(func(k *kem) bool { return k.suite == s }) }

func kemWhere(f func(*kem) bool) *kem {
	for _, k := range []*kem{hybridKEM, x25519KEM} {
		if f(k) {
			return k
		}
	}
	return nil
}
