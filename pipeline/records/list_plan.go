package records

import (
	"context"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/sealmq/sealmq/pipeline"
)

// scan is a walk through an index: rows that have these values, in the order of a column.
type scan struct {
	where []string
	args  []any
}

func (c *scan) and(condition string, args ...any) {
	c.where = append(c.where, condition)
	c.args = append(slices.Clip(c.args), args...)
}

// plan says how a filter is answered: by one or several walks, each through an index, and by
// conditions on what they find.
type plan struct {
	order string // created_at or message_id
	walks []scan
	rest  scan
	needs string // the columns of rest, each with a comma before it
	most  int    // rows that the walks look at, if there is a rest
}

func (s *Store) plan(f *Filter) plan {
	p := plan{order: "created_at", most: s.examine}
	walk := func(column string, values ...any) {
		for _, v := range values {
			p.walks = append(p.walks, scan{[]string{column + " = ?"}, []any{v}})
		}
	}
	byState := func(column string, value string) {
		list := states
		if f.State != "" {
			list = []pipeline.State{f.State}
		}
		for _, state := range list {
			w := scan{[]string{"status = ?"}, []any{string(state)}}
			if column != "" {
				w.and(column+" = ?", value)
			}
			p.walks = append(p.walks, w)
		}
	}
	client, state, domain, prefix := f.Client != "", f.State != "", f.Domain != "", f.IDPrefix != ""
	switch {
	case len(f.hashes) > 0:
		for _, hash := range f.hashes {
			walk("sender_number_hashed", hash)
		}
	case f.ClientKey != "":
		walk("client_key", f.ClientKey)
	case prefix:
		p.order = "message_id"
		w := scan{[]string{"message_id >= ? AND message_id < ?"}, []any{f.IDPrefix, f.IDPrefix + string(utf8.MaxRune)}}
		if client {
			w.and("client_id = ?", f.Client)
		}
		p.walks, client, prefix = []scan{w}, false, false
	case client:
		byState("client_id", f.Client)
		client, state = false, false
	case domain:
		byState("domain", f.Domain)
		domain, state = false, false
	default:
		byState("", "")
		state = false
	}
	for _, c := range []struct {
		left   bool
		column string
		value  string
	}{{client, "client_id", f.Client}, {state, "status", string(f.State)}, {domain, "domain", f.Domain}, {len(f.hashes) > 0 && f.ClientKey != "", "client_key", f.ClientKey}} {
		if c.left {
			p.needs += ", " + c.column
			p.rest.and(c.column+" = ?", c.value)
		}
	}
	if prefix {
		p.needs += ", message_id"
		p.rest.and("message_id >= ? AND message_id < ?", f.IDPrefix, f.IDPrefix+string(utf8.MaxRune))
	}
	times := func(c *scan) {
		if !f.From.IsZero() {
			c.and("created_at >= ?", s.d.stamp(f.From))
		}
		if !f.To.IsZero() {
			c.and("created_at < ?", s.d.stamp(f.To))
		}
	}
	if p.order == "message_id" {
		if !f.From.IsZero() || !f.To.IsZero() {
			p.needs += ", created_at"
		}
		times(&p.rest)
	} else {
		for i := range p.walks {
			times(&p.walks[i])
		}
	}
	return p
}

// after lets a walk begin behind a position.
func (s *Store) after(w scan, order string, at position) scan {
	value := any(at.ID)
	if order == "created_at" {
		value = s.d.stamp(time.UnixMicro(at.Time))
	}
	w.where = slices.Clone(w.where)
	w.and(order+" <= ? AND ("+order+" < ? OR id < ?)", value, value, at.Row)
	return w
}

// perWalk is how many rows a walk looks at, if not all it finds are wanted.
func (p *plan) perWalk() int { return max(1, p.most/max(1, len(p.walks))) }

// oneDomain takes the domain out of a filter whose client has only that one, as most clients
// have: no index has both, but the counts do. It reports whether there are none of that domain.
func (s *Store) oneDomain(ctx context.Context, f *Filter) (none bool, err error) {
	if f.Client == "" || f.Domain == "" {
		return false, nil
	}
	n, _, err := s.Count(ctx, Filter{Client: f.Client, Domain: f.Domain, State: f.State})
	if n == 0 || err != nil {
		return err == nil, err
	}
	all, _, err := s.Count(ctx, Filter{Client: f.Client, State: f.State})
	if n == all {
		f.Domain = ""
	}
	return false, err
}
