package mtls

import (
	"crypto/x509"
	"time"
)

// Backdate is how long before its issue a certificate is valid, for peers with slow clocks.
const Backdate = time.Hour

// Life is the time from a certificate's issue to its end. The time before its issue, for slow
// clocks, does not count.
func Life(c *x509.Certificate) (from, to time.Time) {
	return c.NotAfter.Add(-max(c.NotAfter.Sub(c.NotBefore)-Backdate, c.NotAfter.Sub(c.NotBefore)/2)), c.NotAfter
}

// RenewBefore is how long before its end a certificate with a life is to be renewed: a third of
// its life, at most 30 days. Programs that renew by themselves have done so by then.
func RenewBefore(life time.Duration) time.Duration { return min(life/3, 30*24*time.Hour) }

// ExpiresSoon reports whether a certificate should have been renewed by now.
func ExpiresSoon(c *x509.Certificate, now time.Time) bool {
	from, to := Life(c)
	return to.Sub(now) < RenewBefore(to.Sub(from))
}
