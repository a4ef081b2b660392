package main

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/internal/httpkit"
	"github.com/sealmq/sealmq/internal/metrics"
	"github.com/sealmq/sealmq/mtls"
	"github.com/sealmq/sealmq/pipeline/brokerview"
	"github.com/sealmq/sealmq/pipeline/mainserver"
	"github.com/sealmq/sealmq/trust"
)

// revocationList opens the one list of what is revoked: what the authority in the data folder
// has revoked, and two files that people and scripts write. The file that the configuration
// names must exist; the others appear with the first revocation. caFile has the accepted
// authorities.
func (c *Config) revocationList(caFile string, log *slog.Logger) (*trust.RevocationList, error) {
	return openRevocations(c.listConfig(caFile, log))
}

func openRevocations(cfg trust.ListConfig) (*trust.RevocationList, error) {
	l, err := trust.OpenRevocations(cfg)
	return l, withHint(err, "correct the list, or restore it from a backup: without it the broker would accept revoked certificates")
}

func (c *Config) listConfig(caFile string, log *slog.Logger) trust.ListConfig {
	p, files := ca.In(c.Data), c.revocationFiles()
	return trust.ListConfig{
		Files: []trust.ListFile{
			{Path: p.Revocations, MayBeMissing: true, Ledger: true},
			{Path: files[0], MayBeMissing: c.TLS.Revoked == ""},
			{Path: files[1], MayBeMissing: true},
		},
		Authorities: func() []*x509.Certificate { return authorities(caFile, p.Root, p.Intermediate) },
		Log:         log,
	}
}

// openRevocations opens the list of this node: with the role main it numbers what it reads,
// so that others can follow it; a node that knows a main server elsewhere follows that one.
func (n *node) openRevocations() (err error) {
	cfg := n.cfg.listConfig(n.files.CA, n.log)
	cfg.Roots, cfg.OwnRoots = n.files.CA, ca.In(n.cfg.Data).Root
	switch {
	case n.has("main") && n.authority != nil:
		cfg.NoteLists = n.authority.NoteLists
	case n.followed():
		cfg.FeedFile = filepath.Join(n.pipelineFolder(), "revocations-"+string(n.follower())+".json")
		cfg.StaleClose = n.cfg.CA.StaleClose
	}
	n.revoked, err = openRevocations(cfg)
	return err
}

// followed reports whether this node has its revocations from a main server elsewhere.
func (n *node) followed() bool { return !n.has("main") && n.cfg.Pipeline.Main != "" }

// follower is the role as which this node asks the main server.
func (n *node) follower() sealmq.Role {
	switch {
	case n.has("proxy"):
		return sealmq.RoleProxy
	case n.has("worker"):
		return sealmq.RoleWorker
	}
	return sealmq.RoleServer
}

func (n *node) followRevocations(ctx context.Context) error {
	if !n.followed() {
		return nil
	}
	c, err := n.mainClient(n.follower())
	if err != nil {
		return err
	}
	c.Self = n.self()
	n.mainClock.Store(c.Clock())
	var told sync.WaitGroup
	told.Go(func() { n.refused.Run(ctx, c.TellRefused, n.log) })
	c.FollowRevocations(ctx, n.revoked, n.log)
	told.Wait()
	return c.Close()
}

// staleAfter is how old the list may be before health says that it is degraded, and
// shownAfter before its age is shown at all.
const (
	shownAfter = time.Minute
	staleAfter = 24 * time.Hour
)

// revocationHealth says how the list is: its age and whether a part of it cannot be used.
func (n *node) revocationHealth(context.Context) httpkit.Finding {
	if err := n.revoked.Stale(); err != nil {
		return httpkit.Finding{Level: httpkit.Down, Value: "stale", Reason: httpkit.TextStale}
	}
	f := httpkit.Finding{}
	age := n.revoked.Age()
	if age >= shownAfter {
		f.Value = fmt.Sprintf("%v old", age.Truncate(time.Minute))
	}
	switch {
	case age >= staleAfter:
		f.Level, f.Reason = httpkit.Degraded, fmt.Sprintf("what is revoked was last asked for %v ago; the main server does not answer", age.Truncate(time.Hour))
	case n.revoked.Err() != nil:
		f.Level, f.Reason = httpkit.Degraded, "a list of revocations cannot be used; the last good one is in force"
	}
	return f
}

// revocationStatus is revocationHealth for the listener of operators.
func (n *node) revocationStatus() (metrics.Status, string) {
	f := n.revocationHealth(context.Background())
	switch err := n.revoked.Err(); {
	case f.Level == httpkit.Down:
		return metrics.Failing, f.Reason
	case err != nil:
		return metrics.Degraded, err.Error()
	case f.Level == httpkit.Degraded:
		return metrics.Degraded, f.Reason
	case n.authority != nil && n.authority.CopyErr() != nil:
		return metrics.Degraded, mainserver.TextNoCopy
	}
	return metrics.OK, f.Value
}

// authorities are the certificates in files, of which some may not exist.
func authorities(files ...string) (list []*x509.Certificate) {
	for _, f := range files {
		certs, err := mtls.ReadAuthorities(f)
		if err == nil {
			list = append(list, certs...)
		}
	}
	return list
}

// reportGap says which revocations the data folder lacked.
func (n *node) reportGap(res *ca.Result) {
	for _, e := range res.Gap {
		n.log.Error("this revocation was missing in the data folder, as after a restore from a backup; it is in effect",
			"version", e.Version, "scope", string(e.Scope), "client", e.Name, "serial", e.Serial, "revoked_at", e.RevokedAt)
	}
	if res.CopyErr != nil {
		n.log.Warn("the revocations have no copy beside the data folder, so a restore from a backup could take some back", "err", res.CopyErr)
	}
}

// maintainCRL refreshes crl/crl.pem once it exists.
func (n *node) maintainCRL(ctx context.Context) error {
	if n.authority != nil {
		n.authority.MaintainCRL(ctx, n.log)
	}
	return nil
}

// shareRevocations keeps several main servers over one database in line.
func (n *node) shareRevocations(ctx context.Context) error {
	if n.pipeline.sharing != nil {
		n.pipeline.sharing.Run(ctx, n.logOf("main"))
	}
	return nil
}

// syncAgain is how long after a failure the clients in the database are looked at again.
const syncAgain = 10 * time.Second

// syncClients keeps the clients in the database in line with the authority: names may be
// revoked, or let in again, by commands and files.
func (n *node) syncClients(ctx context.Context) error {
	changed := make(chan struct{}, 1)
	changed <- struct{}{}
	defer n.revoked.OnChange(func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	})()
	again := time.NewTimer(syncAgain)
	defer again.Stop()
	rows := true // of certificates may be missing
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-again.C:
		case <-changed:
		case <-n.pipeline.service.RowsMissing():
			rows = true
			again.Reset(syncAgain)
			continue
		}
		var count int
		var err error
		if n.pipeline.sharing != nil { // or clients that others have revoked would be let in again
			_, err = n.pipeline.sharing.Sync(ctx)
		}
		if err == nil {
			count, err = mainserver.SyncClients(ctx, n.pipeline.store, n.authority, n.revoked)
		}
		if err == nil && rows {
			var more int
			more, err = mainserver.SyncCertificates(ctx, n.pipeline.store, n.authority, n.revoked)
			count, rows = count+more, err != nil
		}
		again.Stop()
		switch {
		case err != nil && ctx.Err() == nil:
			n.log.Warn("the clients in the database are not in line with the authority; trying again", "err", err)
			again.Reset(syncAgain)
		case count > 0:
			n.log.Info("the clients in the database follow the authority", "changed", count)
		}
	}
}

// maxPreviewed bounds the connections to a broker elsewhere that a preview counts.
const maxPreviewed = 10_000

// liveConnections are the open connections of a client to this process, and to a broker
// elsewhere. complete says that the broker's are among them; whether proxies and workers are on
// other machines, the main server knows itself.
func (n *node) liveConnections(ctx context.Context, name string, main *httpkit.Router) (list []mainserver.LiveConnection, complete bool) {
	if n.server != nil {
		complete = true
		for _, c := range n.server.ConnectionsOf(func(id *sealmq.Identity) bool { return id.ID == name }) {
			list = append(list, mainserver.LiveConnection{Component: "broker", Client: c.Client, Issuer: c.Issuer, Serial: c.Serial})
		}
	} else if n.pipeline.broker == nil {
		complete = true
	} else if found, err := n.pipeline.broker.Connections(ctx, name, brokerview.Page{Limit: maxPreviewed}); err == nil {
		complete = found.Next == ""
		for _, c := range found.Items {
			list = append(list, mainserver.LiveConnection{Component: "broker", Client: c.Client, Issuer: c.Issuer, Serial: c.Serial})
		}
	}
	add := func(component string, router *httpkit.Router) {
		router.EachPeer(func(leaf *x509.Certificate, id sealmq.Identity) {
			if id.ID == name {
				list = append(list, mainserver.LiveConnection{Component: component, Client: id.ID, Issuer: id.Issuer, Serial: mtls.Serial(leaf)})
			}
		})
	}
	add("main", main)
	if n.pipeline.proxy != nil {
		add("proxy", n.pipeline.proxy.Router())
	}
	return list, complete
}
