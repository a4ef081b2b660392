package records

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/sealmq/sealmq/pipeline"
)

// Counts are kept for each hour of creation, client, domain and state, and for all hours and
// all clients together, in the transactions that change the rows. So nothing ever counts the
// rows themselves.
const (
	allHours   = -1
	allClients = ""
)

// counted is how a row is counted.
type counted struct {
	hour       int64
	client     string
	domain     string
	state      pipeline.State
	deliveryUS int64
}

func hourOf(t time.Time) int64 { return t.Unix() / 3600 }

func (r *row) counted() counted {
	c := counted{hour: hourOf(r.created), client: r.client, domain: r.domain, state: r.state}
	if r.state == pipeline.Delivered {
		c.deliveryUS = max(0, r.delivered.Sub(r.queued).Microseconds()) // a clock was set
	}
	return c
}

type countKey struct {
	client string
	hour   int64
	domain string
	state  pipeline.State
}

// delta is by how much a count changes.
type delta struct{ messages, deliveryUS int64 }

type deltas map[countKey]delta

func (d deltas) add(c counted, sign int64) {
	for _, client := range []string{c.client, allClients} {
		for _, hour := range []int64{c.hour, allHours} {
			k := countKey{client, hour, c.domain, c.state}
			v := d[k]
			v.messages += sign
			v.deliveryUS += sign * c.deliveryUS
			d[k] = v
		}
	}
}

// addCounts brings the counts up to date with the changes of the group.
func (g *group) addCounts() error {
	d := make(deltas)
	for _, r := range g.order {
		if r.stored != "" {
			d.add(r.original, -1)
		}
		d.add(r.counted(), 1)
	}
	return g.writeCounts(d)
}

// writeCounts writes in one order, so that two processes cannot wait for each other.
func (g *group) writeCounts(d deltas) error {
	keys := make([]countKey, 0, len(d))
	for k, v := range d {
		if v != (delta{}) {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, func(a, b countKey) int {
		return cmp.Or(strings.Compare(a.client, b.client), cmp.Compare(a.hour, b.hour), strings.Compare(a.domain, b.domain), strings.Compare(string(a.state), string(b.state)))
	})
	for part := range slices.Chunk(keys, g.s.d.insertRows) {
		args := make([]any, 0, len(part)*countColumns)
		for _, k := range part {
			args = append(args, k.client, k.hour, k.domain, string(k.state), d[k].messages, d[k].deliveryUS)
		}
		query := g.s.insertCounts
		if len(part) < g.s.d.insertRows {
			query = insertCounts + rowMarks(countColumns, len(part)) + g.s.d.addCounts
		}
		if _, err := g.exec(query, args...); err != nil {
			return err
		}
	}
	return nil
}

// add counts what a group that is stored has done.
func (c *counters) add(changed []*row) {
	for _, r := range changed {
		if r.stored == "" {
			c.accepted.Add(1)
		}
		switch {
		case r.state == r.stored:
		case r.state == pipeline.Delivered:
			c.delivered.Add(1)
		case r.state == pipeline.Failed:
			c.failed.Add(1)
		}
	}
}
