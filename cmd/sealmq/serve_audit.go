package main

import (
	"path/filepath"

	"github.com/sealmq/sealmq/audit"
	"github.com/sealmq/sealmq/audit/auditfile"
	"github.com/sealmq/sealmq/pipeline/mainserver"
)

// auditPath is the file of what administrators did on this node. Broker and main server may be two
// processes with one data folder, and each has a chain of its own.
func (n *node) auditPath() string {
	name := "broker.jsonl"
	if n.has("main") {
		name = "main.jsonl"
	}
	return filepath.Join(n.cfg.Data, "audit", name)
}

func (n *node) openAudit() (err error) {
	n.commands = mainserver.NewCommands()
	n.auditFile, err = auditfile.Open(n.auditPath(), n.log)
	return err
}

// auditSink takes records of what administrators did, and of what was denied, in a role.
func (n *node) auditSink(role string) audit.Sink {
	sinks := audit.Sinks{audit.NewLog(n.logOf(role)), n.auditFile}
	if role == "broker" && n.has("main") {
		sinks = append(sinks, n.commands)
	}
	return sinks
}
