package listener

import (
	"cmp"
	"slices"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/protocol"
)

// Count is the number of connections that have shown who they are.
func (s *Server) Count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open
}

// Connections describes those connections, sorted by ID.
func (s *Server) Connections() []protocol.Connection {
	return s.ConnectionsOf(func(*sealmq.Identity) bool { return true })
}

// ConnectionsOf describes those whose identity matches, sorted by ID.
func (s *Server) ConnectionsOf(match func(*sealmq.Identity) bool) []protocol.Connection {
	list := []protocol.Connection{}
	for _, c := range s.all() {
		if c.isKnown() && match(&c.identity) {
			list = append(list, c.describe())
		}
	}
	slices.SortFunc(list, func(a, b protocol.Connection) int { return cmp.Compare(a.ID, b.ID) })
	return list
}

// CloseConnection closes one connection at once. Code BadArgument if there is none with
// this id.
func (s *Server) CloseConnection(id uint64) error {
	s.mu.Lock()
	c := s.conns[id]
	s.mu.Unlock()
	if c == nil || !c.isKnown() {
		return &sealmq.Error{Code: sealmq.BadArgument, Message: "no such connection"}
	}
	c.abort(closedByOperator)
	return nil
}

// CloseWhere closes the connections that match, for example those of a revoked
// certificate, and returns how many.
func (s *Server) CloseWhere(match func(protocol.Connection) bool) int {
	n := 0
	for _, c := range s.all() {
		if c.isKnown() && match(c.describe()) {
			c.abort(closedByOperator)
			n++
		}
	}
	return n
}

func (s *Server) all() []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*conn, 0, len(s.conns))
	for _, c := range s.conns {
		list = append(list, c)
	}
	return list
}

func (s *Server) remove(c *conn) {
	known := c.isKnown()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c.id)
	if known {
		s.open--
		s.metrics.opened.Add(-1)
	}
}

func (c *conn) isKnown() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.known
}
