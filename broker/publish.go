package broker

import (
	"slices"
	"sync"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
)

// Publish routes each message and has the engine store it in all of its queues or in
// none. The caller fills in the messages and their Repeat; the broker adds Publisher,
// Published, Scope, Queues and Copies in the same slice, which belongs to the caller again when
// Publish returns, like everything that the messages point to.
//
// results[i] answers batch[i]; the slice is the broker's again when done returns. A
// message is Refused with code NoExchange if its exchange was never declared, with Denied,
// BadName or NotSealed, or as the engine refuses it. It is Unrouted, with code Unroutable,
// if no queue is bound for its key.
//
// One goroutine's batches are stored in the order of its calls, and each batch in its own
// order: if a queue was deleted after a message was routed to it, the message is routed
// again before those behind it are stored.
func (b *Broker) Publish(c Caller, batch []engine.Publish, done func(results []engine.PublishResult)) {
	a := &answer{broker: b, done: done, size: len(batch)}
	refused := b.route(c, batch)
	taken := b.engine.Publish(batch, a.part(0, refused))
	for tries := 1; taken < len(batch); tries++ {
		rest := batch[taken:]
		refused := b.routeAgain(c, rest, tries >= maxRoutes)
		n := b.engine.Publish(rest, a.part(taken, refused))
		if taken += n; n > 0 {
			tries = 0
		}
	}
}

// maxRoutes bounds how often one message is routed again. Once is enough unless another
// of its queues is deleted at the same time.
const maxRoutes = 10

// refusal is the broker's own answer to one message of a batch.
type refusal struct {
	index  int
	result engine.PublishResult
}

// route fills in where the messages go: nowhere, if they are refused.
func (b *Broker) route(c Caller, batch []engine.Publish) (refused []refusal) {
	now := time.UnixMilli(b.clock.Now().UnixMilli()).UTC()
	at := routing{broker: b, caller: c}
	scope := c.ID + " " + c.Issuer
	for i := range batch {
		p := &batch[i]
		if p.Scope = scope; b.grants.ofPipeline(p.Message.Exchange) {
			p.Scope = "" // a message that one proxy did not see answered comes again by another
		}
		p.Message.Publisher, p.Message.Published = c.ID, now
		queues, err := at.queues(&p.Message)
		switch {
		case err != nil:
			refused = append(refused, refusal{i, engine.PublishResult{Outcome: engine.Refused, Err: err}})
		case len(queues) == 0:
			refused = append(refused, refusal{i, unrouted(&p.Message)})
		}
		p.Queues, p.Copies = queues, at.copies
	}
	return refused
}

// routeAgain is route for a batch of which the first message names a queue that the
// engine does not have. If the topology still has it, its deletion is under way.
func (b *Broker) routeAgain(c Caller, batch []engine.Publish, last bool) []refusal {
	refused := b.route(c, batch)
	missing := make(map[string]bool)
	gone := func(queue string) bool {
		if _, asked := missing[queue]; !asked {
			_, err := b.engine.Queue(queue)
			missing[queue] = sealmq.CodeOf(err) == sealmq.NoQueue
		}
		return missing[queue]
	}
	for i := range batch {
		p := &batch[i]
		giveUp := last && i == 0 && len(p.Queues) > 0
		if !giveUp && !slices.ContainsFunc(p.Queues, gone) {
			continue
		}
		p.Queues = slices.DeleteFunc(slices.Clone(p.Queues), gone)
		if giveUp || len(p.Queues) == 0 {
			p.Queues = nil
			refused = append(refused, refusal{i, unrouted(&p.Message)})
		}
	}
	return refused
}

func unrouted(m *sealmq.Message) engine.PublishResult {
	return engine.PublishResult{Outcome: engine.Unrouted, Err: errUnroutable(m.Exchange, m.Key)}
}

// routing routes one batch. It keeps the last answer, because the messages of a batch
// mostly go the same way.
type routing struct {
	broker *Broker
	caller Caller

	known bool // name was looked up
	name  string
	x     *exchange
	err   error // why there is no exchange

	key    string
	found  []string // by x for key; never empty
	copies []string // to temporary queues
	strict []sealedQueue
}

// queues returns where a message goes; nowhere is no error.
func (r *routing) queues(m *sealmq.Message) ([]string, error) {
	if m.ID != "" {
		if err := sealmq.CheckName("message id", m.ID); err != nil {
			return nil, err
		}
	}
	if !r.known || m.Exchange != r.name {
		r.known, r.name, r.found = true, m.Exchange, nil
		r.x, r.err = r.broker.exchangeFor(r.caller, m.Exchange)
	}
	if r.err != nil {
		return nil, r.err
	}
	if r.found == nil || m.Key != r.key {
		queues, err := r.x.route(m.Key)
		if err == nil {
			queues, r.copies = r.broker.topo.withoutTemporary(queues)
		}
		if err != nil || len(queues) == 0 {
			r.found = nil
			return nil, err
		}
		r.key, r.found, r.strict = m.Key, queues, r.broker.topo.strict(queues)
	}
	if r.strict != nil {
		if err := checkSealed(r.strict, m.Body); err != nil {
			return nil, err
		}
	}
	return r.found, nil
}

// exchangeFor finds the exchange of a message. The name is checked only if the look-up fails:
// what is there was checked when it was declared.
func (b *Broker) exchangeFor(c Caller, name string) (*exchange, error) {
	x := b.topo.exchange(name)
	if x == nil {
		if err := sealmq.CheckName("exchange", name); err != nil {
			return nil, err
		}
	}
	if err := b.allow(c, actPublish, name); err != nil {
		return nil, err
	}
	if x == nil {
		return nil, errNoExchange(name)
	}
	return x, nil
}

// answer is the answer to one batch. The engine may take the batch in parts, and its results
// are put together here.
type answer struct {
	broker *Broker
	done   func([]engine.PublishResult)
	size   int

	mu       sync.Mutex
	results  []engine.PublishResult // if there is more than one part
	answered int
}

// part returns the done function for the part of the batch that begins at from. refused has
// the broker's own answers to messages of the part, or to later ones: the engine sees these
// as unrouted, and may take fewer messages than it was given.
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
