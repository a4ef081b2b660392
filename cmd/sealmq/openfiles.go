package main

import (
	"fmt"

	"github.com/sealmq/sealmq/internal/httpkit"
	"github.com/sealmq/sealmq/listener"
)

// reservedFiles are the open files that clients' connections leave to the store, the listener of
// metrics and health, connections whose identity is not known, administrators, and what else the
// node opens: a quarter of what the system allows, and at least so many.
const (
	reservedFiles  = 96
	minConnections = 16
)

// unidentifiedPart and httpsPart are which part of all open files connections may have whose
// identity is not known, and those of an HTTPS listener.
const (
	unidentifiedPart = 8
	httpsPart        = 16
)

// connectionsWithin lowers the limit of connections to what a limit of open files allows beside
// some HTTPS listeners.
func connectionsWithin(wanted, listeners int, openFiles uint64) (int, error) {
	left := int64(min(openFiles, 1<<40))
	left -= max(left/4, reservedFiles) + int64(listeners)*int64(partOf(openFiles, httpsPart, httpkit.DefaultMaxConnections))
	if left < int64(min(wanted, minConnections)) {
		needed := reservedFiles + minConnections
		needed += listeners * needed / httpsPart
		return 0, withHint(fmt.Errorf("the system allows %d open files, a broker needs %d", openFiles, needed+listeners),
			"raise the limit, for example with LimitNOFILE= of systemd or ulimit -n")
	}
	return int(min(int64(wanted), left)), nil
}

// partOf is a limit of connections within a part of all open files.
func partOf(openFiles uint64, part, most int) int {
	return int(min(openFiles/uint64(part), uint64(most)))
}

// httpsConnections is how many connections an HTTPS listener may have.
func httpsConnections() int {
	openFiles, ok := maxOpenFiles()
	if !ok {
		return httpkit.DefaultMaxConnections
	}
	return partOf(openFiles, httpsPart, httpkit.DefaultMaxConnections)
}

// connectionLimits are server.max_connections and server.max_connections_per_identity, lowered if
// the system allows too few open files. Go has raised the limit of this process to the hard one.
func (n *node) connectionLimits(s ServerConfig) (listener.Limits, error) {
	l := listener.Limits{Connections: s.MaxConnections, ConnectionsPerIdentity: s.MaxConnectionsPerIdentity}
	openFiles, ok := maxOpenFiles()
	if !ok {
		return l, nil
	}
	listeners := 0
	for _, role := range []string{"main", "proxy"} {
		if n.has(role) {
			listeners++
		}
	}
	all, err := connectionsWithin(s.MaxConnections, listeners, openFiles)
	if err != nil {
		return l, err
	}
	l.Unidentified = partOf(openFiles, unidentifiedPart, listener.DefaultConnections)
	if all == s.MaxConnections {
		return l, nil
	}
	l.Connections, l.ConnectionsPerIdentity = all, min(l.ConnectionsPerIdentity, all/2) // 0 stays half
	n.log.Warn("server.max_connections is lowered: the system allows too few open files; raise the limit with LimitNOFILE= of systemd or ulimit -n",
		"max_connections", all, "configured", s.MaxConnections, "open_files", openFiles)
	return l, nil
}
