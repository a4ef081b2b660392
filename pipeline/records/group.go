package records

import (
	"context"
	"database/sql"
	"slices"
	"time"

	"github.com/sealmq/sealmq/pipeline"
	"github.com/sealmq/sealmq/pipeline/records/atrest"
)

// rowKey identifies a message.
type rowKey struct{ client, id string }

// row is a row of messages while a group works on it.
type row struct {
	rowKey
	id        int64
	state     pipeline.State
	stored    pipeline.State // in the database; empty for a new row
	changed   bool
	attempts  int
	errText   string
	worker    string
	domain    string
	created   time.Time
	queued    time.Time
	delivered time.Time
	last      time.Time

	hash     string
	hashKey  uint16
	version  uint16
	body     string
	number   string
	msg      *Message // of a new row
	sealed   sealed
	original counted
}

// group is one transaction of the committer: it reads the rows of its entries, decides about
// each entry in order, and writes what changed.
type group struct {
	s       *Store
	ctx     context.Context
	tx      *sql.Tx
	now     time.Time
	rows    map[rowKey]*row
	byID    map[string][]*row // rows by message id
	order   []*row            // new and changed rows, in the order of their first change
	revoked map[string]bool   // of clients; absent if there is no row

	attempts []noted
}

func (g *group) run(entries []*entry) error {
	if err := g.loadClients(entries); err != nil {
		return err
	}
	if err := g.loadRows(entries); err != nil {
		return err
	}
	for _, e := range entries {
		if err := g.decide(e); err != nil {
			return err
		}
	}
	if err := g.insertRows(); err != nil {
		return err
	}
	if err := g.updateRows(); err != nil {
		return err
	}
	if err := g.addAttempts(); err != nil {
		return err
	}
	if err := g.auditMessages(entries); err != nil {
		return err
	}
	return g.addCounts()
}

// find is the row of an entry, or nil. ok is false if the id names several.
func (g *group) find(k rowKey) (r *row, ok bool) {
	if k.client != "" {
		return g.rows[k], true
	}
	switch list := g.byID[k.id]; len(list) {
	case 0:
		return nil, true
	case 1:
		return list[0], true
	}
	return nil, false
}

func (g *group) decide(e *entry) error {
	r, ok := g.find(e.key)
	if !ok {
		e.result = pipeline.Result{Status: pipeline.StatusInvalid, Reason: "several clients have a message with this id; name the client"}
		return nil
	}
	switch {
	case e.kind == register && r == nil:
		g.create(e, pipeline.Queued)
	case e.kind == register:
		g.answer(e, r, pipeline.StatusDuplicate, r.created)
		_, err := g.compare(e, r)
		return err
	case e.kind == deliver:
		return g.deliver(e, r)
	default:
		g.update(e, r)
	}
	return nil
}

func (g *group) answer(e *entry, r *row, o pipeline.ResultStatus, at time.Time) {
	e.row = r
	e.result = pipeline.Result{Status: o, At: at, State: r.state}
}

// compare reports whether a row has the number and the text of an entry's message, and changes
// the answer if it has others or that cannot be told.
func (g *group) compare(e *entry, r *row) (same bool, err error) {
	same, err = g.same(r, e)
	switch {
	case unreadable(err):
		e.result.Status, e.result.Reason = pipeline.StatusUnavailable, "there is a row with this id that the present keys cannot read, so a repeat cannot be told from a conflict"
		return false, nil
	case err == nil && !same:
		e.result.Status, e.result.Reason = pipeline.StatusConflict, "the client has a message with this id and another number or text"
	}
	return same, err
}

// create makes a row for an entry that has a message.
func (g *group) create(e *entry, state pipeline.State) {
	revoked, known := g.revoked[e.key.client]
	switch {
	case !known:
		e.result = pipeline.Result{Status: pipeline.StatusRefused, Reason: "the client is not registered"}
		return
	case revoked:
		e.result = pipeline.Result{Status: pipeline.StatusRefused, Reason: "the client is revoked"}
		return
	}
	r := &row{rowKey: e.key, state: state, domain: e.msg.Domain, created: g.now, queued: e.msg.QueuedAt.UTC().Truncate(time.Microsecond),
		msg: e.msg, sealed: e.sealed, hash: e.sealed.hash, hashKey: e.sealed.hashKey, worker: e.worker}
	outcome := pipeline.StatusRegistered
	if state == pipeline.Delivered {
		outcome = pipeline.StatusDelivered
		r.delivered, r.last, r.attempts = g.now, g.now, max(e.attempts, 0)
		if e.attempts < 0 {
			r.attempts = 1
		}
	}
	g.add(r)
	g.order = append(g.order, r)
	g.answer(e, r, outcome, g.now)
}

func (g *group) add(r *row) {
	g.rows[r.rowKey] = r
	if g.byID == nil {
		g.byID = make(map[string][]*row)
	}
	g.byID[r.rowKey.id] = append(g.byID[r.rowKey.id], r)
}

func (g *group) deliver(e *entry, r *row) error {
	if r == nil {
		if e.msg == nil {
			e.result = pipeline.Result{Status: pipeline.StatusNotFound}
			return nil
		}
		g.create(e, pipeline.Delivered)
		return nil
	}
	if e.msg != nil {
		g.answer(e, r, pipeline.StatusConflict, r.created)
		if same, err := g.compare(e, r); !same || err != nil {
			return err
		}
	}
	if r.state == pipeline.Delivered {
		g.answer(e, r, pipeline.StatusAlready, r.delivered)
		return nil
	}
	g.change(r)
	r.state, r.delivered, r.last, r.errText = pipeline.Delivered, g.now, g.now, ""
	g.note(e, r)
	g.answer(e, r, pipeline.StatusDelivered, g.now)
	return nil
}

// note takes over what an entry says about attempts.
func (g *group) note(e *entry, r *row) {
	if e.attempts >= 0 {
		r.attempts = e.attempts
	}
	if e.worker != "" {
		r.worker = e.worker
	}
}

func (g *group) update(e *entry, r *row) {
	if r == nil {
		e.result = pipeline.Result{Status: pipeline.StatusNotFound}
		return
	}
	if r.state == pipeline.Delivered && e.state == pipeline.Delivered {
		g.answer(e, r, pipeline.StatusAlready, r.delivered)
		return
	}
	event := eventOf(e, r.state)
	if e.at != (time.Time{}) && e.state == pipeline.Queued && (finished(r.state) || !e.at.After(r.last)) {
		if event != "" { // it is old news, but part of the history
			g.noteAttempt(e, r, AttemptFailed)
		}
		g.answer(e, r, pipeline.StatusKept, g.now)
		return
	}
	g.change(r)
	r.last = g.now
	if !allowed(r.state, e.state, e.requeue) {
		g.answer(e, r, pipeline.StatusKept, g.now)
		return
	}
	if event != "" {
		g.noteAttempt(e, r, event)
	}
	if !e.at.IsZero() {
		r.last = e.at
	}
	r.state = e.state
	r.errText = e.errText
	if e.state == pipeline.Delivered {
		r.delivered = g.now
	}
	g.note(e, r)
	g.answer(e, r, pipeline.StatusUpdated, g.now)
}

// allowed is the life cycle. A report of the same state is allowed too: it brings attempts
// and errors up to date.
func allowed(from, to pipeline.State, requeue bool) bool {
	switch from {
	case pipeline.Queued, pipeline.Processing:
		return true
	case pipeline.Failed:
		return to != pipeline.Processing && (to != pipeline.Queued || requeue)
	}
	return false
}

func finished(s pipeline.State) bool { return s == pipeline.Delivered || s == pipeline.Failed }

func known(s pipeline.State) bool { return slices.Contains(states, s) }

// change notes that a row differs from what is stored.
func (g *group) change(r *row) {
	if r.stored != "" && !r.changed {
		r.changed = true
		g.order = append(g.order, r)
	}
}

// same reports whether a row has the number and the text of an entry's message. If a key for
// that is not there, or is not the one that the row was written with, the error is unreadable.
// If the earlier system's salt is lost, nothing will ever tell the number, so the text decides.
func (g *group) same(r *row, e *entry) (bool, error) {
	if r.msg != nil { // made in this group
		return r.msg.Number == e.msg.Number && r.msg.Body == e.msg.Body, nil
	}
	hash, ok := g.s.numbers().HashWith(r.hashKey, e.msg.Number)
	switch {
	case !ok && r.number == "" && r.hashKey != atrest.OldHash:
		return false, &atrest.NoKeyError{Version: r.hashKey}
	case !ok && r.number != "": // the key of that hash is gone
		number, err := g.s.open(g.ctx, atrest.Number, r.rowKey.id, r.client, r.version, r.number)
		if err != nil || number != e.msg.Number {
			return false, err
		}
	case ok && hash != r.hash:
		return false, nil
	}
	body, err := g.s.open(g.ctx, atrest.Body, r.rowKey.id, r.client, r.version, r.body)
	if err != nil {
		return false, err
	}
	return body == e.msg.Body, nil
}
