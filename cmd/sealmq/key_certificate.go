package main

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sealmq/sealmq/mtls"
)

// This file tells the keys of certificates from the keys that messages are sealed for. An
// RSA key could serve as either, but a key must not have both uses.

// certificateOf is the file of the certificate that belongs to the private key in data, or
// "".
func certificateOf(path string, data []byte) string {
	if block, _ := pem.Decode(data); block == nil || strings.HasPrefix(block.Type, "SEALMQ ") {
		return "" // its type says that it is for sealing
	}
	key, err := mtls.ParsePrivateKey(data)
	if err != nil {
		return ""
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return ""
	}
	return certificateWith(path, public)
}

// certificateWith searches the file itself and its folder for a certificate with the public
// key. It skips files that it cannot read.
func certificateWith(path string, public []byte) string {
	for _, file := range certificatesNear(path) {
		info, err := os.Stat(file)
		if err != nil || !info.Mode().IsRegular() || info.Size() > maxKeyBytes {
			continue
		}
		certs, err := mtls.ReadCertificates(file)
		if err != nil {
			continue
		}
		for _, c := range certs {
			if bytes.Equal(c.RawSubjectPublicKeyInfo, public) {
				return file
			}
		}
	}
	return ""
}

// certificatesNear lists where a key's certificate may be, the likeliest first.
func certificatesNear(path string) []string {
	list := []string{path, strings.TrimSuffix(path, filepath.Ext(path)) + ".crt"}
	const most = 1000 // a larger folder is for something else
	dir := filepath.Dir(path)
	around, err := os.ReadDir(dir)
	if err != nil || len(around) > most {
		return list
	}
	for _, e := range around {
		switch filepath.Ext(e.Name()) {
		case ".crt", ".cer", ".pem":
			if file := filepath.Join(dir, e.Name()); !slices.Contains(list, file) {
				list = append(list, file)
			}
		}
	}
	return list
}

func hasCertificate(data []byte) bool {
	certs, err := mtls.ParseCertificates(data)
	return err == nil && len(certs) > 0
}

func errCertificateKey(path, cert string) error {
	return withHint(fmt.Errorf("%s is the key of the certificate in %s, not one that messages are sealed for", path, cert),
		`make a key for sealing with "sealmq key generate"`)
}
