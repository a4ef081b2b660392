package metrics_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sealmq/sealmq/internal/clock"
	"github.com/sealmq/sealmq/internal/metrics"
)

type fixedClock struct {
	clock.Clock
	now time.Time
}

func (c fixedClock) Now() time.Time { return c.now }

func writeCertificate(t *testing.T, notAfter time.Time) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: notAfter.Add(-time.Hour), NotAfter: notAfter}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "server.crt")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestCertificateExpiryIsShownAndChecked(t *testing.T) {
	end := time.Date(2030, 1, 31, 0, 0, 0, 0, time.UTC)
	path := writeCertificate(t, end)
	c := metrics.NewCertificates(metrics.CertificateFile{Name: "server", Path: path})
	if got := gather(t, c)["sealmq_certificate_not_after_seconds{server}"]; got != float64(end.Unix()) {
		t.Errorf("expiry %v, want %v", got, end.Unix())
	}
	for _, tt := range []struct {
		now    time.Time
		status metrics.Status
		reason string
	}{
		{end.Add(-15 * 24 * time.Hour), metrics.OK, ""},
		{end.Add(-13 * 24 * time.Hour), metrics.Degraded, "the server certificate expires on 2030-01-31T00:00:00Z"},
		{end, metrics.Degraded, "the server certificate expired on 2030-01-31T00:00:00Z"},
	} {
		status, reason := c.Check(fixedClock{clock.System, tt.now}).Run()
		if status != tt.status || reason != tt.reason {
			t.Errorf("at %v: %s %q, want %s %q", tt.now, status, reason, tt.status, tt.reason)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if got := gather(t, c); len(got) != 0 {
		t.Errorf("series of a missing file: %v", got)
	}
	if status, _ := c.Check(clock.System).Run(); status != metrics.Degraded {
		t.Errorf("missing file: %s", status)
	}
}
