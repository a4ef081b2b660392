package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"time"

	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/pipeline/mainclient"
	"github.com/sealmq/sealmq/pipeline/mainserver"
)

// This file has what the overview of the main server needs to know of a process.

// workerName is the name of this process's worker.
func (n *node) workerName() string {
	host, _ := os.Hostname()
	return cmp.Or(n.cfg.Worker.Name, fmt.Sprintf("worker-%s-%d", host, os.Getpid()))
}

// started is when this process was, nearly.
var started = time.Now().UTC().Truncate(time.Second)

// self is this process as the overview shows it.
func (n *node) self() mainclient.Self {
	host, _ := os.Hostname()
	s := mainclient.Self{Name: fmt.Sprintf("%s-%d", host, os.Getpid()), Roles: n.roles, Version: buildVersion().Version, Host: host, Started: started}
	if n.has("worker") {
		s.Name = n.workerName()
	}
	return s
}

// openHistory opens the history of the messages, and tells the main server which of the
// components are in its own process.
func (n *node) openHistory() {
	p := &n.pipeline
	p.history = mainserver.NewHistory(p.store, p.queue, p.store.Now, n.log)
	self := n.self()
	for _, role := range self.Roles {
		p.service.Here(mainserver.Component{Role: mainserver.ComponentRole(role), Name: self.Name, Version: self.Version, Host: self.Host, Since: self.Started})
	}
}

// keepHistory runs the history.
func (n *node) keepHistory(ctx context.Context) error {
	n.pipeline.history.Run(ctx)
	return nil
}

// diskSpace is that of the data folder.
func (n *node) diskSpace() (free, total int64, err error) { return durable.Space(n.cfg.Data) }
