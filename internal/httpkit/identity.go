package httpkit

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/mtls"
)

// Texts of refusals that outside programs compare (specification 1.1 and 1.2).
const (
	TextNoIdentity = "Invalid or missing client certificate"
	TextRevoked    = "Client certificate has been revoked"
)

// TextStale is the refusal of everybody while it is not known what is revoked.
const TextStale = "Revocations have not been received for too long; try again later"

// ErrNoIdentity is what an Authenticate returns for a request that shows nothing it knows.
var ErrNoIdentity = errors.New("no identity")

// peer is what is known of the certificate of a connection, so that it is not worked out
// again for each of its requests. A revocation is asked for each request.
type peer struct {
	caller     Caller
	validUntil time.Time
}

// identify says who makes a request by its certificate. known is false if none was shown.
func (rt *Router) identify(r *http.Request) (c Caller, known bool, err error) {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return Caller{}, false, nil
	}
	conn := connectionOf(r.Context())
	var p *peer
	if conn != nil {
		p = conn.peer.Load()
	}
	// With one chain nothing but its revocation and the time can change who it is.
	if len(r.TLS.VerifiedChains) != 1 {
		p = nil
	} else if rev := rt.cfg.Identifier.Revocation; p != nil && rev != nil {
		if err := rev.Check(r.TLS.VerifiedChains[0]); err != nil {
			return Caller{}, false, rt.refuse(err)
		}
	}
	if p == nil {
		id, err := rt.cfg.Identifier.Identify(*r.TLS)
		if err != nil {
			return Caller{}, false, rt.refuse(err)
		}
		p = &peer{caller: Caller{Identity: id, Source: ByCertificate, Fingerprint: mtls.Fingerprint(r.TLS.PeerCertificates[0])},
			validUntil: mtls.ValidUntil(*r.TLS)}
		if conn != nil {
			conn.peer.Store(p)
		}
	}
	if rt.cfg.Now().After(p.validUntil) {
		rt.seen("expired")
		return Caller{}, false, &Error{Code: CodeAuthentication, Message: "Client certificate has expired", Close: true}
	}
	rt.seen("valid")
	return p.caller, true, nil
}

func (rt *Router) refuse(err error) error {
	if errors.Is(err, mtls.ErrRevoked) {
		rt.seen("revoked")
		return &Error{Code: CodeAuthorization, Message: TextRevoked, Close: true, Err: err}
	}
	if errors.Is(err, mtls.ErrStale) {
		rt.seen("unverified")
		return &Error{Code: CodeUnavailable, Message: TextStale, Close: true, Err: err}
	}
	rt.seen("untrusted")
	return &Error{Code: CodeAuthentication, Message: TextNoIdentity, Close: true, Err: err}
}

func (rt *Router) seen(result string) {
	if rt.cfg.CertificateSeen != nil {
		rt.cfg.CertificateSeen(result)
	}
}

// admit identifies the caller of a request and checks that the route is for it.
func (rt *Router) admit(r *http.Request, q *request) error {
	o := &q.route.options
	if o.Access == Public {
		return nil
	}
	c, known, err := rt.identify(r)
	if err == nil {
		q.relay = known && c.Role == sealmq.RoleServer && rt.cfg.OwnIssuer != nil && rt.cfg.OwnIssuer(c.Issuer)
		c, known, err = rt.authenticate(r, c, known)
	}
	q.caller, q.known = c, known && err == nil
	if err != nil {
		return err
	}
	switch {
	case !known && (o.Access == Required || o.Access == Person):
		return &Error{Code: CodeAuthentication, Message: TextNoIdentity, Challenge: rt.cfg.Challenge}
	case o.Access == Person && c.Account == nil:
		return Errorf(CodeAuthorization, "This is for accounts; log in with one")
	}
	if len(o.Roles) == 0 || known && slices.Contains(o.Roles, c.Role) {
		return nil
	}
	return Errorf(CodeAuthorization, "The role of this identity may not do this")
}

// Readmit looks again whether the caller of a request may make it. It is for handlers whose
// answer takes long: certificates and sessions end meanwhile.
func Readmit(r *http.Request) error {
	q := requestOf(r.Context())
	if q.route == nil {
		return nil
	}
	again := request{route: q.route}
	if err := q.route.router.admit(r, &again); err != nil {
		return err
	}
	if again.known != q.known || again.caller.ID != q.caller.ID {
		return Errorf(CodeAuthentication, "This is another caller's now")
	}
	return nil
}

// authenticate asks the listener who makes a request with a token, or without a certificate.
func (rt *Router) authenticate(r *http.Request, c Caller, known bool) (Caller, bool, error) {
	token, isToken := bearer(r)
	err := ErrNoIdentity
	switch {
	case isToken && rt.cfg.Bearer != nil:
		c, err = rt.cfg.Bearer(r, token)
	case known:
		return c, true, nil
	case rt.cfg.Authenticate != nil:
		c, err = rt.cfg.Authenticate(r)
	}
	switch {
	case err == nil:
		rt.seen(string(c.Source))
		return c, true, nil
	case errors.Is(err, ErrNoIdentity):
		rt.seen("missing")
		return Caller{}, false, nil
	}
	return c, false, err
}

// maxToken bounds a token in a header.
const maxToken = 4096

// bearer is the token in the header Authorization.
func bearer(r *http.Request) (token string, ok bool) {
	values := r.Header["Authorization"]
	if len(values) != 1 || len(values[0]) > maxToken {
		return "", len(values) > 0
	}
	scheme, token, ok := strings.Cut(values[0], " ")
	return strings.TrimSpace(token), ok && strings.EqualFold(scheme, "Bearer")
}

// BearerToken is the token in a request's header Authorization, or empty.
func BearerToken(r *http.Request) string {
	token, ok := bearer(r)
	if !ok {
		return ""
	}
	return token
}
