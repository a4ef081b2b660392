package httpkit

import (
	"context"
	"encoding/hex"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"github.com/sealmq/sealmq"
)

// Source says how a caller was identified.
type Source string

// The sources. An Authenticate may return others.
const (
	ByCertificate Source = "certificate"
	ByHeader      Source = "header"
	ByAPIKey      Source = "api_key"
	ByToken       Source = "token"
)

// Caller is who makes a request.
type Caller struct {
	sealmq.Identity
	Source Source
	// Fingerprint is the SHA-256 of the certificate in lower-case hexadecimal, if one was
	// shown by the caller or named by a trusted reverse proxy.
	Fingerprint string
	// Account is the person behind a token, and nil for programs.
	Account *Account
}

// Account is what a handler needs of a person's account.
type Account struct {
	ID    int64
	Email string
	// ClientID is the client whose messages the account sees. It may be empty.
	ClientID string
	// Session is the login that the request belongs to; 0 if it came with an API token.
	Session int64
}

// request is what the kit knows of one request. It is used by its goroutine only.
type request struct {
	id      string
	style   Style
	route   *route
	caller  Caller
	known   bool // caller is set
	relay   bool // the peer may say for whom it asks
	failed  error
	started time.Time
	clock   func() time.Time
	body    body
}

func (q *request) now() time.Time {
	if q.clock != nil {
		return q.clock()
	}
	return time.Now()
}

type requestKey struct{}

// requestOf is the request of a context; outside one it is one without a route.
func requestOf(ctx context.Context) *request {
	if q, ok := ctx.Value(requestKey{}).(*request); ok {
		return q
	}
	return &request{id: newRequestID()}
}

// CallerOf is who makes the request of a context; ok is false on public routes, and on
// optional ones if the peer showed nothing.
func CallerOf(ctx context.Context) (c Caller, ok bool) {
	q := requestOf(ctx)
	return q.caller, q.known
}

// RequestID is the id of the request of a context. It is in the answer's X-Request-ID and
// in the log.
func RequestID(ctx context.Context) string { return requestOf(ctx).id }

const (
	requestIDHeader   = "X-Request-Id"
	maxRequestIDBytes = 64
	requestIDBytes    = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"
)

// requestIDOf takes over the id of a request if it is a plain word, or makes one.
func requestIDOf(r *http.Request) string {
	if v := r.Header[requestIDHeader]; len(v) == 1 && v[0] != "" && len(v[0]) <= maxRequestIDBytes && strings.Trim(v[0], requestIDBytes) == "" {
		return v[0]
	}
	return newRequestID()
}

func newRequestID() string {
	n := rand.Uint32()
	b := [12]byte{'r', 'e', 'q', '_'}
	hex.Encode(b[4:], []byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
	return string(b[:])
}
