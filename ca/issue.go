package ca

import (
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/mtls"
)

// Request asks for a certificate.
type Request struct {
	// Name becomes the common name and the client URI: a letter or digit, then up to
	// 63 letters, digits, dots, underscores and hyphens.
	Name string
	// Role is written into the certificate; empty is sealmq.RoleClient. A name that
	// means a role by convention (mtls.ReservedRole) needs an explicit role, so that
	// nobody gets a privileged name by accident.
	Role sealmq.Role
	// Days is how long it is valid, 1 to MaxDays; 0 is DefaultDays.
	Days int
	// KeyType is the type of the new key; empty is ECDSA.
	KeyType KeyType
	// Key, if not nil, is used instead of a new key.
	Key crypto.Signer
	// DNSNames and IPs are where clients reach a server.
	DNSNames []string
	IPs      []net.IP
}

// Certificate is a new certificate with its key.
type Certificate struct {
	Leaf *x509.Certificate
	// CertPEM is the certificate followed by the intermediate.
	CertPEM []byte
	// KeyPEM is the key as PKCS#8. It is a secret.
	KeyPEM []byte
}

// Issue makes a certificate. It writes no file.
//
// The profile: common name, client URI and role URI; digital signature (with key
// encipherment for RSA); client authentication, and server authentication for the
// roles that listen; a random serial number of 128 bits.
func (a *Authority) Issue(r Request) (*Certificate, error) {
	template, err := a.leafTemplate(r)
	if err != nil {
		return nil, err
	}
	key := r.Key
	if key == nil {
		if key, err = GenerateKey(r.KeyType); err != nil {
			return nil, err
		}
	}
	if _, ok := key.Public().(*rsa.PublicKey); ok {
		template.KeyUsage |= x509.KeyUsageKeyEncipherment
	}
	template.SubjectKeyId = keyID(key.Public())
	c := &Certificate{}
	if c.KeyPEM, err = keyPEM(key); err != nil {
		return nil, fmt.Errorf("encode key: %w", err)
	}
	if c.Leaf, err = sign(template, a.intermediate, key.Public(), a.key); err != nil {
		return nil, fmt.Errorf("issue certificate for %q: %w", r.Name, err)
	}
	c.CertPEM = certPEM(c.Leaf, a.intermediate)
	return c, nil
}

func (a *Authority) leafTemplate(r Request) (*x509.Certificate, error) {
	if !mtls.ValidID(r.Name) {
		return nil, fmt.Errorf("name %q: use a letter or digit, then up to %d letters, digits, dots, underscores and hyphens", r.Name, mtls.MaxIDBytes-1)
	}
	role, err := roleFor(r)
	if err != nil {
		return nil, err
	}
	days := r.Days
	if days == 0 {
		days = DefaultDays
	}
	if days < 1 || days > MaxDays {
		return nil, fmt.Errorf("%d days is not between 1 and %d", days, MaxDays)
	}
	now := a.options.Clock.Now()
	t := &x509.Certificate{
		Subject:               pkix.Name{CommonName: r.Name},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.AddDate(0, 0, days),
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		URIs:                  []*url.URL{mtls.ClientURI(r.Name), mtls.RoleURI(role)},
		IPAddresses:           r.IPs,
	}
	if t.NotAfter.After(a.intermediate.NotAfter) {
		return nil, fmt.Errorf("the authority itself expires on %s, before the %d days are over", a.intermediate.NotAfter.Format(time.DateOnly), days)
	}
	for _, name := range r.DNSNames {
		if !validHost(name) {
			return nil, fmt.Errorf("%q is not a host name", name)
		}
		t.DNSNames = append(t.DNSNames, strings.ToLower(name))
	}
	switch role {
	case sealmq.RoleServer, sealmq.RoleProxy, sealmq.RoleWorker:
		t.ExtKeyUsage = append(t.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	default:
		if len(r.DNSNames)+len(r.IPs) > 0 {
			return nil, fmt.Errorf("a certificate with role %q cannot have host names", string(role))
		}
	}
	return t, nil
}

func roleFor(r Request) (sealmq.Role, error) {
	if r.Role == "" {
		if reserved := mtls.ReservedRole(r.Name); reserved != sealmq.RoleClient {
			return "", &hintError{fmt.Sprintf("the name %q means the role %q by convention, so the role must be given", r.Name, string(reserved)),
				fmt.Sprintf("add --role %s, or choose another name", reserved)}
		}
		return sealmq.RoleClient, nil
	}
	if !mtls.KnownRole(r.Role) {
		return "", fmt.Errorf("unknown role %q, known are client, admin, proxy, worker, server and monitor", string(r.Role))
	}
	return r.Role, nil
}

// ParseHosts separates host names from IP addresses.
func ParseHosts(hosts []string) (names []string, ips []net.IP, err error) {
	for _, h := range hosts {
		if ip := net.ParseIP(strings.Trim(h, "[]")); ip != nil {
			ips = append(ips, ip)
			continue
		}
		h = strings.ToLower(strings.TrimSuffix(h, "."))
		if !validHost(h) {
			return nil, nil, fmt.Errorf("%q is neither a host name nor an IP address", h)
		}
		names = append(names, h)
	}
	return names, ips, nil
}

// validHost accepts host names, also with "*" as the whole first label.
func validHost(name string) bool {
	name = strings.TrimPrefix(name, "*.")
	if name == "" || len(name) > 253 {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		if strings.ContainsFunc(label, func(c rune) bool {
			return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_')
		}) {
			return false
		}
	}
	return true
}

// addHosts adds hosts to those of a certificate and reports whether any was new.
func addHosts(names []string, ips []net.IP, moreNames []string, moreIPs []net.IP) ([]string, []net.IP, bool) {
	names, ips = slices.Clone(names), slices.Clone(ips)
	changed := false
	for _, n := range moreNames {
		if !slices.Contains(names, n) {
			names, changed = append(names, n), true
		}
	}
	for _, ip := range moreIPs {
		if !slices.ContainsFunc(ips, ip.Equal) {
			ips, changed = append(ips, ip), true
		}
	}
	return names, ips, changed
}
