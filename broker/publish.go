package broker

import (
	"sync"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
)

// Publish is one message as a protocol read it. Strings and slices may be parts of the
// caller's read buffer: they are used during the call only.
type Publish struct {
	Exchange, Key string
	// MessageID may be empty; then a repeat is not recognised.
	MessageID  string
	Properties []byte
	Body       []byte
}

// Publish routes each message and has the engine store it in all of its queues or in
// none. results[i] answers batch[i]; the slice is the broker's again when done returns.
// A message that reaches no queue is Refused: with code NoExchange if its exchange was
// never declared, Unroutable if nothing is bound for its key, Denied or BadName.
//
// One goroutine's batches are stored in the order of its calls. done of a batch that the
// broker refused as a whole may run before that of an earlier one.
func (b *Broker) Publish(id sealmq.Identity, batch []Publish, done func(results []engine.PublishResult)) {
	r := routings.Get().(*routing)
	a := b.newAnswer(len(batch), done)

	b.publishing.RLock()
	b.route(id, batch, r, a)
	if len(r.requests) == 0 {
		b.publishing.RUnlock()
		a.finish(nil)
	} else {
		b.engine.Publish(r.requests, a.engineDone)
		b.publishing.RUnlock()
	}
	r.release()
}

// routing is the scratch space of one Publish.
type routing struct{ requests []engine.PublishRequest }

var routings = sync.Pool{New: func() any { return new(routing) }}

// maxPooledRequests keeps one huge batch from pinning its scratch space.
const maxPooledRequests = 4096

func (r *routing) release() {
	if cap(r.requests) > maxPooledRequests {
		return
	}
	clear(r.requests) // they point into read buffers
	r.requests = r.requests[:0]
	routings.Put(r)
}

// route fills r with what can be stored and a with what is refused.
func (b *Broker) route(id sealmq.Identity, batch []Publish, r *routing, a *answer) {
	if b.closed.Load() {
		for i := range batch {
			a.refuse(i, sealmq.ErrUnavailable)
		}
		return
	}
	now := time.UnixMilli(b.clock.Now().UnixMilli()).UTC()
	at := &destination{broker: b, id: id, table: b.table.Load()}
	for i := range batch {
		p := &batch[i]
		if p.MessageID != "" {
			if err := sealmq.CheckName("message id", p.MessageID); err != nil {
				a.refuse(i, err)
				continue
			}
		}
		queues, err := at.queues(p.Exchange, p.Key)
		if err == nil {
			err = b.sealed.check(queues, p.Body)
		}
		if err != nil {
			a.refuse(i, err)
			continue
		}
		r.requests = append(r.requests, engine.PublishRequest{
			Message: sealmq.Message{
				ID:         p.MessageID,
				Publisher:  id.ID,
				Exchange:   p.Exchange,
				Key:        p.Key,
				Published:  now,
				Properties: p.Properties,
				Body:       p.Body,
			},
			Queues: queues,
		})
	}
}

// destination finds queues. It keeps the last answer, because the messages of a batch
// mostly go the same way.
type destination struct {
	broker *Broker
	id     sealmq.Identity
	table  *table

	known    bool // exchange was looked up
	exchange string
	router   router
	err      error // why there is no router

	key   string
	found []string // by router for key; never empty
}

func (d *destination) queues(exchange, key string) ([]string, error) {
	if !d.known || exchange != d.exchange {
		d.known, d.exchange, d.found = true, exchange, nil
		d.router, d.err = d.find(exchange)
	}
	if d.err != nil {
		return nil, d.err
	}
	if d.found != nil && key == d.key {
		return d.found, nil
	}
	queues, err := d.broker.routeKey(d.router, key)
	if err != nil {
		return nil, err
	}
	if len(queues) == 0 {
		if err := sealmq.CheckName("routing key", key); err != nil {
			return nil, err
		}
		return nil, errUnroutable(exchange, key)
	}
	d.key, d.found = key, queues
	return queues, nil
}

// find checks the name after the look-up has failed only: what is in the table was
// checked when it was declared.
func (d *destination) find(exchange string) (router, error) {
	r, ok := d.table.exchanges.get(exchange)
	if !ok {
		if err := sealmq.CheckName("exchange", exchange); err != nil {
			return nil, err
		}
	}
	if err := d.broker.allow(d.id, actPublish, exchange); err != nil {
		return nil, err
	}
	if !ok {
		return nil, errNoExchange(exchange)
	}
	return r, nil
}

func (b *Broker) routeKey(r router, key string) ([]string, error) {
	if d, ok := r.(direct); ok {
		// A key that equals a bound one is as valid as that.
		return d.route(key), nil
	}
	if err := sealmq.CheckName("routing key", key); err != nil {
		return nil, err
	}
	if t, ok := r.(topic); ok {
		queues, ok := b.cache.route(t, key)
		if !ok {
			return nil, &sealmq.Error{Code: sealmq.LimitReached, Message: "too many topic bindings could match this routing key"}
		}
		return queues, nil
	}
	return r.route(key), nil
}

// answer waits for the engine's results of one batch and puts them together with the
// broker's own refusals.
type answer struct {
	broker  *Broker
	done    func([]engine.PublishResult)
	size    int
	refused []refusal
	merged  []engine.PublishResult
	// engineDone is finish, bound once per answer and not once per batch.
	engineDone func([]engine.PublishResult)
}

type refusal struct {
	index int
	err   error
}

var answers sync.Pool

func (b *Broker) newAnswer(size int, done func([]engine.PublishResult)) *answer {
	a, ok := answers.Get().(*answer)
	if !ok {
		a = new(answer)
		a.engineDone = a.finish
	}
	a.broker, a.done, a.size = b, done, size
	return a
}

func (a *answer) refuse(i int, err error) { a.refused = append(a.refused, refusal{i, err}) }

// finish answers the batch; results are those of the messages that were not refused.
func (a *answer) finish(results []engine.PublishResult) {
	if len(a.refused) > 0 {
		results = a.merge(results)
	}
	a.broker.metrics.results(results)
	a.done(results)
	a.release()
}

func (a *answer) merge(results []engine.PublishResult) []engine.PublishResult {
	refused := a.refused
	for i := range a.size {
		if len(refused) > 0 && refused[0].index == i {
			a.merged = append(a.merged, engine.PublishResult{Outcome: engine.Refused, Err: refused[0].err})
			refused = refused[1:]
			continue
		}
		a.merged = append(a.merged, results[0])
		results = results[1:]
	}
	return a.merged
}

func (a *answer) release() {
	a.broker, a.done = nil, nil
	if cap(a.merged) > maxPooledRequests {
		return
	}
	clear(a.refused)
	clear(a.merged)
	a.refused, a.merged = a.refused[:0], a.merged[:0]
	answers.Put(a)
}
