package seal

import (
	"crypto"
	"crypto/hpke"
	"io"
)

// SetRandom gives a Sealer its randomness: salts, and the secret of an epoch with several
// receivers; with legacy suites whatever they draw.
func (s *Sealer) SetRandom(r io.Reader) { s.random = r }

// SetEncapsulation fixes the encapsulations for receivers whose private keys are known.
func (s *Sealer) SetEncapsulation(enc map[string][]byte, keys map[string]*PrivateKey) {
	s.encapsulate = func(r Receiver) ([]byte, exporter, error) {
		key := keys[r.Name].alg.(kemPrivate)
		e, err := key.kem.decapsulate(enc[r.Name], key.key)
		return enc[r.Name], e, err
	}
}

// Deterministic makes ECDSA signatures the same each time (RFC 6979).
func (s *Signer) Deterministic() *Signer {
	s.key = deterministic{s.key}
	return s
}

type deterministic struct{ crypto.Signer }

func (d deterministic) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if opts != pss {
		random = nil
	}
	return d.Signer.Sign(random, digest, opts)
}

// EncryptKeyFileWith is EncryptKeyFile with less work.
func EncryptKeyFileWith(data, passphrase []byte, logN byte) ([]byte, error) {
	return encryptKeyFile(data, passphrase, logN)
}

// ExportOf is what a suite's receiver exports for an encapsulation, with any info and
// AEAD, so that published vectors can be tried.
func ExportOf(s Suite, private, enc []byte, aead hpke.AEAD, info []byte, context string, n int) ([]byte, error) {
	alg, err := kemOf(s).private(private)
	if err != nil {
		return nil, err
	}
	r, err := hpke.NewRecipient(enc, alg.(kemPrivate).key, hpke.HKDFSHA256(), aead, info)
	if err != nil {
		return nil, err
	}
	return r.Export(context, n)
}

// Again decodes and encodes each binary part of an envelope, so that a test can compare.
var Again = map[string]func(p []byte) ([]byte, error){
	"header": func(p []byte) ([]byte, error) {
		h, _, err := parseHeader(p)
		if err != nil {
			return nil, err
		}
		var f fields
		err = h.body(&f)
		h.rest(&f)
		return f.p, err
	},
	"epoch": func(p []byte) ([]byte, error) {
		e, err := parseSigned(p, "the epoch")
		return e.append(nil), err
	},
	"message": func(p []byte) ([]byte, error) {
		m, err := parseMessage([]byte("id"), p)
		if err != nil {
			return nil, err
		}
		return m.append(nil), nil
	},
	"chain": func(p []byte) ([]byte, error) {
		certs, err := ParseChain(p)
		if err != nil {
			return nil, err
		}
		return encodeChain(certs)
	},
}

// HKDF is what the keys of messages are derived with.
func HKDF(secret [32]byte, salt []byte, label string, info []byte) [32]byte {
	return hkdf32(secret, salt, label, info)
}
