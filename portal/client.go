package portal

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/sealmq/sealmq/api/mainapi"
	"github.com/sealmq/sealmq/internal/httpkit"
)

// apiError is an answer of the main server that is an error.
type apiError struct {
	Status  int
	Problem mainapi.Problem
}

func (e *apiError) Error() string {
	return fmt.Sprintf("the main server answered %d %s", e.Status, e.Problem.Code)
}

// awayError says that the main server did not answer.
type awayError struct {
	since time.Time // when it was noticed first
	err   error
}

func (e *awayError) Error() string { return "the main server cannot be reached: " + e.err.Error() }
func (e *awayError) Unwrap() error { return e.err }

// hasCode reports whether an error is an answer of the API with a code.
func hasCode(err error, code httpkit.Code) bool {
	e, ok := errors.AsType[*apiError](err)
	return ok && string(e.Problem.Code) == string(code)
}

// caller makes the calls of the generated client. An answer that is an error becomes an
// *apiError, so that handlers see answers of one kind only.
type caller struct {
	http *http.Client
	now  func() time.Time
	away atomic.Int64 // since when nothing was answered, in nanoseconds since 1970; 0 if it answers
}

func newCaller(rt http.RoundTripper, now func() time.Time) *caller {
	return &caller{now: now, http: &http.Client{Transport: rt, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

// Timeouts of connections to the main server. A call ends with its page.
const (
	dialTimeout = 5 * time.Second
	idleTimeout = time.Minute
)

// Remote is a transport to a main server in another process. conf is what mtls.ClientConfig
// returns, with a certificate of the role server.
func Remote(conf *tls.Config) http.RoundTripper {
	return &http.Transport{
		TLSClientConfig:     conf,
		DialContext:         (&net.Dialer{Timeout: dialTimeout}).DialContext,
		TLSHandshakeTimeout: dialTimeout,
		IdleConnTimeout:     idleTimeout,
		ForceAttemptHTTP2:   true, // many streams of events share a connection
	}
}

// maxProblem bounds the body of an error.
const maxProblem = 256 << 10

// Do implements mainapi.HttpRequestDoer.
func (c *caller) Do(r *http.Request) (*http.Response, error) {
	resp, err := c.http.Do(r)
	if err != nil {
		if context.Cause(r.Context()) == context.Canceled { //nolint:errorlint // the browser has gone
			return nil, err
		}
		c.away.CompareAndSwap(0, c.now().UnixNano())
		return nil, &awayError{time.Unix(0, c.away.Load()), err}
	}
	c.away.Store(0)
	if resp.StatusCode < http.StatusBadRequest {
		return resp, nil
	}
	defer resp.Body.Close()
	e := &apiError{Status: resp.StatusCode}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxProblem))
	if err == nil {
		_ = json.Unmarshal(data, &e.Problem) // without it the status says enough
	}
	e.Problem.Detail = sentence(e.Problem.Detail)
	for i := range e.Problem.Errors {
		e.Problem.Errors[i].Msg = sentence(e.Problem.Errors[i].Msg)
	}
	if e.Problem.RetryAfter == 0 {
		e.Problem.RetryAfter, _ = strconv.Atoi(resp.Header.Get("Retry-After"))
	}
	return nil, e
}

// address is the IP address of a browser. A reverse proxy that is trusted says it in the last
// X-Forwarded-For.
func (p *Portal) address(r *http.Request) string {
	return httpkit.AddressOf(r, slices.ContainsFunc(p.cfg.TrustedProxies, func(n netip.Prefix) bool { return n.Contains(httpkit.Peer(r)) }))
}

// client is the API as a visit calls it: with its session, for its address.
func (v *visit) client() (*mainapi.ClientWithResponses, error) {
	return mainapi.NewClientWithResponses(v.portal.cfg.Main, mainapi.WithHTTPClient(v.portal.caller),
		mainapi.WithRequestEditorFn(func(_ context.Context, r *http.Request) error {
			if v.token != "" {
				r.Header.Set("Authorization", "Bearer "+v.token)
			}
			r.Header.Set("X-Request-Id", httpkit.RequestID(v.r.Context()))
			r.Header.Set("User-Agent", v.r.UserAgent())
			r.Header.Set("X-Forwarded-For", v.portal.address(v.r))
			if v.page.stream || v.r.Header.Get(httpkit.UnattendedHeader) != "" {
				r.Header.Set(httpkit.UnattendedHeader, "1")
			}
			return nil
		}), mainapi.WithRequestEditorFn(mainapi.OmitEmpty))
}
