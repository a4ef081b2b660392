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

// ConnectionsOf describes those whose identity matches, sorted by ID. One that was closed is not
// among them, even if its goroutines have not ended.
func (s *Server) ConnectionsOf(match func(*sealmq.Identity) bool) []sealmq.ConnectionInfo {
	list := []sealmq.ConnectionInfo{}
	for _, c := range s.all() {
		if c.isOpen() && match(&c.identity) {
			list = append(list, c.describe())
		}
	}
	slices.SortFunc(list, func(a, b sealmq.ConnectionInfo) int { return cmp.Compare(a.ID, b.ID) })
	return list
}

// CloseConnection closes one connection at once, and says whose it was. Code BadArgument if
// there is none with this id.
func (s *Server) CloseConnection(id uint64) (client string, err error) {
	s.mu.Lock()
	c := s.conns[id]
	s.mu.Unlock()
	if c == nil || !c.isOpen() {
		return "", errNoConnection
	}
	c.abort(closedByOperator)
	return c.identity.ID, nil
}

// maxBans bounds the identities that are banned at a time.
const maxBans = 1000

// Ban closes all connections of the identity that has this one, and lets it in again only
// after a while or a restart. It says whose the connection is, also if its client cannot be
// banned. Code BadArgument if there is no such connection, or it is an administrator's;
// LimitReached if too many are banned.
func (s *Server) Ban(id uint64, while time.Duration) (client string, err error) {
	s.mu.Lock()
	c, now := s.conns[id], time.Now()
	maps.DeleteFunc(s.bans, func(_ string, until time.Time) bool { return now.After(until) })
	full := len(s.bans) >= maxBans
	s.mu.Unlock()
	switch {
	case c == nil || !c.isKnown():
		return "", errNoConnection
	case c.identity.Role == sealmq.RoleAdmin:
		return c.identity.ID, &sealmq.Error{Code: sealmq.BadArgument, Message: "an administrator cannot be banned; revoke the certificate"}
	case full:
		return c.identity.ID, &sealmq.Error{Code: sealmq.LimitReached, Message: "too many identities are banned"}
	}
	name := nameOf(&c.identity)
	s.mu.Lock()
	s.bans[name] = now.Add(while)
	s.mu.Unlock()
	s.log.Warn("identity banned", "client", c.identity.ID, "issuer", c.identity.Issuer, "while", while)
	for _, c := range s.all() {
		if c.isKnown() && nameOf(&c.identity) == name {
			c.abort(closedByOperator)
		}
	}
	return c.identity.ID, nil
}

// banned is how much longer an identity is banned. The caller holds mu.
func (s *Server) banned(id *sealmq.Identity) time.Duration {
	if len(s.bans) == 0 {
		return 0
	}
	return time.Until(s.bans[nameOf(id)])
}

// nameOf is an identity as a key of maps.
func nameOf(id *sealmq.Identity) string { return id.Issuer + "\x00" + id.ID }

var errNoConnection = &sealmq.Error{Code: sealmq.BadArgument, Message: "no such connection"}

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

// isOpen reports whether the peer is known and nobody has closed the connection.
func (c *conn) isOpen() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.known && c.why == closedNot
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
		session.Describe(&d)
	}
	return d
}
