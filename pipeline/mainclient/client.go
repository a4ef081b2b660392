// Package mainclient is the pipeline.Main of a proxy or worker whose main server is another
// process: calls over HTTPS with the caller's certificate.
//
// It keeps nothing, and repeats nothing by itself: proxies and workers know what may be
// repeated, and when.
package mainclient

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/api/mainapi"
	"github.com/sealmq/sealmq/internal/clock"
	"github.com/sealmq/sealmq/mtls"
	"github.com/sealmq/sealmq/pipeline"
)

// Timeouts of a call.
const (
	dialTimeout = 5 * time.Second
	callTimeout = 30 * time.Second
)

// maxConnections bounds the connections to the main server.
const maxConnections = 16

// Client is a pipeline.Main.
type Client struct {
	// Self is what this process tells the main server about itself. It is set before the first
	// call.
	Self Self

	api  *mainapi.ClientWithResponses
	time *clock.Other // of the main server
	http *http.Transport
	own  func(*tls.CertificateRequestInfo) (*tls.Certificate, error)
}

// Self is a process as the overview shows it.
type Self struct {
	// Name is its name among the processes of its role: the worker's, or the host's.
	Name string
	// Roles are what it does: broker, proxy, worker, portal.
	Roles   []string
	Version string
	// Host is the machine, and Started when the process was.
	Host    string
	Started time.Time
}

// New returns a client for the main server at a URL, https://host:port. conf is what
// mtls.ClientConfig returns, with the caller's certificate; the server's name is the URL's
// host. Nothing is connected before the first call.
func New(address string, conf *tls.Config) (*Client, error) {
	if err := pipeline.CheckMainAddress(address); err != nil {
		return nil, err
	}
	t := &http.Transport{
		TLSClientConfig:     conf,
		DialContext:         (&net.Dialer{Timeout: dialTimeout}).DialContext,
		TLSHandshakeTimeout: dialTimeout,
		MaxConnsPerHost:     maxConnections,
		MaxIdleConnsPerHost: maxConnections,
		IdleConnTimeout:     time.Minute,
		ForceAttemptHTTP2:   false, // large bodies on connections of their own do not wait for each other
	}
	other := new(clock.Other)
	c := &http.Client{Transport: timed{t, other}, Timeout: callTimeout, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	api, err := mainapi.NewClientWithResponses(address, mainapi.WithHTTPClient(c))
	if err != nil {
		return nil, err
	}
	return &Client{api: api, time: other, http: t, own: conf.GetClientCertificate}, nil
}

// Clock is the main server's clock, as its answers show it.
func (c *Client) Clock() *clock.Other { return c.time }

// timed notes the time that each answer says it is.
type timed struct {
	http.RoundTripper
	clock *clock.Other
}

func (t timed) RoundTrip(r *http.Request) (*http.Response, error) {
	asked := time.Now()
	resp, err := t.RoundTripper.RoundTrip(r)
	if err != nil {
		return resp, err
	}
	if at, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		t.clock.Answered(at, asked, time.Now())
	}
	return resp, nil
}

// Close closes the connections that are not in use.
func (c *Client) Close() error {
	c.http.CloseIdleConnections()
	return nil
}

// maxCallBytes bounds the items of one request, so that it stays well below the main server's
// limit for a body (16 MiB). One item is smaller than this.
const maxCallBytes = 8 << 20

// parts calls f for parts of items that are small enough for one request each, and collects
// the results. Entries are independent of each other, and may be repeated: so an error in the
// middle is one for the whole call.
func parts(items []pipeline.Item, f func([]pipeline.Item) ([]pipeline.Result, error)) (all []pipeline.Result, err error) {
	if len(items) == 0 { // which the main server refuses
		return f(items)
	}
	for start := 0; start < len(items); {
		end, size := start, 0
		for ; end < len(items); end++ {
			it := &items[end]
			// In JSON a byte of text takes six at most.
			size += 1024 + len(it.Sealed) + 6*(len(it.ClientID)+len(it.ClientKey)+len(it.MessageBody)+len(it.Metadata))
			if size > maxCallBytes && end > start {
				break
			}
		}
		results, err := f(items[start:end])
		if err != nil {
			return nil, err
		}
		all, start = append(all, results...), end
	}
	return all, nil
}

// Register implements pipeline.Main.
func (c *Client) Register(ctx context.Context, items []pipeline.Item) ([]pipeline.Result, error) {
	return parts(items, func(part []pipeline.Item) ([]pipeline.Result, error) {
		r, err := c.api.RegisterMessagesWithResponse(ctx, mainapi.RegisterRequest{Messages: part})
		if err != nil {
			return nil, failed(err)
		}
		return results(len(part), r.JSON200, r.HTTPResponse, r.ApplicationProblemJSONDefault)
	})
}

// Deliver implements pipeline.Main.
func (c *Client) Deliver(ctx context.Context, worker string, items []pipeline.Item) ([]pipeline.Result, error) {
	return parts(items, func(part []pipeline.Item) ([]pipeline.Result, error) {
		r, err := c.api.DeliverMessagesWithResponse(ctx, mainapi.DeliverRequest{WorkerID: worker, Messages: part})
		if err != nil {
			return nil, failed(err)
		}
		return results(len(part), r.JSON200, r.HTTPResponse, r.ApplicationProblemJSONDefault)
	})
}

// Status implements pipeline.Main.
func (c *Client) Status(ctx context.Context, updates []pipeline.Update) ([]pipeline.Result, error) {
	r, err := c.api.UpdateMessagesWithResponse(ctx, mainapi.StatusRequest{Updates: updates})
	if err != nil {
		return nil, failed(err)
	}
	return results(len(updates), r.JSON200, r.HTTPResponse, r.ApplicationProblemJSONDefault)
}

// Find implements pipeline.Main.
func (c *Client) Find(ctx context.Context, clientID, messageID string) (m pipeline.MessageState, found bool, err error) {
	r, err := c.api.FindMessageWithResponse(ctx, clientID, messageID)
	if err != nil {
		return m, false, failed(err)
	}
	if p := r.ApplicationProblemJSONDefault; p != nil && p.Code == "not_found" {
		return m, false, nil
	}
	if r.JSON200 == nil {
		return m, false, refused(r.HTTPResponse, r.ApplicationProblemJSONDefault)
	}
	return *r.JSON200, true, nil
}

// Keys implements pipeline.Main.
func (c *Client) Keys(ctx context.Context) (k pipeline.Keys, err error) {
	r, err := c.api.GetKeysWithResponse(ctx)
	if err != nil {
		return k, failed(err)
	}
	if r.JSON200 == nil {
		return k, refused(r.HTTPResponse, r.ApplicationProblemJSONDefault)
	}
	return pipeline.Keys{Entries: r.JSON200.Keys, IDKey: r.JSON200.IDKey}, nil
}

// results are those of an answer, if it has one for each of n entries.
func results(n int, ok *mainapi.Results, resp *http.Response, p *mainapi.Problem) ([]pipeline.Result, error) {
	switch {
	case ok == nil:
		return nil, refused(resp, p)
	case len(ok.Results) != n:
		return nil, unavailable("the main server answered %d of %d messages", len(ok.Results), n)
	}
	return ok.Results, nil
}

// failed is the error of a call that had no answer.
func failed(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err // the address says nothing that the operator does not know
	}
	var network *net.OpError
	if errors.As(err, &network) && network.Op == "dial" {
		err = fmt.Errorf("%w: %w", pipeline.ErrUnsent, err)
	}
	return &sealmq.Error{Code: sealmq.Unavailable, Message: "the main server does not answer", Err: err}
}

func unavailable(format string, args ...any) error {
	return &sealmq.Error{Code: sealmq.Unavailable, Message: fmt.Sprintf(format, args...)}
}

// textRevoked is how the main server refuses a caller whose certificate is revoked
// (specification 1.1).
const textRevoked = "Client certificate has been revoked"

// refused is the error of an answer that is not the expected one. What is not a refusal for
// good may pass.
func refused(resp *http.Response, p *mainapi.Problem) error {
	if p == nil {
		return unavailable("the main server answered %s", resp.Status)
	}
	text := fmt.Sprintf("the main server answered %d %s: %s (request %s)", p.Status, p.Code, p.Detail, p.RequestID)
	switch resp.StatusCode {
	case http.StatusForbidden:
		e := &sealmq.Error{Code: sealmq.Denied, Message: text}
		if p.Detail == textRevoked {
			e.Err = mtls.ErrRevoked
		}
		return e
	case http.StatusUnauthorized:
		return &sealmq.Error{Code: sealmq.Denied, Message: text}
	case http.StatusBadRequest, http.StatusUnprocessableEntity, http.StatusRequestEntityTooLarge:
		return &sealmq.Error{Code: sealmq.BadArgument, Message: text}
	}
	return &sealmq.Error{Code: sealmq.Unavailable, Message: text}
}
