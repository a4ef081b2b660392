package mtls

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/sealmq/sealmq"
)

// The profile of a certificate is written as URIs among its subject alternative names.
// Package ca writes them, this package reads them:
//
//	sealmq:client/<id>    who it is; at most one
//	sealmq:role/<role>    what it may be; at most one, believed from our authority only
const (
	uriScheme    = "sealmq"
	clientPrefix = "client/"
	rolePrefix   = "role/"
	// fingerprintPrefix begins the identity of a certificate without a name.
	fingerprintPrefix = "sha256:"
)

// ClientURI is the subject alternative name that carries an identity.
func ClientURI(id string) *url.URL { return &url.URL{Scheme: uriScheme, Opaque: clientPrefix + id} }

// RoleURI is the subject alternative name that carries a role.
func RoleURI(role sealmq.Role) *url.URL {
	return &url.URL{Scheme: uriScheme, Opaque: rolePrefix + string(role)}
}

// MaxIDBytes bounds an identity that our authority writes; it is X.520's bound for a
// common name.
const MaxIDBytes = 64

// ValidID reports whether id can be in a ClientURI: a letter or digit, then letters,
// digits, dots, underscores and hyphens, all ASCII.
func ValidID(id string) bool {
	return len(id) <= MaxIDBytes && validID.MatchString(id)
}

var validID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// ReservedRole is the role that a name means by convention: admin, admin-…,
// proxy-…, worker-…, and server, localhost, portal. Other names are RoleClient.
//
// Our authority asks for the role by name before it issues such a name. Certificates
// of imported authorities, which cannot carry a role, get it from here, except admin.
func ReservedRole(name string) sealmq.Role {
	switch name {
	case "server", "localhost", "portal":
		return sealmq.RoleServer
	}
	for _, role := range []sealmq.Role{sealmq.RoleAdmin, sealmq.RoleProxy, sealmq.RoleWorker} {
		rest, ok := strings.CutPrefix(name, string(role))
		if ok && (rest == "" || len(rest) > 1 && rest[0] == '-' && ValidID("x"+rest)) {
			return role
		}
	}
	return sealmq.RoleClient
}

// KnownRole reports whether role is one that a certificate can carry.
func KnownRole(role sealmq.Role) bool {
	return slices.Contains([]sealmq.Role{sealmq.RoleClient, sealmq.RoleAdmin, sealmq.RoleProxy,
		sealmq.RoleWorker, sealmq.RoleServer, sealmq.RoleMonitor}, role)
}

// Identifier tells who a verified connection is.
type Identifier struct {
	// Revocation is asked about every chain; a chain with a revoked certificate gives no
	// identity. Nil revokes nothing.
	Revocation Revocation
	own        func(root *x509.Certificate) bool
}

// NewIdentifier returns an Identifier that believes the roles in certificates below
// the given roots. Every other authority is an imported one: its certificates can have
// every role but admin, and only by their common name (ReservedRole). A root is known
// by its key, so that renewing its certificate changes nothing.
func NewIdentifier(ownRoots ...*x509.Certificate) *Identifier {
	return NewIdentifierOf(func(root *x509.Certificate) bool {
		return slices.ContainsFunc(ownRoots, func(own *x509.Certificate) bool {
			return bytes.Equal(own.RawSubjectPublicKeyInfo, root.RawSubjectPublicKeyInfo)
		})
	})
}

// NewIdentifierOf is NewIdentifier for roots that may change: own says of a root whether it is
// one of them now. It must not block, and must be safe for concurrent use.
func NewIdentifierOf(own func(root *x509.Certificate) bool) *Identifier { return &Identifier{own: own} }

// Identify returns the identity of the peer from its verified certificate.
//
// The ID is the client URI or else the first common name of the subject; where both
// are present they must be equal. A certificate with neither is known by the SHA-256
// of its encoding. The Issuer is the SHA-256 of the public key of the root that the
// chain ends in. Cross-signed authorities give several chains: one counts that is within
// its dates and has nothing revoked, one to our own authority first. After an error the
// connection must be closed: the certificate is ambiguous, malformed or revoked.
func (i *Identifier) Identify(cs tls.ConnectionState) (sealmq.Identity, error) {
	chain, err := i.chain(cs.VerifiedChains)
	if err != nil {
		return sealmq.Identity{}, fmt.Errorf("identify peer: %w", err)
	}
	leaf, root := chain[0], chain[len(chain)-1]
	id, err := i.identify(leaf, root)
	if err != nil {
		return sealmq.Identity{}, fmt.Errorf("identify peer with certificate %s: %w", Serial(leaf), err)
	}
	return id, nil
}

// chain chooses the chain that tells who it is. With a resumed session all are those of
// the first handshake, of which some may have ended since.
func (i *Identifier) chain(chains [][]*x509.Certificate) (best []*x509.Certificate, err error) {
	err = errors.New("no verified certificate")
	now := time.Now()
	for _, chain := range chains {
		if len(chain) == 0 {
			continue
		}
		var revoked error
		if i.Revocation != nil {
			revoked = i.Revocation.Check(chain)
		}
		switch {
		case revoked != nil:
			err = revoked
		case len(chains) > 1 && slices.ContainsFunc(chain, func(c *x509.Certificate) bool { return now.Before(c.NotBefore) || now.After(c.NotAfter) }):
			err = errors.New("the certificate or an authority is not within its dates")
		case best == nil || i.own(chain[len(chain)-1]) && !i.own(best[len(best)-1]):
			best = chain
		}
	}
	if best != nil {
		return best, nil
	}
	return nil, err
}

func (i *Identifier) identify(leaf, root *x509.Certificate) (sealmq.Identity, error) {
	id, cn, role, err := nameOf(leaf)
	if err != nil {
		return sealmq.Identity{}, err
	}
	return sealmq.Identity{ID: id, Issuer: Issuer(root), CommonName: cn, Role: i.role(root, role, id)}, nil
}

// NameOf is the ID that Identify gives to the owner of a certificate, whatever its authority.
func NameOf(leaf *x509.Certificate) (string, error) {
	id, _, _, err := nameOf(leaf)
	if err != nil {
		return "", fmt.Errorf("certificate %s: %w", Serial(leaf), err)
	}
	return id, nil
}

func nameOf(leaf *x509.Certificate) (id, cn string, role sealmq.Role, err error) {
	if cn, err = firstCommonName(leaf.Subject); err != nil {
		return "", "", "", err
	}
	if id, role, err = Profile(leaf); err != nil {
		return "", "", "", err
	}
	switch {
	case id != "" && cn != "" && id != cn:
		return "", "", "", errors.New("client URI and common name differ")
	case id == "" && cn != "":
		id = cn
	case id == "":
		id = fingerprintPrefix + Fingerprint(leaf)
	}
	return id, cn, role, nil
}

// role decides what to believe.
func (i *Identifier) role(root *x509.Certificate, written sealmq.Role, name string) sealmq.Role {
	if i.own(root) {
		if written == "" {
			return sealmq.RoleClient
		}
		return written
	}
	if role := ReservedRole(name); role != sealmq.RoleAdmin {
		return role
	}
	return sealmq.RoleClient
}

// Names are all names by which a certificate's owner may be known: its client URI and its
// first common name. A certificate that Identify refuses may have more.
func Names(cert *x509.Certificate) []string {
	var names []string
	if id, _, err := Profile(cert); err == nil && id != "" {
		names = append(names, id)
	}
	if cn, err := firstCommonName(cert.Subject); err == nil && cn != "" && !slices.Contains(names, cn) {
		names = append(names, cn)
	}
	return names
}

var oidCommonName = asn1.ObjectIdentifier{2, 5, 4, 3}

// firstCommonName returns "" for a subject without one. It does not use the field that
// crypto/x509 fills, which holds the last.
func firstCommonName(subject pkix.Name) (string, error) {
	for _, attr := range subject.Names {
		if !attr.Type.Equal(oidCommonName) {
			continue
		}
		cn, ok := attr.Value.(string)
		if !ok {
			return "", errors.New("common name is not a string")
		}
		return cn, CheckCommonName(cn)
	}
	return "", nil
}

// CheckCommonName refuses what could pass for another name to a person or a program:
// invisible characters, outer blanks, and our own form of a fingerprint.
func CheckCommonName(cn string) error {
	switch {
	case len(cn) > sealmq.MaxNameBytes:
		return fmt.Errorf("common name is longer than %d bytes", sealmq.MaxNameBytes)
	case !utf8.ValidString(cn):
		return errors.New("common name is not valid UTF-8")
	case strings.ContainsFunc(cn, func(r rune) bool { return !sealmq.Visible(r) }):
		return errors.New("common name contains an invisible character")
	case strings.TrimSpace(cn) != cn:
		return errors.New("common name begins or ends with white space")
	case strings.HasPrefix(strings.ToLower(cn), fingerprintPrefix):
		return errors.New("common name looks like a fingerprint")
	}
	return nil
}

// Profile returns the client and the role that a certificate claims by its URIs, each
// empty if it claims none. Only Identify knows whether to believe the role.
func Profile(cert *x509.Certificate) (id string, role sealmq.Role, err error) {
	for _, u := range cert.URIs {
		if u.Scheme != uriScheme {
			continue
		}
		if u.String() != uriScheme+":"+u.Opaque {
			return "", "", errors.New("malformed sealmq URI")
		}
		if v, ok := strings.CutPrefix(u.Opaque, clientPrefix); ok && ValidID(v) {
			if id != "" {
				return "", "", errors.New("several client URIs")
			}
			id = v
			continue
		}
		if v, ok := strings.CutPrefix(u.Opaque, rolePrefix); ok && KnownRole(sealmq.Role(v)) {
			if role != "" {
				return "", "", errors.New("several role URIs")
			}
			role = sealmq.Role(v)
			continue
		}
		return "", "", errors.New("unknown sealmq URI")
	}
	return id, role, nil
}

// Serial is how a certificate's serial number is written everywhere: lower-case
// hexadecimal without a prefix.
func Serial(cert *x509.Certificate) string { return cert.SerialNumber.Text(16) }

// Fingerprint is the SHA-256 of a certificate in lower-case hexadecimal.
func Fingerprint(cert *x509.Certificate) string { return hexSum(cert.Raw) }

// Issuer is how an Identity names the root that its certificate chains to: by the SHA-256
// of the root's public key.
func Issuer(root *x509.Certificate) string {
	return fingerprintPrefix + hexSum(root.RawSubjectPublicKeyInfo)
}

func hexSum(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
