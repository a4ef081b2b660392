package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/httpkit"
	"github.com/sealmq/sealmq/internal/metrics"
	"github.com/sealmq/sealmq/pipeline/enroll"
)

// renewals are the roles whose certificates renew by themselves. One role may be asked for its
// health while another is being started.
type renewals struct{ of sync.Map } // from sealmq.Role to *enroll.Watcher

// status is zero for a role whose certificate does not renew by itself.
func (r *renewals) status(role sealmq.Role) (s enroll.Status) {
	if w, ok := r.of.Load(role); ok {
		s = w.(*enroll.Watcher).Status()
	}
	return s
}

func (r *renewals) all() []enroll.Status {
	return []enroll.Status{r.status(sealmq.RoleServer), r.status(sealmq.RoleProxy), r.status(sealmq.RoleWorker)}
}

// renewalCounters count what a role's certificate has been through since the start.
func (n *node) renewalCounters(role sealmq.Role) (list []prometheus.Collector) {
	for result, count := range map[string]func(enroll.Status) int{
		"renewed": func(s enroll.Status) int { return s.Renewed },
		"failed":  func(s enroll.Status) int { return s.Failures },
	} {
		list = append(list, prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "sealmq_certificate_renewals_total",
			Help: "Attempts of a role to renew its own certificate, which was enrolled.", ConstLabels: prometheus.Labels{"name": string(role), "result": result}},
			func() float64 { return float64(count(n.renewals.status(role))) }))
	}
	return list
}

// renewalParts renew the certificates of this node that were enrolled, on a host without the
// authority.
func (n *node) renewalParts() (list []part) {
	if n.has("broker") || n.has("portal") {
		list = append(list, n.renewal(sealmq.RoleServer))
	}
	for _, role := range n.certificateRoles() {
		list = append(list, n.renewal(role))
	}
	return list
}

// renewal renews the certificate of a role.
func (n *node) renewal(role sealmq.Role) part {
	var w *enroll.Watcher
	return background("renewal of the certificate of the "+string(role), func() error {
		files := enroll.Files{Files: n.roleFiles(role)}
		server, err := files.Server()
		if err != nil || server == "" {
			return err
		}
		if n.cfg.Pipeline.Main != "" {
			server = n.cfg.Pipeline.mainURL()
		}
		w = &enroll.Watcher{Files: files, Server: server, Log: n.roleLog(role)}
		n.renewals.of.Store(role, w)
		return nil
	}, func(ctx context.Context) error {
		if w != nil {
			w.Run(ctx)
		}
		return nil
	})
}

// renewalHealth says when a certificate of this node cannot be renewed.
func (n *node) renewalHealth(context.Context) (f httpkit.Finding) {
	for _, s := range n.renewals.all() {
		if s.Err == nil {
			continue
		}
		f.Level, f.Value = httpkit.Degraded, "not renewed"
		f.Reason = fmt.Sprintf("the certificate in use is not renewed, and expires at %s; the log says why", s.Until.UTC().Format(time.RFC3339))
	}
	return f
}

// renewalStatus is renewalHealth for the listener of operators.
func (n *node) renewalStatus() (metrics.Status, string) {
	for _, s := range n.renewals.all() {
		if s.Err != nil {
			return metrics.Degraded, s.Err.Error()
		}
	}
	return metrics.OK, ""
}
