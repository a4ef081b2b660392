package testca

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"time"
)

// certificateV1 and tbsV1 are RFC 5280's structures without the fields of version 3.
// crypto/x509 only writes version 3; openssl without extensions writes version 1.
type certificateV1 struct {
	TBS       asn1.RawValue
	Algorithm pkix.AlgorithmIdentifier
	Signature asn1.BitString
}

type tbsV1 struct {
	Serial    *big.Int
	Algorithm pkix.AlgorithmIdentifier
	Issuer    asn1.RawValue
	Validity  struct{ NotBefore, NotAfter time.Time }
	Subject   asn1.RawValue
	PublicKey asn1.RawValue
}

var ecdsaWithSHA256 = pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}}

// IssueV1 signs an X.509 v1 certificate, as plain openssl commands do.
func (c *CA) IssueV1(subject pkix.Name) tls.Certificate {
	c.tb.Helper()
	key := newKey(c.tb)
	rawSubject, err := asn1.Marshal(subject.ToRDNSequence())
	if err != nil {
		c.tb.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		c.tb.Fatal(err)
	}
	tbs := tbsV1{
		Serial:    newSerial(c.tb),
		Algorithm: ecdsaWithSHA256,
		Issuer:    asn1.RawValue{FullBytes: c.root.RawSubject},
		Subject:   asn1.RawValue{FullBytes: rawSubject},
		PublicKey: asn1.RawValue{FullBytes: public},
	}
	tbs.Validity.NotBefore = time.Now().Add(-time.Hour).UTC()
	tbs.Validity.NotAfter = time.Now().Add(12 * time.Hour).UTC()
	rawTBS, err := asn1.Marshal(tbs)
	if err != nil {
		c.tb.Fatal(err)
	}
	digest := sha256.Sum256(rawTBS)
	sig, err := ecdsa.SignASN1(rand.Reader, c.key, digest[:])
	if err != nil {
		c.tb.Fatal(err)
	}
	der, err := asn1.Marshal(certificateV1{
		TBS:       asn1.RawValue{FullBytes: rawTBS},
		Algorithm: ecdsaWithSHA256,
		Signature: asn1.BitString{Bytes: sig, BitLength: 8 * len(sig)},
	})
	if err != nil {
		c.tb.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: parse(c.tb, der)}
}
