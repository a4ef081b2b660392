package broker

import (
	"strconv"
	"strings"

	"github.com/sealmq/sealmq"
)

// newQueue decides whether a caller may make a queue that is missing, and with which options: its
// maker owns it. A dead-letter queue is made for the owner of its queue, even if another asks; with
// options of its own only by that owner. So nobody is there first with one that is too small, or
// that belongs to somebody else. The caller holds mu.
func (b *Broker) newQueue(c Caller, name string, o *sealmq.QueueOptions) (sealmq.QueueOptions, error) {
	options := sealmq.QueueOptions{}
	if err := sealmq.CheckNewName("queue", strings.TrimSuffix(name, sealmq.DeadSuffix)); err != nil {
		return options, err
	}
	if o != nil {
		options = *o
	}
	options.Owner = c.Owner()
	if of, ok := strings.CutSuffix(name, sealmq.DeadSuffix); ok {
		info, err := b.engine.Queue(of)
		mine := err == nil && info.Options.Owner == c.Owner() || c.Role == sealmq.RoleAdmin || b.grants.ofPipeline(name)
		switch {
		case err != nil && !mine:
			return options, b.deny(c, name, "not allowed to declare '"+name+"': declare '"+of+"' first, whose dead-letter queue it is")
		case o == nil: // whatever comes first, a consumer or the first dead letter, the queue is bounded
			options = sealmq.DeadLetterOptions(info.Options)
		case !mine:
			return options, b.deny(c, name, "not allowed to declare '"+name+"': it is the dead-letter queue of another client's queue")
		}
		if err == nil {
			options.Owner = info.Options.Owner
		}
	} else if dead, err := b.engine.Queue(name + sealmq.DeadSuffix); err == nil && c.Role != sealmq.RoleAdmin && !b.grants.ofPipeline(name) {
		if owner := dead.Options.Owner; owner != c.Owner() && owner != (sealmq.Owner{}) {
			return options, b.deny(c, name, "not allowed to declare '"+name+"': its dead-letter queue is another client's")
		}
	}
	if err := b.room("queue", b.topo.countQueues(), b.limits.Queues); err != nil {
		return options, err
	}
	return options, b.roomOf(options.Owner, "queue", b.topo.ownedBy(options.Owner).Queues, b.limits.QueuesPerIdentity)
}

// deny refuses, counts and audits a declaration.
func (b *Broker) deny(c Caller, object, why string) error {
	err := &sealmq.Error{Code: sealmq.Denied, Message: why}
	b.metrics.denied(actDeclare)
	b.Audit(c, string(actDeclare), object, err)
	return err
}

// room refuses one more definition of a kind than there can be.
func (b *Broker) room(kind string, have, limit int) error {
	if have < limit {
		return nil
	}
	b.metrics.overLimit.WithLabelValues(kind, "all").Inc()
	return errLimit(strconv.Itoa(limit) + " " + kind + "s")
}

// roomOf refuses one more definition of a kind than an identity can have. Administrators have the
// limits of all only.
func (b *Broker) roomOf(owner sealmq.Owner, kind string, have, limit int) error {
	if have < limit || owner == (sealmq.Owner{}) {
		return nil
	}
	b.metrics.overLimit.WithLabelValues(kind, "identity").Inc()
	return errLimit(strconv.Itoa(limit) + " " + kind + "s of one identity (limits." + kind + "s_per_identity)")
}

func errLimit(what string) error {
	return &sealmq.Error{Code: sealmq.LimitReached, Message: "the limit of " + what + " is reached"}
}
