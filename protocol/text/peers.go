package text

import (
	"strconv"
	"sync"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/protocol"
)

// connections lists all connections for administrators, and for others those of their
// own identity: addresses and names of others are not their business.
func (s *Session) connections(v Verb, _ []byte) {
	list := s.peers.ConnectionsOf(func(id *sealmq.Identity) bool {
		return s.id.Role == sealmq.RoleAdmin || id.ID == s.id.ID && id.Issuer == s.id.Issuer
	})
	if list == nil {
		list = []protocol.Connection{}
	}
	s.answerJSON(v, prefixConnections, list)
}

func (s *Session) closeConnection(v Verb, args []byte) {
	if err := s.broker.RequireAdmin(s.id, s.table[v].word); err != nil {
		s.answerError(v, err)
		return
	}
	id, err := strconv.ParseUint(string(args), 10, 64)
	if err != nil {
		s.badArgument(v, "the connection id is not a number")
		return
	}
	if err := s.peers.CloseConnection(id); err != nil {
		s.answerError(v, err)
		return
	}
	s.reply(v, replyConnectionClosed)
}

// whoami tells who is asking, and for how long a message may be sent again.
func (s *Session) whoami(v Verb, _ []byte) {
	who := struct {
		ID         string      `json:"id"`
		Issuer     string      `json:"issuer"`
		CommonName string      `json:"common_name"`
		Role       sealmq.Role `json:"role"`
		Window     int64       `json:"dedup_window_s,omitempty"`
		MaxIDs     int         `json:"dedup_max_ids,omitempty"`
		Reach      *int64      `json:"dedup_reach_s,omitempty"`
	}{ID: s.id.ID, Issuer: s.id.Issuer, CommonName: s.id.CommonName, Role: s.id.Role}
	if h, ok := s.broker.DedupHorizon(); ok {
		who.Window, who.MaxIDs = int64(h.Window/time.Second), h.MaxIDs
		if reach := int64(h.Covered / time.Second); h.Covered > 0 {
			who.Reach = &reach
		}
	}
	s.answerJSON(v, prefixWhoami, who)
}

// Unacked is how many deliveries the peer holds. Whoever describes many connections
// again and again is told what was true within the last second.
func (s *Session) Unacked() int {
	c := s.delivery.consumer.Load()
	if c == nil {
		return 0
	}
	u := &s.unacked
	u.mu.Lock()
	defer u.mu.Unlock()
	if now := s.clock.Now(); u.since.IsZero() || now.Sub(u.since) >= time.Second {
		u.since, u.looks = now, 0
	}
	if u.looks++; u.looks <= maxLooks {
		u.last = c.Unacked()
	}
	return u.last
}

// maxLooks is how often a second the engine is asked what one connection holds.
const maxLooks = 10

// unacked is what a connection held when it was last described.
type unacked struct {
	mu    sync.Mutex
	since time.Time
	looks int
	last  int
}
