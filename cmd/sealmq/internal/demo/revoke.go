package demo

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/sealmq/sealmq/api/mainapi"
	"github.com/sealmq/sealmq/api/proxyapi"
)

// noMessage is the id of a message that nobody submitted.
const noMessage = "00000000-0000-7000-8000-000000000000"

// runRevocation revokes a client, as an administrator does whose client's certificate was
// stolen, and measures how long its open connection is still good.
func (d *Demo) runRevocation(ctx context.Context) (*TrustResult, error) {
	admin, closeAdmin, err := d.mainClient()
	if err != nil {
		return nil, err
	}
	defer closeAdmin()
	thief, closeThief, err := d.proxyClient(Client)
	if err != nil {
		return nil, err
	}
	defer closeThief()
	if refused, err := isRefused(ctx, thief); refused || err != nil {
		return nil, errors.Join(fmt.Errorf("%s is refused before it is revoked", Client), err)
	}
	began := time.Now()
	revoked := make(chan error, 1)
	go func() {
		r, err := admin.RevokeClientWithResponse(ctx, Client, mainapi.RevokeRequest{Reason: "keyCompromise"})
		if err == nil && r.JSON200 == nil {
			err = fmt.Errorf("the main server answered %s", r.HTTPResponse.Status)
		}
		revoked <- err
	}()
	acted, err := waitRefused(ctx, thief)
	if err = errors.Join(<-revoked, err); err != nil {
		return nil, fmt.Errorf("revoke %s: %w", Client, err)
	}
	r := &TrustResult{RevocationMS: float64(acted.Sub(began).Microseconds()) / 1000}
	d.cfg.Say("revoked the certificate of %s: its open connection was refused after %.0f ms", Client, r.RevocationMS)

	again, closeAgain, err := d.proxyClient(Client)
	if err != nil {
		return nil, err
	}
	defer closeAgain()
	other, closeOther, err := d.proxyClient(OtherClient)
	if err != nil {
		return nil, err
	}
	defer closeOther()
	newRefused, err := isRefused(ctx, again)
	if err != nil {
		return nil, err
	}
	otherRefused, err := isRefused(ctx, other)
	r.RevokedRefused = newRefused && !otherRefused
	return r, err
}

// waitRefused makes calls until one is refused, and returns when that was.
func waitRefused(ctx context.Context, c *proxyapi.ClientWithResponses) (time.Time, error) {
	for began := time.Now(); time.Since(began) < stallTime; {
		if refused, err := isRefused(ctx, c); refused || err != nil {
			return time.Now(), err
		}
	}
	return time.Time{}, errors.New("it was never refused")
}

// isRefused makes a call that changes nothing, and reports whether the proxy refused its
// caller. A connection that the proxy has closed counts as refused.
func isRefused(ctx context.Context, c *proxyapi.ClientWithResponses) (bool, error) {
	r, err := c.GetOwnMessageWithResponse(ctx, noMessage)
	switch {
	case ctx.Err() != nil:
		return false, ctx.Err()
	case err != nil:
		return true, nil
	}
	switch r.HTTPResponse.StatusCode {
	case http.StatusForbidden:
		return true, nil
	case http.StatusNotFound:
		return false, nil
	}
	return false, fmt.Errorf("the proxy answered %s", r.HTTPResponse.Status)
}
