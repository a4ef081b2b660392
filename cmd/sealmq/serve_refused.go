package main

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"

	"github.com/sealmq/sealmq/api/mainapi"
	"github.com/sealmq/sealmq/internal/httpkit"
	"github.com/sealmq/sealmq/mtls"
)

// refusedAt notes whom the listener of a role did not let in because of its certificate.
func (n *node) refusedAt(role string) func(net.Addr, tls.ConnectionState, error) {
	return func(remote net.Addr, cs tls.ConnectionState, err error) {
		if name, why, ok := mtls.Refused(cs, err, mtls.Pool(authorities(n.files.CA)...)); ok {
			host, _, _ := net.SplitHostPort(remote.String())
			n.refused.Note(role, name, why, host)
		}
	}
}

// deniedAt notes whose requests the listener of a role did not let in.
func (n *node) deniedAt(role string) func(*http.Request, string, httpkit.Caller, *httpkit.Error) {
	return func(r *http.Request, _ string, c httpkit.Caller, e *httpkit.Error) {
		name := c.ID
		if name == "" && r.TLS != nil {
			name, _, _ = mtls.Refused(*r.TLS, e, nil)
		}
		n.refused.Note(role, name, e.Message, httpkit.ClientAddress(r))
	}
}

// recordRefused puts on record whom the listeners of this process did not let in, and what
// administrators did at its broker.
func (n *node) recordRefused(ctx context.Context) error {
	var commands sync.WaitGroup
	defer commands.Wait()
	commands.Go(func() { n.commands.Run(ctx, n.pipeline.store, n.logOf("main")) })
	n.refused.Run(ctx, func(ctx context.Context, report mainapi.RefusedReport) error {
		report.Node = n.self().Name
		return n.pipeline.refused.Add(ctx, report)
	}, n.logOf("main"))
	return nil
}
