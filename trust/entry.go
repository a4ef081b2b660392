package trust

import (
	"cmp"
	"fmt"
	"strings"
	"time"
)

// Scope says what an Entry revokes.
type Scope string

// The scopes.
const (
	// ScopeCertificate is one certificate.
	ScopeCertificate Scope = "cert"
	// ScopeName is every certificate of a name, whichever accepted authority issued it.
	ScopeName Scope = "cn"
)

// Entry is one revocation, as it is stored and as other components get it.
type Entry struct {
	// Version is the number of the change that made the entry. It is zero for an entry of a
	// file that has no numbers.
	Version uint64 `json:"version,omitempty"`
	// Name is the identity or common name of the certificate's owner. It may be empty if the
	// scope is ScopeCertificate.
	Name string `json:"client_id,omitempty"`
	// Serial is written as mtls.Serial does. Without an Issuer it counts only for
	// certificates of Name.
	Serial string `json:"serial,omitempty"`
	// Fingerprint is written as mtls.Fingerprint does. A certificate has one of Serial and
	// Fingerprint, or both.
	Fingerprint string `json:"fingerprint,omitempty"`
	Scope       Scope  `json:"scope,omitempty"`
	// Issuer is mtls.Issuer of the root or of the certificate that signed. Empty is every
	// accepted authority.
	Issuer string `json:"issuer,omitempty"`
	// IssuedBefore ends the revocation of a name: a certificate that is valid only from then
	// on is good. It is zero if no certificate of the name is.
	IssuedBefore time.Time `json:"issued_before,omitzero"`
	// ExpiresAt is when the certificate expires, if that is known.
	ExpiresAt time.Time `json:"expires_at,omitzero"`
	Code      Reason    `json:"reason_code,omitempty"`
	// Reason is for people.
	Reason    string    `json:"reason,omitempty"`
	RevokedAt time.Time `json:"revoked_at,omitzero"`
}

// Unnumbered is what the entry says, whatever number it has. Two that say the same are equal.
func (e Entry) Unnumbered() Entry {
	e.Version = 0
	for _, t := range []*time.Time{&e.IssuedBefore, &e.ExpiresAt, &e.RevokedAt} {
		*t = t.UTC()
	}
	return e
}

// Reason is a CRLReason of RFC 5280, section 5.3.1.
type Reason int

// The reasons for which this product revokes. Lists of other authorities may have more.
const (
	Unspecified          Reason = 0
	KeyCompromise        Reason = 1
	AffiliationChanged   Reason = 3
	Superseded           Reason = 4
	CessationOfOperation Reason = 5
	PrivilegeWithdrawn   Reason = 9
)

// MaxReasonBytes bounds Entry.Reason.
const MaxReasonBytes = 500

var reasonNames = map[Reason]string{
	Unspecified: "unspecified", KeyCompromise: "keyCompromise", 2: "cACompromise", AffiliationChanged: "affiliationChanged",
	Superseded: "superseded", CessationOfOperation: "cessationOfOperation", 6: "certificateHold", 8: "removeFromCRL",
	PrivilegeWithdrawn: "privilegeWithdrawn", 10: "aACompromise",
}

// String is the reason's name in RFC 5280.
func (r Reason) String() string {
	if name := reasonNames[r]; name != "" {
		return name
	}
	return fmt.Sprintf("reason %d", int(r))
}

// ParseReason finds the reason that a text names, as in "keyCompromise", "key-compromise" or
// "Key compromise". Any other text is a free one and Unspecified.
func ParseReason(text string) Reason {
	plain := func(s string) string {
		return strings.ToLower(strings.NewReplacer("-", "", "_", "", " ", "").Replace(s))
	}
	for _, r := range []Reason{KeyCompromise, AffiliationChanged, Superseded, CessationOfOperation, PrivilegeWithdrawn} {
		if plain(text) == strings.ToLower(r.String()) {
			return r
		}
	}
	return Unspecified
}

// check returns an error for an entry that names nothing, or in another form than ours.
func (e *Entry) check() error {
	switch {
	case e.Scope != ScopeCertificate && e.Scope != ScopeName:
		return fmt.Errorf("scope %q is neither cert nor cn", string(e.Scope))
	case e.Scope == ScopeName && e.Name == "":
		return fmt.Errorf("an entry for a name has none")
	case e.Scope == ScopeCertificate && e.Serial == "" && e.Fingerprint == "":
		return fmt.Errorf("an entry for a certificate has neither serial number nor fingerprint")
	case e.Serial != "" && (!isHex(e.Serial, 1, 64) || e.Serial[0] == '0' && e.Serial != "0"):
		return fmt.Errorf("serial number %q is not in lower-case hexadecimal without leading zeros", e.Serial)
	case e.Serial != "" && e.Issuer == "" && e.Name == "" && e.Fingerprint == "":
		return fmt.Errorf("serial number %s is without its issuer", e.Serial)
	case e.Fingerprint != "" && !isHex(e.Fingerprint, 64, 64):
		return fmt.Errorf("fingerprint %q is not a SHA-256 in lower-case hexadecimal", e.Fingerprint)
	case e.Issuer != "" && !isIssuer(e.Issuer):
		return fmt.Errorf("issuer %q is not sha256: and 64 hexadecimal digits", e.Issuer)
	case len(e.Reason) > 4*MaxReasonBytes, len(e.Name) > 4*MaxReasonBytes:
		return fmt.Errorf("a name or reason is too long")
	}
	return nil
}

func isIssuer(s string) bool {
	hex, ok := strings.CutPrefix(s, "sha256:")
	return ok && isHex(hex, 64, 64)
}

// isHex reports whether s has shortest to longest lower-case hexadecimal digits.
func isHex(s string, shortest, longest int) bool {
	return len(s) >= shortest && len(s) <= longest && strings.Trim(s, "0123456789abcdef") == ""
}

// HexForm turns a number as openssl and people write it into ours: without colons, blanks and
// "0x", in lower case.
func HexForm(s string) string {
	s = strings.ToLower(strings.NewReplacer(":", "", " ", "").Replace(s))
	return strings.TrimPrefix(s, "0x")
}

// SerialForm is HexForm without leading zeros.
func SerialForm(s string) string {
	s = HexForm(s)
	return cmp.Or(strings.TrimLeft(s, "0"), s[:min(len(s), 1)])
}
