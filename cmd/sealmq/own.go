package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/pipeline"
)

// ownCertificate is the certificate of a role. Between processes, the one that is called looks
// at it for each connection. Within one process nobody shows a certificate, so that the role
// itself asks, and a revocation of its certificate stops it in the same way.
type ownCertificate struct {
	node *node
	role sealmq.Role

	mu  sync.Mutex
	at  time.Time
	ctx context.Context // ends when the certificate is no good any more
	end context.CancelCauseFunc
}

// own returns the certificate of a role, which is looked at again after each revocation.
func (n *node) own(role sealmq.Role) *ownCertificate {
	o := &ownCertificate{node: n, role: role}
	o.ctx, o.end = context.WithCancelCause(context.Background())
	n.rechecks = append(n.rechecks, func() { o.lookAgain(0) })
	return o
}

// lookAtOwn is how long an answer is good: a certificate also expires, or is replaced.
const lookAtOwn = 100 * time.Millisecond

// err says why the role may do nothing, or nil.
func (o *ownCertificate) err() error { return context.Cause(o.lookAgain(lookAtOwn)) }

// lookAgain looks at the certificate unless that was done within an age. The context that it
// returns has ended, with the reason, if the certificate is no good.
func (o *ownCertificate) lookAgain(age time.Duration) context.Context {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	if !o.at.IsZero() && now.Sub(o.at) < age {
		return o.ctx
	}
	o.at = now
	why := o.look(now)
	switch {
	case why != nil:
		o.end(why)
	case o.ctx.Err() != nil:
		o.ctx, o.end = context.WithCancelCause(context.Background())
	}
	return o.ctx
}

func (o *ownCertificate) look(now time.Time) error {
	chain := o.node.chainOf(o.role)()
	why := ""
	switch {
	case len(chain) == 0 && !o.node.revoked.RevokesName(string(o.role)):
		return nil // a node with certificates of its own needs none for what is in one process
	case len(chain) > 0 && now.After(chain[0].NotAfter):
		why = "expired"
	case len(chain) == 0 || o.node.revoked.Check(chain) != nil:
		why = "been revoked"
	default:
		return nil
	}
	return &sealmq.Error{Code: sealmq.Denied, Message: fmt.Sprintf("the certificate of the role %s in this process has %s", o.role, why)}
}

// ownQueue is a queue in this process for a role.
type ownQueue struct {
	pipeline.Queue
	own *ownCertificate
}

func (q *ownQueue) Enqueue(ctx context.Context, items []pipeline.Item) ([]pipeline.EnqueueResult, error) {
	if err := q.own.err(); err != nil { // the client is not to blame
		err = &sealmq.Error{Code: sealmq.Unavailable, Message: "the queue refuses this proxy", Err: err}
		return slices.Repeat([]pipeline.EnqueueResult{{Outcome: pipeline.Refused, Err: err}}, len(items)), nil
	}
	return q.Queue.Enqueue(ctx, items)
}

func (q *ownQueue) Counts(ctx context.Context) (pipeline.Counts, error) {
	if err := q.own.err(); err != nil {
		return pipeline.Counts{}, err
	}
	return q.Queue.Counts(ctx)
}

func (q *ownQueue) Waiting(ctx context.Context, from uint64, limit int) ([]pipeline.Item, uint64, error) {
	if err := q.own.err(); err != nil {
		return nil, 0, err
	}
	return q.Queue.Waiting(ctx, from, limit)
}

func (q *ownQueue) Dead(ctx context.Context, limit int) ([]pipeline.DeadItem, error) {
	if err := q.own.err(); err != nil {
		return nil, err
	}
	return q.Queue.Dead(ctx, limit)
}

func (q *ownQueue) Requeue(ctx context.Context, ids []string) (int, error) {
	if err := q.own.err(); err != nil {
		return 0, err
	}
	return q.Queue.Requeue(ctx, ids)
}

func (q *ownQueue) Consumer(worker string) (pipeline.Consumer, error) {
	if err := q.own.err(); err != nil {
		return nil, err
	}
	c, err := q.Queue.Consumer(worker)
	return &ownConsumer{c, q.own}, err
}

type ownConsumer struct {
	pipeline.Consumer
	own *ownCertificate
}

// Take takes nothing while the certificate is no good. What it took in the same moment goes
// back.
func (c *ownConsumer) Take(ctx context.Context, max int) ([]pipeline.Taken, error) {
	good := c.own.lookAgain(lookAtOwn)
	during, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(good, cancel)()
	taken, err := c.Consumer.Take(during, max)
	why := context.Cause(good)
	if why == nil {
		return taken, err
	}
	back := make([]pipeline.Finished, len(taken))
	for i, t := range taken {
		back[i] = pipeline.Finished{Ticket: t.Ticket, Verdict: pipeline.Release}
	}
	if len(back) > 0 {
		why = errors.Join(why, c.Finish(context.WithoutCancel(ctx), back))
	}
	return nil, why
}
