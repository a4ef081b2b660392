package enroll

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/sealmq/sealmq/api/mainapi"
	"github.com/sealmq/sealmq/mtls"
)

const (
	callTimeout    = 30 * time.Second
	maxAnswerBytes = 1 << 20
	// clockError is by how much the clocks may differ before an error mentions it.
	clockError = time.Minute
)

// bounded limits answers: the server of a first call is not known yet.
type bounded struct{ http.RoundTripper }

func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.RoundTripper.RoundTrip(r)
	if err == nil {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(resp.Body, maxAnswerBytes), resp.Body}
	}
	return resp, err
}

// call makes one call of the main server.
func call(ctx context.Context, server string, conf *tls.Config, do func(context.Context, *mainapi.ClientWithResponses) error) error {
	tr := &http.Transport{TLSClientConfig: conf}
	defer tr.CloseIdleConnections()
	c, err := mainapi.NewClientWithResponses(server, mainapi.WithHTTPClient(&http.Client{Transport: bounded{tr}, Timeout: callTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return do(ctx, c)
}

// fetchRoot gets the authority's root from a server that is not believed yet, and compares its
// fingerprint. skew is by how much the server's clock is ahead of this one.
func fetchRoot(ctx context.Context, server, fingerprint string, now func() time.Time) (root *x509.Certificate, skew time.Duration, err error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: true} //nolint:gosec // the fingerprint is compared, and nothing secret is sent
	err = call(ctx, server, conf, func(ctx context.Context, c *mainapi.ClientWithResponses) error {
		r, err := c.GetAuthorityWithResponse(ctx)
		if err != nil {
			return unreachable(server, err)
		}
		if r.StatusCode() != http.StatusOK {
			return &hintError{fmt.Sprintf("%s answered %s to the question for its authority", server, r.Status()), "name the address of a node with the role main"}
		}
		if at, err := http.ParseTime(r.HTTPResponse.Header.Get("Date")); err == nil {
			skew = at.Sub(now().Truncate(time.Second))
		}
		certs, err := mtls.ParseAuthorities(r.Body)
		if err != nil {
			return fmt.Errorf("the authority of %s: %w", server, err)
		}
		for _, c := range certs {
			if mtls.Fingerprint(c) == fingerprint {
				root = c
				return nil
			}
		}
		return &hintError{fmt.Sprintf("the authority of %s has the fingerprint %s, and the token is for %s", server, mtls.Fingerprint(certs[0]), fingerprint),
			"nothing was sent; either this is another installation, or somebody answers in the server's place"}
	})
	return root, skew, err
}

func unreachable(server string, err error) error {
	return &hintError{fmt.Sprintf("the main server at %s cannot be reached: %v", server, err), "see that a node with the role main runs there, that its main.addr is no loopback address, and that no firewall is between"}
}

// explain says what the reader of a failed call can do.
func explain(server string, skew time.Duration, err error) error {
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	var unknown x509.UnknownAuthorityError
	switch {
	case errors.As(err, &host):
		return &hintError{fmt.Sprintf("the server's certificate is not for the name in %s: %v", server, host), "use a name of the certificate with --server, or add this one where the server is with \"sealmq init --host NAME\""}
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired && (skew > clockError || skew < -clockError):
		return &hintError{fmt.Sprintf("the server's certificate is not valid at the time of this machine, whose clock differs from the server's by %v", skew.Abs().Round(time.Second)), "set the clock of this machine"}
	case errors.As(err, &invalid):
		return &hintError{fmt.Sprintf("the server's certificate is not accepted: %v", err), "renew it where the server is"}
	case errors.As(err, &unknown):
		return &hintError{"another authority issued the server's certificate", "see that the address is the main server's, and that nothing between ends TLS"}
	}
	return unreachable(server, err)
}

// RefusedError says that the main server has answered and gives no certificate.
type RefusedError struct {
	Status     int
	Message    string
	RetryAfter time.Duration
}

// Error is what the server said.
func (e *RefusedError) Error() string { return "the main server gives no certificate: " + e.Message }

func refused(resp *http.Response, p *mainapi.Problem) error {
	e := &RefusedError{Status: resp.StatusCode, Message: resp.Status}
	if p != nil {
		if e.Message = p.Detail; len(p.Errors) > 0 {
			e.Message = p.Errors[0].Msg
		}
		e.RetryAfter = time.Duration(p.RetryAfter) * time.Second
	}
	return e
}

// checkIssued parses a new certificate, which must be for the key and below the root.
func checkIssued(c *mainapi.IssuedCertificate, root *x509.CertPool, key crypto.Signer) ([]*x509.Certificate, error) {
	certs, err := mtls.ParseCertificates([]byte(c.Certificate))
	if err != nil {
		return nil, fmt.Errorf("the certificate that the main server sent: %w", err)
	}
	if err := mtls.CheckPair(certs[0], key); err != nil {
		return nil, fmt.Errorf("the main server sent a certificate for another key: %w", err)
	}
	// The clock may be wrong here, and is no reason to throw a certificate away.
	_, err = certs[0].Verify(x509.VerifyOptions{Roots: root, Intermediates: mtls.Pool(certs[1:]...), CurrentTime: certs[0].NotBefore, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	if err != nil {
		return nil, fmt.Errorf("the certificate that the main server sent is not of its authority: %w", err)
	}
	return certs, nil
}

func digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}
