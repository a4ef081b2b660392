package mtls

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/sealmq/sealmq/internal/clock"
)

// Options change how a configuration behaves. The zero value is right for most.
type Options struct {
	// MinVersion is tls.VersionTLS12 (default) or tls.VersionTLS13.
	MinVersion uint16
	// Revocation, if not nil, is asked at every handshake, those of resumed sessions
	// included.
	Revocation Revocation
	// Log hears of files that were loaded or cannot be used, and of certificates that
	// are about to expire. Nil discards.
	Log *slog.Logger
	// Clock is the time for reloading; nil is the system's.
	Clock clock.Clock
	// ReloadEvery is how often the files are looked at, at most; 0 is
	// DefaultReloadEvery.
	ReloadEvery time.Duration
	// AnswerRevoked lets clients with revoked certificates, and those of whom it is not
	// known, through the handshake of an HTTPSConfig, so that they get an answer instead of
	// a broken connection. An Identifier, which the caller asks for each request, must
	// refuse them.
	AnswerRevoked bool

	bare *bareCertificates
}

func (o Options) normalize() (Options, error) {
	switch o.MinVersion {
	case 0:
		o.MinVersion = tls.VersionTLS12
	case tls.VersionTLS12, tls.VersionTLS13:
	default:
		return o, fmt.Errorf("TLS version %s is not supported", tls.VersionName(o.MinVersion))
	}
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	o.Clock = cmp.Or(o.Clock, clock.System)
	o.ReloadEvery = cmp.Or(o.ReloadEvery, DefaultReloadEvery)
	o.bare = &bareCertificates{log: o.Log}
	return o, nil
}

// Revocation knows the certificates that were withdrawn before their time.
type Revocation interface {
	// Check returns an error that wraps ErrRevoked if a certificate of a verified chain,
	// leaf first and root last, is revoked, and any other error if that is not known. The
	// root of a longer chain is not asked about: it is taken out of the CA file instead.
	// Check must not block, and must be safe for concurrent use.
	Check(chain []*x509.Certificate) error
}

// ErrRevoked says that a certificate is revoked.
var ErrRevoked = errors.New("certificate is revoked")

// ErrStale says that it is not known whether a certificate is revoked, because the list is
// too old.
var ErrStale = errors.New("the list of what is revoked is too old")

// cipherSuites are those of TLS 1.2 with forward secrecy and authenticated encryption,
// which are also all that CipherMQ knows. TLS 1.3 has no others.
var cipherSuites = []uint16{
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
	tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
}

// ServerConfig returns the configuration of a listener that requires a client
// certificate.
//
// The certificate must chain to files.CA and be within its dates. X.509 v1
// certificates and those without subject alternative names, extended key usage or
// common name are good; an extended key usage that is present must allow client
// authentication, and a key usage digital signature. The certificate of an authority is no
// client's, and RSA keys have at least 2048 bits. Every issuer between the certificate and
// the root must be marked as an authority. A certificate without any extension is warned
// about once.
//
// Sessions are not resumed: a ticket would outlive a change of the files, saves only
// the signatures of a handshake, and none of the known clients asks for it.
//
// Changed files are used from the next handshake on, at most o.ReloadEvery later. If
// the new ones cannot be used the old ones stay and the log says why. Open connections
// keep what they have.
func ServerConfig(files Files, o Options) (*tls.Config, error) {
	return listenerConfig(files, o, serverConfig)
}

// HTTPSConfig returns the configuration of an HTTPS server, for HTTP/2 and HTTP/1.1. It
// is that of ServerConfig, except that a client may come without a certificate: then its
// requests must show who it is. A certificate that is shown is checked as usual, and one
// that is not accepted ends the handshake.
//
// A revocation is asked for at handshakes only. On open connections have an Identifier
// identify each request.
func HTTPSConfig(files Files, o Options) (*tls.Config, error) {
	return listenerConfig(files, o, func(m *material, o Options) *tls.Config {
		c := serverConfig(m, o)
		c.NextProtos = []string{"h2", "http/1.1"}
		c.ClientAuth = tls.VerifyClientCertIfGiven
		verify := c.VerifyConnection
		c.VerifyConnection = func(cs tls.ConnectionState) error {
			if len(cs.PeerCertificates) == 0 {
				return nil
			}
			if err := verify(cs); err != nil && !(o.AnswerRevoked && (errors.Is(err, ErrRevoked) || errors.Is(err, ErrStale))) {
				return err
			}
			return nil
		}
		return c
	})
}

// BrowserConfig returns the configuration of an HTTPS server for people. It asks for no
// client certificate, because a browser would ask its user for one.
func BrowserConfig(files Files, o Options) (*tls.Config, error) {
	return listenerConfig(files, o, func(m *material, o Options) *tls.Config {
		c := serverConfig(m, o)
		c.NextProtos = []string{"h2", "http/1.1"}
		c.ClientAuth, c.ClientCAs, c.VerifyConnection = tls.NoClientCert, nil, nil
		return c
	})
}

// listenerConfig builds configurations from files, and builds the next one when the files
// have changed.
func listenerConfig(files Files, o Options, build func(*material, Options) *tls.Config) (*tls.Config, error) {
	o, err := o.normalize()
	if err != nil {
		return nil, err
	}
	if files.Cert == "" || files.Key == "" || files.CA == "" {
		return nil, errors.New("a TLS listener needs a certificate, its key and a CA file")
	}
	r, err := newReloader(files, o.Log, o.Clock, o.ReloadEvery, func(m *material) *tls.Config {
		warnServerCertificate(o, files.Cert, m.certs[0].Leaf)
		return build(m, o)
	})
	if err != nil {
		return nil, err
	}
	cfg := r.get().Clone()
	cfg.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return r.get(), nil }
	return cfg, nil
}

func serverConfig(m *material, o Options) *tls.Config {
	return &tls.Config{
		MinVersion:             o.MinVersion,
		CipherSuites:           cipherSuites,
		Certificates:           m.certs,
		ClientAuth:             tls.RequireAndVerifyClientCert,
		ClientCAs:              m.roots,
		SessionTicketsDisabled: true,
		// Small records first would split one reply over several reads of a client
		// that expects it in one.
		DynamicRecordSizingDisabled: true,
		VerifyConnection: func(cs tls.ConnectionState) error {
			if err := CheckClient(cs.VerifiedChains); err != nil {
				return err
			}
			err := verifyChains(cs.VerifiedChains, o.Revocation)
			if err == nil {
				o.bare.warn(cs.VerifiedChains[0])
			}
			return err
		},
	}
}

// verifyChains asks for one chain without a revoked certificate. It does not rely on
// the caller's settings: no chain is no permission.
func verifyChains(chains [][]*x509.Certificate, rev Revocation) error {
	err := errors.New("peer has no verified certificate")
	for _, chain := range chains {
		if rev == nil {
			return nil
		}
		if err = rev.Check(chain); err == nil {
			return nil
		}
	}
	return err
}

// expiryWarning is how long before its end a certificate is warned about.
const expiryWarning = 14 * 24 * time.Hour

func warnServerCertificate(o Options, file string, leaf *x509.Certificate) {
	left := leaf.NotAfter.Sub(o.Clock.Now())
	switch {
	case left <= 0:
		o.Log.Error("the server certificate has expired, clients will refuse it", "file", file, "not_after", leaf.NotAfter)
	case left < expiryWarning:
		o.Log.Warn("the server certificate expires soon", "file", file, "not_after", leaf.NotAfter)
	}
	if len(leaf.DNSNames) == 0 && len(leaf.IPAddresses) == 0 {
		o.Log.Warn("the server certificate names no host, only clients that do not check the name will accept it", "file", file)
	}
}
