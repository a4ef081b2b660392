package listener

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/sealmq/sealmq"
)

// Count is the number of connections whose identity is known.
func (s *Server) Count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open
}

// ConnectionsOf describes those whose identity matches, sorted by ID.
func (s *Server) ConnectionsOf(match func(*sealmq.Identity) bool) []sealmq.ConnectionInfo {
	list := []sealmq.ConnectionInfo{}
	for _, c := range s.all() {
		if c.isKnown() && match(&c.identity) {
			list = append(list, c.describe())
		}
	}
	slices.SortFunc(list, func(a, b sealmq.ConnectionInfo) int { return cmp.Compare(a.ID, b.ID) })
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

// Recheck identifies the peer of each open connection again, and closes those that would
// not be let in now or would have another identity. Call it after a certificate was
// revoked.
func (s *Server) Recheck() {
	s.rechecks.Add(1)
	for _, c := range s.all() {
		if c.isKnown() {
			c.recheck()
		}
	}
}

func (c *conn) recheck() {
	id, err := c.server.cfg.Identify(c.tls.ConnectionState())
	if err == nil && id == c.identity {
		return
	}
	c.log().Info("connection closed: its certificate is not accepted any more", "serial", c.serial, "issuer", c.identity.Issuer, "err", err)
	c.abort(closedRevoked)
}

func (s *Server) all() []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Values(s.conns))
}

func (s *Server) remove(c *conn) {
	known := c.isKnown()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c.id)
	if known {
		s.open--
		s.metrics.opened.Dec()
	}
}

func (c *conn) isKnown() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.known
}

// describe is the connection as operators see it.
func (c *conn) describe() sealmq.ConnectionInfo {
	d := sealmq.ConnectionInfo{
		ID:       c.id,
		Client:   c.identity.ID,
		Issuer:   c.identity.Issuer,
		Role:     string(c.identity.Role),
		Serial:   c.serial,
		Address:  c.raw.RemoteAddr().String(),
		Since:    c.since.UTC().Truncate(time.Millisecond),
		BytesIn:  c.bytesIn.Load(),
		BytesOut: c.bytesOut.Load(),
	}
	c.mu.Lock()
	session := c.session
	d.Protocol = c.protocol
	c.mu.Unlock()
	if session != nil {
		d.Commands, d.Unacked = session.Commands(), session.Unacked()
	}
	return d
}
