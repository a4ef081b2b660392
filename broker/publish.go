package broker

import (
	"sync"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
)

// maxRoutes bounds how often one message is routed again because a queue that it was
// routed to was deleted meanwhile.
const maxRoutes = 10

// Publish routes each message and has the engine store it in all of its queues or in
// none. The caller fills the messages and their Repeat; the broker adds Publisher,
// Published and Queues in the same slice, which belongs to the caller again when Publish
// returns, like everything that the messages point to.
//
// results[i] answers batch[i]; the slice is the broker's again when done returns. A
// message is Refused with code NoExchange if its exchange was never declared, with Denied,
// BadName or NotSealed, or as the engine refuses it. It is Unrouted, with code Unroutable,
// if no queue is bound for its key.
//
// One goroutine's batches are stored in the order of its calls, and each batch in its own
// order: a message whose queue was deleted meanwhile is routed again before those behind
// it are stored.
func (b *Broker) Publish(c Caller, batch []engine.Publish, done func(results []engine.PublishResult)) {
	a := &answer{broker: b, done: done, size: len(batch)}
	for from, tries := 0, 1; ; tries++ {
		rest := batch[from:]
		refused := b.route(c, rest)
		if tries > maxRoutes {
			rest[0].Queues = nil
			refused = append(refused, refusal{0, unrouted(&rest[0].Message)})
		}
		taken := b.engine.Publish(rest, a.part(from, refused))
		if from += taken; from == len(batch) {
			return
		}
		if taken > 0 {
			tries = 0
		}
	}
}

// refusal is the broker's own answer to one message of a batch.
type refusal struct {
	index  int
	result engine.PublishResult
}

// route fills in where the messages go: nowhere, if they are refused.
func (b *Broker) route(c Caller, batch []engine.Publish) (refused []refusal) {
	now := time.UnixMilli(b.clock.Now().UnixMilli()).UTC()
	at := &destination{broker: b, caller: c, table: b.table.Load()}
	for i := range batch {
		p := &batch[i]
		p.Message.Publisher, p.Message.Published = c.ID, now
		queues, err := at.queues(&p.Message)
		switch {
		case err != nil:
			refused = append(refused, refusal{i, engine.PublishResult{Outcome: engine.Refused, Err: err}})
		case len(queues) == 0:
			refused = append(refused, refusal{i, unrouted(&p.Message)})
		}
		p.Queues = queues
	}
	return refused
}

func unrouted(m *sealmq.Message) engine.PublishResult {
	return engine.PublishResult{Outcome: engine.Unrouted, Err: errUnroutable(m.Exchange, m.Key)}
}

// answer puts the results of one batch together, which the engine may take in parts.
type answer struct {
	broker *Broker
	done   func([]engine.PublishResult)
	size   int

	mu       sync.Mutex
	results  []engine.PublishResult // if there is more than one part
	answered int
}

// part returns the done function for the messages from one on. refused is the broker's
// own answers to some of them, which the engine need not have taken.
func (a *answer) part(from int, refused []refusal) func([]engine.PublishResult) {
	return func(results []engine.PublishResult) {
		for _, r := range refused {
			if r.index < len(results) {
				results[r.index] = r.result
			}
		}
		a.broker.metrics.results(results)
		if len(results) == a.size {
			a.done(results)
			return
		}
		a.collect(from, results)
	}
}

// collect keeps a part and answers once the last one is there.
func (a *answer) collect(from int, part []engine.PublishResult) {
	a.mu.Lock()
	if a.results == nil {
		a.results = make([]engine.PublishResult, a.size)
	}
	copy(a.results[from:], part)
	a.answered += len(part)
	last := len(part) > 0 && a.answered == a.size
	a.mu.Unlock()
	if last {
		a.done(a.results)
	}
}

// destination finds queues. It keeps the last answer, because the messages of a batch
// mostly go the same way.
type destination struct {
	broker *Broker
	caller Caller
	table  *table

	known    bool // exchange was looked up
	exchange string
	router   router
	err      error // why there is no router

	key   string
	found []string // by router for key; never empty
}

// queues returns where a message goes, or an error.
func (d *destination) queues(m *sealmq.Message) ([]string, error) {
	if d.broker.closed.Load() {
		return nil, sealmq.ErrUnavailable
	}
	if m.ID != "" {
		if err := sealmq.CheckName("message id", m.ID); err != nil {
			return nil, err
		}
	}
	queues, err := d.route(m.Exchange, m.Key)
	if err != nil {
		return nil, err
	}
	if err := d.broker.sealed.check(queues, m.Body); err != nil {
		return nil, err
	}
	return queues, nil
}

func (d *destination) route(exchange, key string) ([]string, error) {
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
		return nil, sealmq.CheckName("routing key", key)
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
	if err := d.broker.allow(d.caller, actPublish, exchange); err != nil {
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
