package main

import (
	"context"
	"fmt"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/httpkit"
	"github.com/sealmq/sealmq/internal/metrics"
	"github.com/sealmq/sealmq/pipeline/enroll"
)

// renewal renews the certificate of a role that was enrolled, on a host without the authority.
func (n *node) renewal(role sealmq.Role) part {
	var w *enroll.Watcher
	return background("renewal of the certificate of the "+string(role), func() error {
		files := enroll.Files{Files: n.roleFiles(role)}
		server, err := files.Server()
		if err != nil || server == "" || n.has("main") {
			return err
		}
		if n.cfg.Pipeline.Main != "" {
			server = n.cfg.Pipeline.Main
		}
		w = &enroll.Watcher{Files: files, Server: server, Log: n.roleLog(role)}
		n.pipeline.renewals = append(n.pipeline.renewals, w)
		return nil
	}, func(ctx context.Context) error {
		if w != nil {
			w.Run(ctx)
		}
		<-ctx.Done()
		return nil
	})
}

// renewalHealth says when a certificate of this node cannot be renewed.
func (n *node) renewalHealth(context.Context) (f httpkit.Finding) {
	for _, w := range n.pipeline.renewals {
		s := w.Status()
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
	for _, w := range n.pipeline.renewals {
		if err := w.Status().Err; err != nil {
			return metrics.Degraded, err.Error()
		}
	}
	return metrics.OK, ""
}
