package ca

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"path/filepath"
	"time"

	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/mtls"
	"github.com/sealmq/sealmq/trust"
)

const (
	// CRLLife is the time from a CRL's update to the next one that it promises.
	CRLLife = 7 * 24 * time.Hour
	// crlAge is after how long a CRL is replaced although nothing was revoked.
	crlAge = 24 * time.Hour
	// crlLinger is how long an expired certificate stays in CRLs. RFC 5280 asks for one CRL
	// after its end.
	crlLinger = 2 * CRLLife
	// crlEvery is how often MaintainCRL looks.
	crlEvery = time.Minute
)

// CRL is a certificate revocation list of X.509, version 2.
type CRL struct {
	File   string
	List   *x509.RevocationList
	PEM    []byte
	Issuer *x509.Certificate
}

// CRL returns the CRL of the certificates that the intermediate has signed, from its file or,
// if that lacks revocations or is older than a day, a new one. Its number is stored before
// it is signed, and only grows.
//
// A name that is revoked as a whole is in it with the certificates that are on record.
func (a *Authority) CRL() (*CRL, error) {
	if a.intermediate == nil {
		return a.RootCRL()
	}
	return a.makeCRL(a.paths.CRL, a.intermediate, func() (crypto.Signer, error) {
		if a.key == nil {
			return nil, ErrNoKey
		}
		return a.key, nil
	})
}

// RootCRL is CRL for the certificates that the root has signed itself. A new one needs the
// root's key.
func (a *Authority) RootCRL() (*CRL, error) {
	file := a.paths.RootCRL
	if a.intermediate == nil {
		file = a.paths.CRL
	}
	return a.makeCRL(file, a.root, func() (crypto.Signer, error) { return a.rootKey("to sign its CRL") })
}

func (a *Authority) makeCRL(file string, issuer *x509.Certificate, key func() (crypto.Signer, error)) (*CRL, error) {
	ledger, unlock, err := a.lockedLedger()
	if err != nil {
		return nil, err
	}
	defer unlock()
	now := a.options.Clock.Now().UTC().Truncate(time.Second)
	if old := a.readCRL(file, issuer); old != nil && old.isCurrent(ledger, now) {
		return old, nil
	}
	signer, err := key()
	if err != nil {
		return nil, err
	}
	number, err := ledger.NextCRL(now)
	if err != nil {
		return nil, err
	}
	template := &x509.RevocationList{
		Number: new(big.Int).SetUint64(number), ThisUpdate: now, NextUpdate: now.Add(CRLLife),
		RevokedCertificateEntries: crlEntries(ledger.Entries(), mtls.Issuer(issuer), now),
	}
	der, err := x509.CreateRevocationList(rand.Reader, template, issuer, signer)
	if err != nil {
		return nil, fmt.Errorf("sign the CRL: %w", err)
	}
	c := &CRL{File: file, Issuer: issuer, PEM: pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})}
	if c.List, err = x509.ParseRevocationList(der); err != nil {
		return nil, err
	}
	if err := durable.MkdirAll(a.options.FS, filepath.Dir(file), 0o700); err != nil {
		return nil, err
	}
	return c, durable.WriteFile(a.options.FS, file, c.PEM, 0o644)
}

// readCRL returns the CRL in a file, or nil if it is not usable.
func (a *Authority) readCRL(file string, issuer *x509.Certificate) *CRL {
	data, err := durable.ReadFile(a.options.FS, file, trust.MaxListBytes)
	if err != nil {
		return nil
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil
	}
	list, err := x509.ParseRevocationList(block.Bytes)
	if err != nil || list.Number == nil || list.CheckSignatureFrom(issuer) != nil {
		return nil
	}
	return &CRL{File: file, Issuer: issuer, PEM: data, List: list}
}

// isCurrent reports whether a CRL has everything, and is not old or from a time that is yet
// to come.
func (c *CRL) isCurrent(l *trust.Ledger, now time.Time) bool {
	covers, ok := l.Covers(c.List.Number)
	age := now.Sub(c.List.ThisUpdate)
	return ok && covers == l.Revoked() && age >= 0 && age < crlAge
}

// crlEntries are the revocations that belong into a CRL of issuer. Where it is not known who
// signed a certificate, every CRL has it.
func crlEntries(entries []trust.Entry, issuer string, now time.Time) (list []x509.RevocationListEntry) {
	seen := make(map[string]int) // places in list
	for _, e := range entries {
		serial, ok := new(big.Int).SetString(e.Serial, 16)
		expired := !e.ExpiresAt.IsZero() && now.Sub(e.ExpiresAt) > crlLinger
		if !ok || e.Scope != trust.ScopeCertificate || e.Issuer != "" && e.Issuer != issuer || expired {
			continue
		}
		if i, ok := seen[e.Serial]; ok {
			if list[i].ReasonCode == int(trust.Superseded) { // which a later entry made worse
				list[i].ReasonCode = int(e.Code)
			}
			continue
		}
		seen[e.Serial] = len(list)
		list = append(list, x509.RevocationListEntry{SerialNumber: serial, RevocationTime: e.RevokedAt, ReasonCode: int(e.Code)})
	}
	return list
}

// MaintainCRL keeps the CRLs current that exist as files, until ctx ends. The first one is
// made by CRL.
func (a *Authority) MaintainCRL(ctx context.Context, log *slog.Logger) {
	ticker := time.NewTicker(crlEvery)
	defer ticker.Stop()
	last := ""
	for {
		if err := a.refreshCRLs(); err != nil && err.Error() != last {
			log.Error("the CRL is not refreshed", "err", err)
			last = err.Error()
		} else if err == nil {
			last = ""
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (a *Authority) refreshCRLs() error {
	if _, err := durable.ReadFile(a.options.FS, a.paths.CRL, trust.MaxListBytes); durable.IsNotExist(err) {
		return nil
	}
	if _, err := a.CRL(); err != nil {
		return err
	}
	if _, err := durable.ReadFile(a.options.FS, a.paths.RootCRL, trust.MaxListBytes); durable.IsNotExist(err) {
		return nil
	}
	_, err := a.RootCRL()
	return err
}
