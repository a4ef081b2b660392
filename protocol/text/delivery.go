package text

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/broker"
	"github.com/sealmq/sealmq/engine"
)

const (
	// maxTake bounds the messages of one Take.
	maxTake = 256
	// remembered is how many deliveries stay in the ledger although the broker may have
	// taken them back, so that a late ack still names its delivery.
	remembered = 4096
)

// delivery is the consumer's side of a session.
type delivery struct {
	// ready says that the broker may have something to push. It stays set while nothing may
	// be pushed.
	ready atomic.Bool
	// ending says that there is something in ended.
	ending atomic.Bool
	// several says that the peer has held several deliveries at once. Until then a confirm
	// leaves before the push that it makes room for. CipherMQ v1.4.0's receiver needs that: it
	// drops what is pushed while it waits for a confirm. With a credit of one it stays so, and
	// with more a push may wait for one sync, once.
	several atomic.Bool

	// pushMu is held while messages are taken, so that holds cannot change meanwhile. holds
	// counts the commands whose reply must be printed before anything may be pushed: consumes
	// (specification R21), and acks of a peer that has never held several deliveries.
	pushMu   sync.Mutex
	holds    int
	consumer atomic.Pointer[broker.Consumer]
	draining bool // under pushMu; nothing is pushed any more
	closed   bool // under pushMu; the session is closed

	// mu guards the rest. It is taken after pushMu. It is never held across a call of the
	// broker, whose callbacks take it.
	mu     sync.Mutex
	ledger ledger
	ended  []string // queues whose deletion the peer was not told of, each at most once
	// subs has the subscription to each queue that is consumed, and 0 for a queue of which
	// the peer was not told yet that its subscription has ended, or that is just subscribed.
	subs    map[string]sealmq.SubscriptionID
	lost    sealmq.SubscriptionID // the last one that ended before it was in subs
	atLimit bool                  // the peer holds as much as it may; its next ack makes room
}

// openConsumer returns the consumer's side, which it opens when it is first needed; nil
// once the session is closed.
func (s *Session) openConsumer() *broker.Consumer {
	d := &s.delivery
	if c := d.consumer.Load(); c != nil {
		return c
	}
	d.pushMu.Lock()
	defer d.pushMu.Unlock()
	if d.closed {
		return nil
	}
	c := s.cfg.Broker.Open(s.caller, func() {
		d.ready.Store(true)
		s.peer.Wake()
	}, func(sub sealmq.SubscriptionID, queue string, _ error) {
		d.end(sub, queue)
		s.peer.Wake()
	})
	d.consumer.Store(c)
	return c
}

// holdPushes stops pushing until resumePushes is called as often.
func (d *delivery) holdPushes() {
	d.pushMu.Lock()
	defer d.pushMu.Unlock()
	d.holds++
}

func (d *delivery) resumePushes() {
	d.pushMu.Lock()
	defer d.pushMu.Unlock()
	d.holds--
	d.ready.Store(true)
}

func (d *delivery) close() {
	d.pushMu.Lock()
	defer d.pushMu.Unlock()
	d.closed = true
	if c := d.consumer.Load(); c != nil {
		c.Close(true)
	}
}

// settleID appends a settlement for each delivery that id means, and notes in g that it is
// pending.
func (d *delivery) settleID(g *group, r *requests, id []byte, like engine.Settlement) (found, madeRoom bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	before := len(g.pending)
	r.settlements, g.pending = d.ledger.settle(r.settlements, g.pending, id, like)
	if found = len(g.pending) > before; found && d.atLimit {
		d.atLimit, madeRoom = false, true
	}
	return found, madeRoom
}

// settled ends the pending settlements of a group, as in ledger.
func (d *delivery) settled(list []pending, stored bool, now time.Time) latencies {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ledger.settled(list, stored, now)
}

// remember puts deliveries into the ledger before they are printed.
func (d *delivery) remember(list []sealmq.Delivery, c *broker.Consumer, now time.Time) {
	if d.note(list, now) > remembered {
		held := c.Unacked()
		d.mu.Lock()
		defer d.mu.Unlock()
		d.ledger.dropOldest(held + remembered)
	}
}

// note adds deliveries to the ledger and returns how many there are in it.
func (d *delivery) note(list []sealmq.Delivery, now time.Time) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range list {
		d.ledger.add(&list[i], now)
	}
	return d.ledger.len()
}

// reserve gives a queue its place in subs, unless there are limit others. It returns the
// subscription that there is already, or 0; listed says that the queue had its place before.
func (d *delivery) reserve(queue string, limit int) (sub sealmq.SubscriptionID, listed, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	sub, listed = d.subs[queue]
	if !listed {
		if len(d.subs) >= limit {
			return 0, false, false
		}
		if d.subs == nil {
			d.subs = make(map[string]sealmq.SubscriptionID)
		}
		d.subs[queue] = 0
	}
	return sub, listed, true
}

// subscribed notes which subscription there is, unless it has ended meanwhile.
func (d *delivery) subscribed(queue string, sub sealmq.SubscriptionID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if sub != 0 && sub != d.lost {
		d.subs[queue] = sub
	}
}

// unreserve takes the place of a queue back whose subscription failed.
func (d *delivery) unreserve(queue string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.subs, queue)
}

// end is called by the broker when a queue that is consumed was deleted.
func (d *delivery) end(sub sealmq.SubscriptionID, queue string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.subs[queue] == sub {
		d.subs[queue] = 0
	} else {
		d.lost = sub
	}
	if !slices.Contains(d.ended, queue) {
		d.ended = append(d.ended, queue)
	}
	d.ending.Store(true)
}

// appendEnded says which subscriptions have ended, if the peer wants to know. Others are
// CipherMQ's clients, which know no such line.
func (d *delivery) appendEnded(dst []byte, wanted bool) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, queue := range d.ended {
		if wanted {
			dst = append(appendQuoted(append(append(dst, prefixEnded...), `{"queue":`...), queue), `,"reason":"deleted"}`+"\n"...)
		}
		if d.subs[queue] == 0 {
			delete(d.subs, queue)
		}
	}
	d.ended = nil
	return dst
}

// room is how many more messages the peer may hold.
func (d *delivery) room(c *broker.Consumer, limit int) int {
	n := limit - c.Unacked()
	d.mu.Lock()
	d.atLimit = n <= 0
	d.mu.Unlock()
	return n
}

var deliveryLists = sync.Pool{New: func() any { return new([]sealmq.Delivery) }}

// appendPushes takes from the broker what it has for this connection, within the budget,
// and prints it.
func (s *Session) appendPushes(dst []byte, budget int) []byte {
	d := &s.delivery
	c := d.consumer.Load()
	if budget <= 0 || c == nil || !d.ready.Load() && !d.ending.Load() {
		return dst
	}
	d.pushMu.Lock()
	defer d.pushMu.Unlock()
	if d.holds > 0 || d.draining || d.closed {
		return dst
	}
	if d.ending.Swap(false) {
		dst = d.appendEnded(dst, s.meta.Load() != metaOff)
	}
	if !d.ready.Swap(false) {
		return dst
	}
	most := min(maxTake, d.room(c, s.cfg.Limits.Unacked))
	if most <= 0 {
		return dst
	}
	start := s.cfg.Clock.Now()
	pooled := deliveryLists.Get().(*[]sealmq.Delivery)
	list, err := c.Take((*pooled)[:0], most, budget)
	if err != nil {
		s.peer.Log.Error("messages cannot be taken", "err", err)
	}
	if !d.several.Load() && c.Unacked() > 1 {
		d.several.Store(true)
	}
	taken := 0
	for i := range list {
		taken += len(list[i].Body)
	}
	if len(list) == most || taken >= budget {
		d.ready.Store(true)
	}
	if good := s.printable(list, c); len(good) > 0 {
		d.remember(good, c, start)
		meta := s.meta.Load() == metaOn
		for i := range good {
			if meta {
				dst = appendMeta(dst, &good[i])
			}
			dst = appendMessage(dst, &good[i])
		}
		s.cfg.Metrics.deliveries.add(len(good), s.cfg.Clock.Now().Sub(start))
	}
	clear(list)
	*pooled = list[:0]
	deliveryLists.Put(pooled)
	return dst
}

// printable removes from list, in place, what cannot be a line of this protocol. What was
// published as a line always can.
func (s *Session) printable(list []sealmq.Delivery, c *broker.Consumer) []sealmq.Delivery {
	good := list[:0]
	for i := range list {
		if canPrint(&list[i]) {
			good = append(good, list[i])
		} else {
			s.moveDead(c, &list[i])
		}
	}
	return good
}

func canPrint(d *sealmq.Delivery) bool {
	return bytes.IndexByte(d.Body, '\n') < 0 && sealmq.CheckName("message id", d.ID) == nil
}

// moveDead dead-letters a message that cannot be printed: a consumer that never sees it
// cannot settle it.
func (s *Session) moveDead(c *broker.Consumer, d *sealmq.Delivery) {
	queue := d.Queue
	s.peer.Log.Info("message cannot be a line and is dead-lettered", "queue", queue, "message_id", d.ID)
	c.Settle([]engine.Settlement{{Tag: d.Tag, Verdict: engine.Dead, Reason: "cannot be delivered over the line protocol"}},
		func(err error) {
			if err != nil {
				s.peer.Log.Error("message that cannot be a line is not dead-lettered", "queue", queue, "err", err)
			}
		})
}

// appendMessage appends a push, which is also the reply to fetch.
func appendMessage(dst []byte, d *sealmq.Delivery) []byte {
	dst = append(append(dst, prefixMessage...), d.ID...)
	dst = append(append(dst, ' '), d.Body...)
	return append(dst, '\n')
}

// appendMeta appends the line that precedes a push after `meta on`.
func appendMeta(dst []byte, d *sealmq.Delivery) []byte {
	dst = append(append(dst, prefixMeta...), `{"queue":`...)
	dst = appendQuoted(dst, d.Queue)
	dst = appendQuoted(append(dst, `,"publisher":`...), d.Publisher)
	dst = appendQuoted(append(dst, `,"exchange":`...), d.Exchange)
	dst = appendQuoted(append(dst, `,"key":`...), d.Key)
	dst = append(dst, `,"time":"`...)
	dst = d.Published.UTC().AppendFormat(dst, "2006-01-02T15:04:05.000Z")
	dst = append(dst, `","attempt":`...)
	dst = strconv.AppendUint(dst, uint64(d.Attempt), 10)
	if d.Redelivered() {
		dst = append(dst, `,"redelivered":true`...)
	}
	if d.DeathReason != "" || d.DeathQueue != "" {
		dst = appendQuoted(append(dst, `,"death_reason":`...), d.DeathReason)
		dst = appendQuoted(append(dst, `,"death_queue":`...), d.DeathQueue)
	}
	return append(dst, "}\n"...)
}

// appendQuoted appends s as a JSON string. Names are plain ASCII nearly always.
func appendQuoted(dst []byte, s string) []byte {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < ' ' || c >= 0x7f || c == '"' || c == '\\' {
			quoted, err := json.Marshal(s)
			if err != nil {
				return append(dst, `""`...)
			}
			return append(dst, quoted...)
		}
	}
	return append(append(append(dst, '"'), s...), '"')
}
