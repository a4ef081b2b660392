package ca

import (
	"cmp"
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
	// Valid, if not zero, is used instead of Days: MinValid to MaxDays.
	Valid time.Duration
	// RenewUntil is until when the certificate's holder may renew it, for the record; zero
	// is DefaultRenewFor from now.
	RenewUntil time.Time
	// Successor refuses a name that is revoked as a whole. Otherwise it is let in again.
	Successor bool
	// KeyType is the type of the new key; empty is ECDSA.
	KeyType KeyType
	// Domain is a label that becomes the organizational unit; it may be empty. It has the
	// form of a Name.
	Domain string
	// Key, if not nil, is used instead of a new key.
	Key crypto.Signer
	// CSR, if not nil, is a certificate signing request in PEM (ParseCSR), whose public key
	// is used. Then Key must be nil.
	CSR []byte
	// Direct has the root sign the certificate, for peers that send no chain. It needs the
	// root's key.
	Direct bool
	// By and Source are for the record.
	By     string
	Source Source
	// DNSNames and IPs are where clients reach a server.
	DNSNames []string
	IPs      []net.IP
}

// Certificate is a new certificate with its key.
type Certificate struct {
	Leaf *x509.Certificate
	// CertPEM is the certificate followed by the intermediate.
	CertPEM []byte
	// KeyPEM is the key as PKCS#8. It is a secret. There is none for a CSR.
	KeyPEM []byte
}

// Issue makes a certificate and records it before it is signed. It writes no other file,
// except that a name that was revoked as a whole is let in again: its old certificates stay
// revoked, and the new one is valid from now on, without the usual hour for slow clocks.
//
// The profile: common name, client URI and role URI; digital signature; client
// authentication, and for the roles that listen server authentication (with key encipherment
// for RSA); a random serial number of 128 bits.
func (a *Authority) Issue(r Request) (*Certificate, error) {
	if _, err := a.leafTemplate(r); err != nil {
		return nil, err
	}
	unlock, err := a.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	return a.issue(r)
}

// issue is Issue with the lock held.
func (a *Authority) issue(r Request) (*Certificate, error) {
	template, err := a.leafTemplate(r)
	if err != nil {
		return nil, err
	}
	c := &Certificate{}
	public, err := r.publicKey(c)
	if err != nil {
		return nil, err
	}
	// RFC 5280 allows key encipherment beside server authentication only.
	if _, ok := public.(*rsa.PublicKey); ok && slices.Contains(template.ExtKeyUsage, x509.ExtKeyUsageServerAuth) {
		template.KeyUsage |= x509.KeyUsageKeyEncipherment
	}
	template.SubjectKeyId = keyID(public)
	if err := a.checkNewKey(KeyHash(public)); err != nil {
		return nil, err
	}
	parent, key := a.intermediate, a.key
	if r.Direct || a.isDirect() {
		parent = a.root
		if key, err = a.rootKey("to sign this certificate"); err != nil {
			return nil, err
		}
	}
	if key == nil {
		return nil, ErrNoKey
	}
	from, err := a.readmit(r.Name, !r.Successor)
	if err != nil {
		return nil, err
	}
	if from.After(template.NotBefore) {
		template.NotBefore = from
	}
	if c.Leaf, err = sign(template, parent, public, key); err != nil {
		return nil, fmt.Errorf("issue certificate for %q: %w", r.Name, err)
	}
	if err := a.record(r, c.Leaf, parent); err != nil {
		return nil, err
	}
	c.CertPEM = mtls.EncodeCertificates(c.Leaf)
	if parent != a.root {
		c.CertPEM = mtls.EncodeCertificates(c.Leaf, parent)
	}
	return c, nil
}

// publicKey is the key of the new certificate. A private key goes into c.
func (r *Request) publicKey(c *Certificate) (crypto.PublicKey, error) {
	if r.CSR != nil {
		csr, err := ParseCSR(r.CSR)
		if err != nil {
			return nil, err
		}
		if csr.CommonName != "" && csr.CommonName != r.Name {
			return nil, fmt.Errorf("the request is for the name %q, not for %q", csr.CommonName, r.Name)
		}
		return csr.Public, nil
	}
	key := r.Key
	if key == nil {
		var err error
		if key, err = GenerateKey(r.KeyType); err != nil {
			return nil, err
		}
	}
	var err error
	if c.KeyPEM, err = mtls.EncodeKey(key); err != nil {
		return nil, fmt.Errorf("encode key: %w", err)
	}
	return key.Public(), nil
}

// record adds a new certificate to the history. It counts as issued from then on, although
// nobody has it yet.
func (a *Authority) record(r Request, leaf, parent *x509.Certificate) error {
	now := a.options.Clock.Now()
	_, role, err := mtls.Profile(leaf)
	if err != nil {
		return err
	}
	entry := Issued{Serial: mtls.Serial(leaf), Name: r.Name, Role: role, Domain: r.Domain, NotBefore: leaf.NotBefore.UTC(), NotAfter: leaf.NotAfter.UTC(),
		Fingerprint: mtls.Fingerprint(leaf), Signer: mtls.Issuer(parent), Key: KeyHash(leaf.PublicKey), IssuedAt: now.UTC().Truncate(time.Second),
		IssuedBy: r.By, Source: r.Source, Hosts: slices.Clone(leaf.DNSNames), RenewUntil: r.RenewUntil}
	for _, ip := range leaf.IPAddresses {
		entry.Hosts = append(entry.Hosts, ip.String())
	}
	for _, old := range a.history.of(r.Name) {
		if old.SupersededBy == "" && old.NotAfter.After(now) {
			entry.Supersedes = append(entry.Supersedes, old.Serial)
		}
	}
	return a.history.append(a.options.FS, a.paths.Issued, entry)
}

func checkID(kind, id string) error {
	if !mtls.ValidID(id) {
		return fmt.Errorf("%s %q: use a letter or digit, then up to %d letters, digits, dots, underscores and hyphens", kind, id, mtls.MaxIDBytes-1)
	}
	return nil
}

func (a *Authority) leafTemplate(r Request) (*x509.Certificate, error) {
	if err := checkID("name", r.Name); err != nil {
		return nil, err
	}
	if r.Domain != "" {
		if err := checkID("domain", r.Domain); err != nil {
			return nil, err
		}
	}
	role, err := roleFor(r)
	if err != nil {
		return nil, err
	}
	days := cmp.Or(r.Days, DefaultDays)
	if days < 1 || days > MaxDays {
		return nil, fmt.Errorf("%d days is not between 1 and %d", days, MaxDays)
	}
	now := a.options.Clock.Now()
	before, after := now.Add(-mtls.Backdate), now.AddDate(0, 0, days)
	if r.Valid != 0 {
		if r.Valid < MinValid || r.Valid > MaxDays*24*time.Hour {
			return nil, fmt.Errorf("a life of %v is not between %v and %d days", r.Valid, MinValid, MaxDays)
		}
		before, after = now.Add(-min(mtls.Backdate, r.Valid)), now.Add(r.Valid)
	}
	t := &x509.Certificate{
		Subject:               pkix.Name{CommonName: r.Name},
		NotBefore:             before,
		NotAfter:              after,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		URIs:                  []*url.URL{mtls.ClientURI(r.Name), mtls.RoleURI(role)},
		IPAddresses:           r.IPs,
	}
	if r.Domain != "" {
		t.Subject.OrganizationalUnit = []string{r.Domain}
	}
	end := a.root.NotAfter
	if !r.Direct && a.intermediate != nil {
		end = a.intermediate.NotAfter
	}
	if t.NotAfter.After(end) {
		return nil, fmt.Errorf("the authority itself expires on %s, before the certificate would; issue it for fewer days, or renew the authority", end.Format(time.DateOnly))
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
		if role != sealmq.RoleWorker { // clients on the same machine check for these
			t.DNSNames, t.IPAddresses, _ = addHosts(t.DNSNames, t.IPAddresses, []string{"localhost"}, loopback())
		}
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
