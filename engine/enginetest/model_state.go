package enginetest

import (
	"bytes"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
)

// state is what the events of a disk add up to. Only events change its durable part,
// so that what a model does and what it finds after a restart cannot differ.
type state struct {
	queues      map[string]*queue
	ids         map[scoped]*identifier
	definitions map[string][]byte
	lastQueue   uint32
	lastSeq     uint64
}

type queue struct {
	name    string
	number  uint32
	options sealmq.QueueOptions
	paused  bool
	entries []*entry // by seq

	totals engine.QueueInfo // not durable; only the totals are used
}

// entry is one copy of a message in one queue.
type entry struct {
	message  *sealmq.Message
	seq      uint64
	entered  time.Time
	attempts uint32
	returned bool // it came back before
	byID     bool // a repeat of it is recognised
	scope    string
	deathReason,
	deathQueue string
	dying string // why it is on its way to the dead-letter queue, which has no room for it

	// The rest is not durable.
	synced     bool // consumers may see it
	holder     *session
	lastHolder *session
	sub        *subscription // through which the holder has it; nil if it was fetched
	delivered  time.Time
	notBefore  time.Time
	given      uint32 // attempt of the last delivery
}

// scoped is a message id in its scope.
type scoped struct{ scope, id string }

// identifier is a message id that is remembered.
type identifier struct {
	exchange, key string
	body          []byte
	digest        string // replaces these three, if there is one
	copies        int
	ended         time.Time // when the last copy went
	order         uint64
}

func newState() *state {
	return &state{
		queues:      make(map[string]*queue),
		ids:         make(map[scoped]*identifier),
		definitions: make(map[string][]byte),
	}
}

// event is one durable change.
type event interface{ apply(*state) }

type (
	declared struct {
		name    string
		options sealmq.QueueOptions
	}
	redefined struct {
		name    string
		options sealmq.QueueOptions
	}
	paused struct {
		name   string
		paused bool
	}
	deleted struct {
		name string
		at   time.Time
	}
	stored struct {
		message sealmq.Message
		scope   string
		digest  string
		byID    bool
		queues  []string
		at      time.Time
	}
	// gone is a message that was acked, purged, dropped or has expired.
	gone struct {
		queue string
		seq   uint64
		at    time.Time
	}
	returned struct {
		queue    string
		seq      uint64
		attempts uint32
	}
	// doomed is a message that must die.
	doomed struct {
		queue  string
		seq    uint64
		reason string
	}
	// moved takes a message to the end of another queue; with a reason it died.
	moved struct {
		from, to string
		seq      uint64
		reason   string
		at       time.Time
	}
	defined   struct{ batch []engine.Definition }
	forgotten struct{ id scoped }
)

func (e declared) apply(s *state) {
	s.lastQueue++
	s.queues[e.name] = &queue{name: e.name, number: s.lastQueue, options: e.options}
}

func (e redefined) apply(s *state) {
	q := s.queues[e.name]
	e.options.Owner = q.options.Owner
	q.options = e.options
}

func (e paused) apply(s *state) { s.queues[e.name].paused = e.paused }

func (e deleted) apply(s *state) {
	for _, m := range s.queues[e.name].entries {
		s.ended(m, e.at)
	}
	delete(s.queues, e.name)
}

func (e stored) apply(s *state) {
	m := e.message
	s.lastSeq++
	if e.byID {
		s.ids[scoped{e.scope, m.ID}] = &identifier{exchange: m.Exchange, key: m.Key, body: m.Body, digest: e.digest, copies: len(e.queues), order: s.lastSeq}
	}
	for _, name := range e.queues {
		q := s.queues[name]
		q.entries = append(q.entries, &entry{message: &m, seq: s.lastSeq, entered: e.at, byID: e.byID, scope: e.scope})
	}
}

func (e gone) apply(s *state) {
	s.ended(s.queues[e.queue].remove(e.seq), e.at)
}

func (e returned) apply(s *state) {
	c := s.queues[e.queue].find(e.seq)
	c.attempts, c.returned = e.attempts, true
}

func (e doomed) apply(s *state) { s.queues[e.queue].find(e.seq).dying = e.reason }

func (e moved) apply(s *state) {
	m := s.queues[e.from].remove(e.seq)
	s.lastSeq++
	c := &entry{message: m.message, seq: s.lastSeq, entered: e.at, synced: m.synced, byID: m.byID, scope: m.scope}
	if e.reason != "" {
		c.deathReason, c.deathQueue = e.reason, e.from
	}
	to := s.queues[e.to]
	to.entries = append(to.entries, c)
}

func (e defined) apply(s *state) {
	for _, d := range e.batch {
		if d.Value == nil {
			delete(s.definitions, d.Key)
			continue
		}
		s.definitions[d.Key] = d.Value
	}
}

func (e forgotten) apply(s *state) { delete(s.ids, e.id) }

// ended counts one copy less.
func (s *state) ended(e *entry, at time.Time) {
	if i := s.ids[scoped{e.scope, e.message.ID}]; i != nil && e.byID {
		if i.copies--; i.copies == 0 {
			i.ended = at
		}
	}
}

func (s *state) names() []string { return slices.Sorted(maps.Keys(s.queues)) }

func (s *state) byNumber(n uint32) *queue {
	for _, q := range s.queues {
		if q.number == n {
			return q
		}
	}
	return nil
}

func (q *queue) index(seq uint64) int {
	return slices.IndexFunc(q.entries, func(e *entry) bool { return e.seq == seq })
}

// find returns nil if the queue has no such message.
func (q *queue) find(seq uint64) *entry {
	if i := q.index(seq); i >= 0 {
		return q.entries[i]
	}
	return nil
}

func (q *queue) remove(seq uint64) *entry {
	i := q.index(seq)
	e := q.entries[i]
	q.entries = slices.Delete(q.entries, i, i+1)
	return e
}

func (q *queue) bytes() (n int64) {
	for _, e := range q.entries {
		n += int64(len(e.message.Body))
	}
	return n
}

// waiting is what nobody holds, with what is delayed.
func (q *queue) waiting() []*entry {
	var list []*entry
	for _, e := range q.entries {
		if e.holder == nil {
			list = append(list, e)
		}
	}
	return list
}

// front is what waits and is not set aside by a delay.
func (q *queue) front(now time.Time) []*entry {
	return slices.DeleteFunc(q.waiting(), func(e *entry) bool { return e.dying != "" || e.notBefore.After(now) })
}

// isDead reports whether the queue is the end of the line: what dies there stays.
func (q *queue) isDead() bool { return isDead(q.name) }

// fits asks the queue's limits about one more message. victims are what has to go for it.
func (q *queue) fits(m *sealmq.Message, now time.Time) (victims []*entry, code sealmq.Code) {
	o := q.options
	if sealmq.PushOverheadBytes+len(m.ID)+len(m.Body) > o.MaxLineBytes {
		return nil, sealmq.TooLarge
	}
	count, size := int64(len(q.entries))+1, q.bytes()+int64(len(m.Body))
	full := func() bool {
		return o.MaxMessages > 0 && count > o.MaxMessages || o.MaxBytes > 0 && size > o.MaxBytes
	}
	if !full() {
		return nil, ""
	}
	if !o.DropOldest || o.MaxBytes > 0 && int64(len(m.Body)) > o.MaxBytes {
		return nil, sealmq.QueueFull
	}
	for _, e := range q.front(now) {
		victims = append(victims, e)
		count--
		size -= int64(len(e.message.Body))
		if !full() {
			return victims, ""
		}
	}
	return nil, sealmq.QueueFull
}

// same reports whether m has the same content as i.
func (i *identifier) same(m *sealmq.Message, digest string) bool {
	if i.digest != "" || digest != "" {
		return i.digest == digest
	}
	return i.exchange == m.Exchange && i.key == m.Key && bytes.Equal(i.body, m.Body)
}

func (s *state) allDefinitions() []engine.Definition {
	list := []engine.Definition{}
	for _, key := range slices.Sorted(maps.Keys(s.definitions)) {
		list = append(list, engine.Definition{Key: key, Value: s.definitions[key]})
	}
	return list
}

// cloneDefinitions keeps the difference between an empty value and none.
func cloneDefinitions(batch []engine.Definition) []engine.Definition {
	list := make([]engine.Definition, len(batch))
	for i, d := range batch {
		list[i].Key = strings.Clone(d.Key)
		if d.Value != nil {
			list[i].Value = append([]byte{}, d.Value...)
		}
	}
	return list
}

// clone copies everything that belongs to the caller.
func clone(m sealmq.Message) sealmq.Message {
	m.ID, m.Publisher = strings.Clone(m.ID), strings.Clone(m.Publisher)
	m.Exchange, m.Key = strings.Clone(m.Exchange), strings.Clone(m.Key)
	m.Properties, m.Body = slices.Clone(m.Properties), slices.Clone(m.Body)
	return m
}
