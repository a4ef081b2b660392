package main

import "fmt"

// reservedFiles are the open files that clients' connections leave to the store, the other
// listeners and what else the node opens: a quarter of what the system allows, and at least so
// many.
const (
	reservedFiles  = 96
	minConnections = 16
)

// connectionsWithin lowers the limit of connections to what a limit of open files allows.
func connectionsWithin(wanted int, openFiles uint64) (int, error) {
	left := int64(min(openFiles, 1<<40))
	left -= max(left/4, reservedFiles)
	if left < int64(min(wanted, minConnections)) {
		return 0, withHint(fmt.Errorf("the system allows %d open files, a broker needs %d", openFiles, reservedFiles+minConnections),
			"raise the limit, for example with LimitNOFILE= of systemd or ulimit -n")
	}
	return int(min(int64(wanted), left)), nil
}

// connectionLimits are server.max_connections and server.max_connections_per_identity, lowered if
// the system allows too few open files. Go has raised the limit of this process to the hard one.
func (n *node) connectionLimits() (all, perIdentity int, err error) {
	s := n.cfg.Server
	all, perIdentity = s.MaxConnections, s.MaxConnectionsPerIdentity
	openFiles, ok := maxOpenFiles()
	if !ok {
		return all, perIdentity, nil
	}
	if all, err = connectionsWithin(s.MaxConnections, openFiles); err != nil || all == s.MaxConnections {
		return all, perIdentity, err
	}
	perIdentity = min(perIdentity, all/2) // 0 stays half
	n.log.Warn("server.max_connections is lowered: the system allows too few open files; raise the limit with LimitNOFILE= of systemd or ulimit -n",
		"max_connections", all, "configured", s.MaxConnections, "open_files", openFiles)
	return all, perIdentity, nil
}
