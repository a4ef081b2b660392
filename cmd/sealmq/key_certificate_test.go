package main

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// An RSA key can be read as one of CipherMQ's. That of a certificate is none, whatever the
// certificate's file is called.
func TestAnRSACertificatesKeyIsNoReceiversKey(t *testing.T) {
	t.Chdir(t.TempDir())
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "lab"}, NotAfter: time.Now().Add(time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, kind string, der []byte) []byte {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		text := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return text
	}
	for _, dir := range []string{"beside", "named", "alone"} {
		write(dir+"/lab.key", "PRIVATE KEY", private)
		write(dir+"/old.key", "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key))
		write(dir+"/lab.pub", "PUBLIC KEY", public)
	}
	text := write("beside/lab.crt", "CERTIFICATE", cert)
	write("named/server-cert.pem", "CERTIFICATE", cert)
	both := append(write("joined/lab.key", "PRIVATE KEY", private), text...)
	if err := os.WriteFile("joined/lab.key", both, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"beside/lab.key", "beside/old.key", "beside/lab.pub", "named/lab.key", "named/lab.pub", "joined/lab.key"} {
		_, err := runCLI(t, "key", "show", file)
		if got := printed(err); !strings.Contains(got, " is the key of the certificate in ") || !strings.Contains(got, "sealmq: hint: make a key for sealing with") {
			t.Errorf("%s: %q", file, got)
		}
	}
	for _, file := range []string{"alone/lab.key", "alone/old.key", "alone/lab.pub"} {
		if out, err := runCLI(t, "key", "show", file); err != nil || !strings.Contains(out, "ciphermq-rsa") {
			t.Errorf("%s: %v\n%s", file, err, out)
		}
	}
}
