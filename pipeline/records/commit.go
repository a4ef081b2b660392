package records

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/pipeline"
)

// Limits of a group, the entries that share a transaction.
const (
	maxGroupEntries = 1000
	maxGroupBytes   = 8 << 20
)

type kind uint8

const (
	register kind = iota
	deliver
	update
)

// entry is one entry of a call on its way through the committer.
type entry struct {
	kind kind
	key  rowKey // without a client if the id alone names the message

	msg      *Message // in clear; nil without payload
	sealed   sealed
	worker   string
	attempts int
	state    pipeline.State
	errText  string
	at       time.Time
	requeue  bool

	settled bool // the result is known without the database
	result  pipeline.Result
	row     *row // from which the result is completed after the commit
}

// call is a call that waits for its entries. err may be read once done is closed.
type call struct {
	entries []*entry
	bytes   int
	err     error
	done    chan struct{}
}

// Register stores messages as queued. A message that is there stays as it is.
func (s *Store) Register(ctx context.Context, messages []Message) ([]pipeline.Result, error) {
	entries := make([]*entry, len(messages))
	for i := range messages {
		m := messages[i]
		e := &entry{kind: register, key: rowKey{m.Client, m.ID}}
		entries[i] = e
		if err := s.prepareMessage(ctx, e, &m); err != nil {
			return nil, err
		}
	}
	return s.submit(ctx, entries)
}

// Deliver marks messages as delivered. A missing row is made if the delivery is complete.
func (s *Store) Deliver(ctx context.Context, deliveries []Delivery) ([]pipeline.Result, error) {
	entries := make([]*entry, len(deliveries))
	for i := range deliveries {
		d := deliveries[i]
		m := d.Message
		e := &entry{kind: deliver, key: rowKey{m.Client, m.ID}, worker: d.Worker, attempts: d.Attempts}
		entries[i] = e
		if e.refuse(checkWorker(d.Worker), checkAttempts(d.Attempts)) {
			continue
		}
		if m.Number == "" && m.Body == "" {
			e.refuse(checkName("message id", m.ID, maxID))
			continue
		}
		if err := s.prepareMessage(ctx, e, &m); err != nil {
			return nil, err
		}
	}
	return s.submit(ctx, entries)
}

// Status changes the states of messages, as far as the life cycle allows it.
func (s *Store) Status(ctx context.Context, updates []pipeline.Update) ([]pipeline.Result, error) {
	return s.update(ctx, updates, false)
}

// Requeue is Status that may move failed messages back to queued. It is for administrators.
func (s *Store) Requeue(ctx context.Context, updates []pipeline.Update) ([]pipeline.Result, error) {
	return s.update(ctx, updates, true)
}

func (s *Store) update(ctx context.Context, updates []pipeline.Update, requeue bool) ([]pipeline.Result, error) {
	entries := make([]*entry, len(updates))
	for i, u := range updates {
		e := &entry{kind: update, key: rowKey{u.ClientID, u.MessageID}, worker: u.Worker, attempts: u.Attempts,
			state: u.State, errText: cleanError(u.Error), at: u.At.UTC().Truncate(time.Microsecond), requeue: requeue}
		entries[i] = e
		why := ""
		if !known(u.State) {
			why = "state is none of queued, processing, delivered and failed"
		} else if !u.At.IsZero() && !storable(u.At) {
			why = "time of the attempt is out of range"
		}
		e.refuse(why, checkName("message id", u.MessageID, maxID), checkWorker(u.Worker), checkAttempts(u.Attempts))
	}
	return s.submit(ctx, entries)
}

// refuse settles an entry as invalid if one of the rules is broken.
func (e *entry) refuse(whys ...reason) bool {
	if why := cmp.Or(whys...); why != "" && !e.settled {
		e.settle(pipeline.StatusInvalid, why)
	}
	return e.settled
}

func (e *entry) settle(o pipeline.ResultStatus, why reason) {
	e.settled, e.result, e.row = true, pipeline.Result{Status: o, Reason: why}, nil
}

// prepareMessage checks and encrypts a message, in the caller's goroutine: this is the work
// that can be done beside the committer.
func (s *Store) prepareMessage(ctx context.Context, e *entry, m *Message) error {
	if e.refuse(checkMessage(m, s.now())) {
		return nil
	}
	var err error
	e.msg = m
	if e.sealed, err = s.seal(ctx, m); unreadable(err) { // which says nothing about other clients' keys
		e.settle(pipeline.StatusUnavailable, "the encryption key of this client cannot be used with the present key files")
		return nil
	}
	return s.d.coded("read the client's key", err)
}

// submit hands entries to the committer and waits for the result.
func (s *Store) submit(ctx context.Context, entries []*entry) ([]pipeline.Result, error) {
	if len(entries) > MaxBatch {
		return nil, invalid(fmt.Sprintf("a call has at most %d entries", MaxBatch))
	}
	c := &call{done: make(chan struct{})}
	for _, e := range entries {
		if !e.settled {
			c.entries = append(c.entries, e)
			c.bytes += len(e.sealed.body)
		}
	}
	if len(c.entries) > 0 {
		select {
		case s.calls <- c:
		case <-s.closed:
			return nil, errClosed
		case <-ctx.Done():
			return nil, s.d.coded("wait for the committer", ctx.Err())
		}
		select {
		case <-c.done:
		case <-ctx.Done():
		}
		select {
		case <-c.done: // even if the caller gets to look only after the end of ctx
		default: // it may still be stored
			return nil, s.d.coded("wait for the commit", ctx.Err())
		}
		if c.err != nil {
			return nil, c.err
		}
	}
	results := make([]pipeline.Result, len(entries))
	for i, e := range entries {
		results[i] = e.result
		results[i].MessageID = e.key.id
	}
	return results, nil
}

var errClosed = &sealmq.Error{Code: sealmq.Unavailable, Message: "the database is being closed"}

// commitLoop is the committer: it takes what has arrived, stores it in one transaction,
// answers, and begins again.
func (s *Store) commitLoop() {
	defer close(s.done)
	var next *call // did not fit into the last group
	for {
		if next == nil {
			select {
			case next = <-s.calls:
			case <-s.closed:
				return
			}
		}
		group := []*call{next}
		entries, bytes := len(next.entries), next.bytes
		next = nil
		for more := true; more; {
			select {
			case c := <-s.calls:
				if entries+len(c.entries) > maxGroupEntries || bytes+c.bytes > maxGroupBytes {
					next, more = c, false
					continue
				}
				group, entries, bytes = append(group, c), entries+len(c.entries), bytes+c.bytes
			default:
				more = false
			}
		}
		s.commit(group)
	}
}

// commit stores a group and answers its calls.
func (s *Store) commit(group []*call) {
	var entries []*entry
	for _, c := range group {
		entries = append(entries, c.entries...)
	}
	s.counters.groups.Add(1)
	s.counters.entries.Add(int64(len(entries)))
	err := s.store(entries)
	if err != nil && s.spoils(err) {
		s.commitAlone(group)
		return
	}
	for _, c := range group {
		c.err = s.d.coded("store messages", err)
		close(c.done)
	}
}

func (s *Store) spoils(err error) bool { return sealmq.CodeOf(err) == "" && s.d.classOf(err) == bad }

// commitAlone tries the entries of a group one by one, because one of them spoils it.
func (s *Store) commitAlone(group []*call) {
	for _, c := range group {
		for _, e := range c.entries {
			err := s.store([]*entry{e})
			if err != nil && s.spoils(err) {
				s.cfg.Log.Error("the database refuses a row", "message_id", e.key.id, "error", s.d.describe(err))
				e.settle(pipeline.StatusRefused, "the database refuses this row")
				err = nil
			}
			if err != nil {
				c.err = s.d.coded("store a message", err)
				break
			}
		}
		close(c.done)
	}
}

// groupTimeout bounds a transaction of the committer on a server.
const groupTimeout = 2 * serverTimeout

// store stores entries in one transaction and fills in their results.
func (s *Store) store(entries []*entry) error {
	ctx := context.Background()
	if s.d != &sqliteDialect { // a file answers, or its disk hangs
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, groupTimeout)
		defer cancel()
	}
	var err error
	for range maxTries {
		g := &group{s: s, ctx: ctx, now: s.now(), rows: make(map[rowKey]*row)}
		err = s.transactOnce(ctx, func(tx *sql.Tx) error {
			g.tx = tx
			return g.run(entries)
		})
		if err == nil {
			for _, e := range entries {
				if e.row != nil {
					e.result.RowID = e.row.id
				}
			}
			s.counters.add(g.order)
			return nil
		}
		for _, e := range entries {
			e.result, e.row = pipeline.Result{}, nil
		}
		if sealmq.CodeOf(err) != "" || s.d.classOf(err) != again {
			break
		}
	}
	return err
}
