package mtls_test

import (
	"crypto/x509"
	"testing"
	"time"

	"github.com/sealmq/sealmq/mtls"
)

// TestExpiresSoon: a certificate with a long life is to be renewed in its last 30 days, one with a
// short life in its last third; the hour before its issue is no part of it.
func TestExpiresSoon(t *testing.T) {
	const day = 24 * time.Hour
	now := time.Date(2030, 5, 1, 12, 0, 0, 0, time.UTC)
	for _, tc := range []struct {
		life, left time.Duration
		want       bool
	}{
		{365 * day, 31 * day, false}, {365 * day, 29 * day, true}, {365 * day, -day, true},
		{60 * day, 21 * day, false}, {60 * day, 19 * day, true},
		{day, 9 * time.Hour, false}, {day, 7 * time.Hour, true},
		{2 * time.Hour, 41 * time.Minute, false}, {2 * time.Hour, 39 * time.Minute, true},
	} {
		end := now.Add(tc.left)
		if got := mtls.ExpiresSoon(&x509.Certificate{NotBefore: end.Add(-tc.life - mtls.Backdate), NotAfter: end}, now); got != tc.want {
			t.Errorf("a life of %v with %v left: %v, want %v", tc.life, tc.left, got, tc.want)
		}
	}
}
