package crash

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/internal/testing/netns"
)

// Revocation revokes a client on the host of each main server, and returns how long it took at
// most until every proxy and every main server refused it on an open connection. Then it takes
// the main servers away: a proxy that starts without them must refuse the clients too.
func Revocation(ctx context.Context, cfg Config, n *netns.Network, logf func(string, ...any)) (slowest time.Duration, err error) {
	a := newApart(cfg, n, logf)
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer func() {
		cancel()
		a.close()
	}()
	if err := a.start(ctx); err != nil {
		return 0, err
	}
	doors := map[string]string{"proxy-1": "8001", "proxy-2": "8001", "main-1": "8000", "main-2": "8000"}
	var clients []*http.Client
	for _, at := range []string{"main-1", "main-2"} {
		name := "revoked-at-" + at
		c, err := a.clientOf(at, name)
		if err != nil {
			return 0, err
		}
		clients = append(clients, c)
		for door, port := range doors {
			if _, err := a.until(ctx, c, door, port, false); err != nil {
				return 0, fmt.Errorf("before it is revoked, %s: %w", door, err)
			}
		}
		authority, err := ca.Open(a.folder(at), ca.Options{})
		if err != nil {
			return 0, err
		}
		began := time.Now()
		if _, err := authority.Revoke(ca.Revocation{Name: name}); err != nil {
			return 0, err
		}
		for door, port := range doors {
			when, err := a.until(ctx, c, door, port, true)
			if err != nil {
				return 0, fmt.Errorf("revoked at %s, and %s: %w", at, door, err)
			}
			took := when.Sub(began)
			slowest = max(slowest, took)
			logf("revoked at %s, refused by %s after %v at most", at, door, took.Round(time.Millisecond))
		}
	}
	for _, host := range []string{"main-1", "main-2", "proxy-1"} {
		a.kill(host)
	}
	if err := a.again(ctx, "proxy-1"); err != nil {
		return 0, err
	}
	for _, c := range clients {
		c.CloseIdleConnections()
		if revoked, err := a.refuses(ctx, c, "proxy-1", "8001"); !revoked {
			return 0, fmt.Errorf("a proxy that starts without main servers lets a revoked client in, or fails: %v", err)
		}
	}
	return slowest, nil
}

// until waits until a role refuses a client because it is revoked, or lets it in.
func (a *apart) until(ctx context.Context, c *http.Client, host, port string, revoked bool) (time.Time, error) {
	for {
		is, err := a.refuses(ctx, c, host, port)
		if err == nil && is == revoked {
			return time.Now(), nil
		}
		if !pause(ctx, 5*time.Millisecond) {
			return time.Now(), fmt.Errorf("that is known: %v, %v; it does not change", is, err)
		}
	}
}

// refuses reports whether a role says that a client's certificate is revoked.
func (a *apart) refuses(ctx context.Context, c *http.Client, host, port string) (bool, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+a.hosts[host].Addr(port)+"/api/v1/messages/none", nil)
	if err != nil {
		return false, err
	}
	resp, err := c.Do(req)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return strings.Contains(string(body), "has been revoked"), err
}
