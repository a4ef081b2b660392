package mainserver

import (
	"cmp"
	"net"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/sealmq/sealmq/api/mainapi"
)

// Presence of the processes of the pipeline, as this main server has seen them.
const (
	// presentFor is how long after it was seen a process counts as there. One that follows
	// the revocations asks at least every ten seconds.
	presentFor = 30 * time.Second
	// backIn is how long one whose connection has ended has to come back.
	backIn = 5 * time.Second
	// awayFor is how long one that has gone without a word is remembered.
	awayFor = 24 * time.Hour
	// maxPresent bounds what is remembered; further processes are not shown.
	maxPresent = 1000
)

// Component is a process of the pipeline in one of its roles.
type (
	Component     = mainapi.Component
	ComponentRole = mainapi.ComponentRole
)

type presenceKey struct {
	role mainapi.ComponentRole
	name string
}

type present struct {
	Component
	waiting int  // questions that the process waits for an answer to
	gone    bool // its connection has ended
	here    bool // it is part of this process
}

// presence remembers who was there.
type presence struct {
	mu   sync.Mutex
	list map[presenceKey]*present
}

// componentRoles are the roles that a process may say it has.
var componentRoles = []mainapi.ComponentRole{mainapi.ComponentRoleBroker, mainapi.ComponentRoleProxy, mainapi.ComponentRoleWorker, mainapi.ComponentRolePortal}

// plain is a name that a process gives itself, without what could move a reader's cursor.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return -1
		}
		return r
	}, s)
}

// Here says that a component is part of this process.
func (s *Service) Here(c Component) {
	s.presence.mu.Lock()
	defer s.presence.mu.Unlock()
	if p := s.presence.find(c, s.cfg.Now()); p != nil {
		p.here = true
	}
}

// find is the entry of a component, made if it is new; nil if there is no room. The lock is
// held.
func (p *presence) find(c Component, now time.Time) *present {
	key := presenceKey{c.Role, c.Name}
	if e := p.list[key]; e != nil {
		e.Certificate, e.Address = cmp.Or(c.Certificate, e.Certificate), cmp.Or(c.Address, e.Address)
		e.Version, e.Host, e.LastSeen, e.gone = cmp.Or(c.Version, e.Version), cmp.Or(c.Host, e.Host), now, false
		if !c.Since.IsZero() && !c.Since.After(now) {
			e.Since = c.Since
		}
		return e
	}
	if p.list == nil {
		p.list = make(map[presenceKey]*present)
	}
	p.forget(now, c)
	if len(p.list) >= maxPresent {
		return nil
	}
	if c.Since.IsZero() || c.Since.After(now) { // another machine's clock may be wrong
		c.Since = now
	}
	c.LastSeen = now
	e := &present{Component: c}
	p.list[key] = e
	return e
}

// forget drops what has been away for too long, and the one that a new component has come in
// the place of: a process that was started again has another name.
func (p *presence) forget(now time.Time, c Component) {
	for key, e := range p.list {
		replaced := e.gone && e.Role == c.Role && e.Certificate == c.Certificate && e.Address == c.Address
		if !e.here && (replaced || now.Sub(e.LastSeen) > awayFor) {
			delete(p.list, key)
			if replaced {
				return
			}
		}
	}
}

// saw notes that components were there. waits says that they wait for an answer: then answered
// must follow.
func (p *presence) saw(list []Component, waits bool, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range list {
		if e := p.find(c, now); e != nil && waits {
			e.waiting++
		}
	}
}

// answered notes that components wait no longer. gone says that they did not wait until the
// answer.
func (p *presence) answered(list []Component, gone bool, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range list {
		if e := p.list[presenceKey{c.Role, c.Name}]; e != nil { // it may have said goodbye
			e.waiting, e.LastSeen = max(0, e.waiting-1), now
			e.gone = gone && e.waiting == 0
		}
	}
}

// left drops components that have said goodbye.
func (p *presence) left(list []Component) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range list {
		if key := (presenceKey{c.Role, c.Name}); p.list[key] != nil && !p.list[key].here {
			delete(p.list, key)
		}
	}
}

// all are the components with their states, in an order that does not change.
func (p *presence) all(now time.Time) []Component {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := make([]Component, 0, len(p.list))
	for _, e := range p.list {
		c := e.Component
		c.State = mainapi.ComponentStateOnline
		switch {
		case e.here || e.waiting > 0:
			c.LastSeen = now
		case now.Sub(c.LastSeen) > presentFor, e.gone && now.Sub(c.LastSeen) > backIn:
			c.State = mainapi.ComponentStateAway
		}
		c.Since, c.LastSeen = c.Since.UTC(), c.LastSeen.UTC()
		list = append(list, c)
	}
	slices.SortFunc(list, func(a, b Component) int { return cmp.Or(cmp.Compare(a.Role, b.Role), cmp.Compare(a.Name, b.Name)) })
	return list
}

// componentsOf are what a process says that it is. Without a word it is what its certificate
// says.
func componentsOf(certificate, role, remote string, p *mainapi.GetRevocationsParams) (list []Component) {
	host, _, _ := net.SplitHostPort(remote)
	for word := range strings.SplitSeq(cmp.Or(p.Roles, role), ",") {
		r := mainapi.ComponentRole(word)
		if slices.Contains(componentRoles, r) && len(list) < len(componentRoles) {
			list = append(list, Component{Role: r, Name: cmp.Or(plain(p.Node), certificate), Certificate: certificate, Address: host, Version: plain(p.Version), Host: plain(p.Host), Since: p.Started})
		}
	}
	return list
}
