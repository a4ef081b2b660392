package trust

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/sealmq/sealmq/mtls"
)

// Authorities returns the certificates of the accepted authorities, which may sign CRLs.
type Authorities func() []*x509.Certificate

const pemCRL = "X509 CRL"

// block reads a PEM block that begins with line.
func (p *parser) block(begin string) error {
	first, text := p.at, []string{begin}
	end := strings.Replace(begin, "BEGIN", "END", 1)
	for text[len(text)-1] != end {
		if p.at == len(p.lines) {
			return fmt.Errorf("the PEM block in line %d has no end", first)
		}
		text = append(text, p.next())
	}
	block, _ := pem.Decode([]byte(strings.Join(text, "\n") + "\n"))
	switch {
	case block == nil:
		return fmt.Errorf("the PEM block in line %d is damaged", first)
	case block.Type != pemCRL:
		p.ignore(`a block of type %q revokes nothing; write the name, or "certificate" and the SHA-256 that "sealmq cert show" prints`, block.Type)
		return nil
	}
	list, err := x509.ParseRevocationList(block.Bytes)
	if err != nil {
		return fmt.Errorf("the CRL in line %d is damaged: %w", first, err)
	}
	issuer := p.signerOf(list)
	if issuer == nil {
		p.unsigned = true
		p.ignore("no accepted authority has signed this CRL of %s", list.Issuer)
		return nil
	}
	return p.crl(list, mtls.Issuer(issuer))
}

// signerOf returns the accepted authority that signed a CRL, or nil.
func (p *parser) signerOf(list *x509.RevocationList) *x509.Certificate {
	if p.authorities == nil {
		return nil
	}
	for _, c := range p.authorities() {
		if list.CheckSignatureFrom(c) == nil {
			return c
		}
	}
	return nil
}

func (p *parser) crl(list *x509.RevocationList, issuer string) error {
	if list.Number != nil {
		if last := p.crls[issuer]; last == nil || list.Number.Cmp(last) > 0 {
			p.crls[issuer] = list.Number
		}
	}
	const removeFromCRL = 8
	for _, r := range list.RevokedCertificateEntries {
		if r.ReasonCode == removeFromCRL {
			continue
		}
		if r.SerialNumber == nil || r.SerialNumber.Sign() < 0 {
			return errors.New("a CRL has a serial number that is none")
		}
		p.add(Entry{Scope: ScopeCertificate, Serial: r.SerialNumber.Text(16), Issuer: issuer,
			Code: Reason(r.ReasonCode), Reason: Reason(r.ReasonCode).String(), RevokedAt: r.RevocationTime.UTC()})
	}
	return nil
}
