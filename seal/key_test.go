package seal_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/sealmq/sealmq/seal"
	"github.com/sealmq/sealmq/seal/ciphermq"
)

func TestKeyFormsRoundTrip(t *testing.T) {
	key, body := legacyKey(t)
	block, _ := pem.Decode(key.Public().PEM())
	pub, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if got := key.Public().Bits(); got != 1048 {
		t.Errorf("%d bits", got)
	}

	private, err := seal.ParsePrivateKey(key.PEM(), ciphermq.Suites{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := legacyOpener(t, "bob", private).Open(body, seal.Expect{AnyID: true}); err != nil {
		t.Errorf("PKCS#8 form does not open: %v", err)
	}
	publics := map[string][]byte{
		"SPKI":             key.Public().PEM(),
		"PKCS#1":           pem.EncodeToMemory(&pem.Block{Type: "RSA PUBLIC KEY", Bytes: x509.MarshalPKCS1PublicKey(pub.(*rsa.PublicKey))}),
		"after other text": append([]byte("# the laboratory's key\n"), key.Public().PEM()...),
	}
	for name, data := range publics {
		got, err := seal.ParsePublicKey(data, ciphermq.Suites{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got.Fingerprint() != key.Public().Fingerprint() || got.Suite() != ciphermq.RSA {
			t.Errorf("%s: %s of suite %s", name, got.Fingerprint(), got.Suite())
		}
	}
}

func TestGenerate(t *testing.T) {
	key, err := seal.Generate(ciphermq.RSA, 0, ciphermq.Suites{})
	if err != nil {
		t.Fatal(err)
	}
	if got := key.Public().Bits(); got != ciphermq.DefaultRSABits || got < 3072 {
		t.Errorf("%d bits by default", got)
	}
	if !bytes.HasPrefix(key.PEM(), []byte("-----BEGIN PRIVATE KEY-----")) ||
		!bytes.HasPrefix(key.Public().PEM(), []byte("-----BEGIN PUBLIC KEY-----")) {
		t.Error("the files are not PKCS#8 and SubjectPublicKeyInfo")
	}
	for _, bits := range []int{-1, 1, 1024, 1048, 2047, 2049, 1 << 20} {
		if _, err := seal.Generate(ciphermq.RSA, bits, ciphermq.Suites{}); err == nil {
			t.Errorf("a key of %d bits was made", bits)
		}
	}
	if _, err := seal.Generate("rot13", 0, ciphermq.Suites{}); err == nil || !strings.Contains(err.Error(), "ciphermq-rsa") {
		t.Errorf("unknown suite: %v", err)
	}
}

func TestParseKeyRefuses(t *testing.T) {
	key, _ := legacyKey(t)
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ecDER, err := x509.MarshalPKCS8PrivateKey(ec)
	if err != nil {
		t.Fatal(err)
	}
	small, err := os.ReadFile("testdata/rsa-512.pem")
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(key.PEM())
	damaged := bytes.Clone(block.Bytes)
	damaged[len(damaged)/2] ^= 1
	cases := []struct {
		name string
		data []byte
		want string
	}{
		{"nothing", nil, "no private key"},
		{"text", []byte("hello"), "no private key"},
		{"elliptic curve", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: ecDER}), "no private key"},
		{"passphrase", pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte{1}}), "passphrase"},
		{"old passphrase", []byte("-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n"), "passphrase"},
		{"public half", key.Public().PEM(), "public key"},
		{"damaged", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: damaged}), "damaged"},
		{"cut", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: block.Bytes[:100]}), "damaged"},
		{"512 bits", small, "512"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if _, err := seal.ParsePrivateKey(c.data, ciphermq.Suites{}); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q in it", err, c.want)
			}
		})
	}
	if _, err := seal.ParsePublicKey(key.PEM(), ciphermq.Suites{}); !errors.Is(err, seal.ErrPrivateKey) {
		t.Errorf("a private key as public key: %v", err)
	}
	if _, err := seal.ParsePrivateKey(key.Public().PEM()); !errors.Is(err, seal.ErrPublicKey) {
		t.Errorf("a public key as private key: %v", err)
	}
}

func TestPrivateKeyNeverPrints(t *testing.T) {
	key, _ := legacyKey(t)
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("made", "key", key, "value", *key)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("made", "key", key, "value", *key)
	fmt.Fprintf(&log, "%v %+v %#v %s %d %x %v %+v %d", key, key, key, key, key, key, *key, *key, *key)
	data, err := json.Marshal(key)
	if err != nil {
		t.Fatal(err)
	}
	log.Write(data)
	for _, secret := range []string{"PRIVATE", "Primes", "0x", "{0", "[4"} {
		if strings.Contains(log.String(), secret) {
			t.Errorf("%q in %s", secret, log.String())
		}
	}
	if !strings.Contains(log.String(), "[redacted]") {
		t.Errorf("nothing redacted in %s", log.String())
	}
}
