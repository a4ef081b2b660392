package metrics

import (
	"cmp"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealmq/sealmq/internal/clock"
	"github.com/sealmq/sealmq/mtls"
)

// expirySoon is how long before a certificate expires the check warns.
const expirySoon = 14 * 24 * time.Hour

// CertificateFile is a PEM file; its first certificate is watched.
type CertificateFile struct {
	Name string // what it is: "server", "authority"
	Path string
}

// Certificates collects when certificates expire. The files are read at each scrape,
// because they can be replaced while the broker runs.
type Certificates struct {
	files []CertificateFile
	desc  *prometheus.Desc
}

// NewCertificates returns a collector over files.
func NewCertificates(files ...CertificateFile) *Certificates {
	return &Certificates{files, prometheus.NewDesc("sealmq_certificate_not_after_seconds",
		"When the certificate expires, in seconds since 1970.", []string{"certificate"}, nil)}
}

// Describe implements prometheus.Collector.
func (c *Certificates) Describe(ch chan<- *prometheus.Desc) { ch <- c.desc }

// Collect implements prometheus.Collector. A file that cannot be read has no series, but
// Check reports it.
func (c *Certificates) Collect(ch chan<- prometheus.Metric) {
	for _, f := range c.files {
		if end, err := notAfter(f.Path); err == nil {
			gauge(ch, c.desc, end.Unix(), f.Name)
		}
	}
}

// Check is degraded when a certificate cannot be read, has expired or expires within
// two weeks. It never fails: other clients may trust another certificate. A nil clock
// is the system's.
func (c *Certificates) Check(clk clock.Clock) Check {
	clk = cmp.Or(clk, clock.System)
	return Check{Name: "certificates", Run: func() (Status, string) {
		for _, f := range c.files {
			end, err := notAfter(f.Path)
			if err != nil {
				return Degraded, fmt.Sprintf("the %s certificate cannot be read", f.Name)
			}
			switch left := end.Sub(clk.Now()); {
			case left <= 0:
				return Degraded, fmt.Sprintf("the %s certificate expired on %s", f.Name, end.UTC().Format(time.RFC3339))
			case left < expirySoon:
				return Degraded, fmt.Sprintf("the %s certificate expires on %s", f.Name, end.UTC().Format(time.RFC3339))
			}
		}
		return OK, ""
	}}
}

// notAfter is when the first certificate in a file expires.
func notAfter(path string) (time.Time, error) {
	certs, err := mtls.ReadCertificates(path)
	if err != nil {
		return time.Time{}, err
	}
	return certs[0].NotAfter, nil
}
