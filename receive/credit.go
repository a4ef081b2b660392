package receive

import (
	"context"

	"github.com/sealmq/sealmq"
)

// credit is the prefetch. Messages that the application does not get, because they do not open
// or came before, cost a round trip for each prefetch of them. While most are like that, the
// prefetch grows, so that many of them in front do not hold up those behind. What came with a
// larger prefetch is not given back: later messages may be on their way already.
type credit struct {
	own, now    int // own is the one that is wanted; 0 if the queue does not tell, then it stays
	shown, kept int // messages since it was set: for the application, and not
	bytes       int // of them all
}

// take waits for messages, with the prefetch that those before suggest.
func (r *Receiver) take(ctx context.Context) error {
	c := &r.credit
	next := c.own
	if c.kept > c.shown {
		next = max(c.own, min(4*c.now, maxCredit, maxCreditBytes/max(c.bytes/(c.kept+c.shown), 1)))
	}
	c.shown, c.kept, c.bytes = 0, 0, 0
	if c.own > 0 && next != c.now {
		c.now = next
		_ = r.sub.SetPrefetch(next) // what is wrong with the subscription, its Next says
	}
	n, err := r.sub.Next(ctx, r.batch)
	if err == nil {
		r.setPending(r.batch[:n])
	}
	return err
}

// count counts settled messages, of which the application gets so many.
func (c *credit) count(settled []sealmq.Delivery, shown int) {
	c.shown += shown
	c.kept += len(settled) - shown
	for i := range settled {
		c.bytes += len(settled[i].Body)
	}
}
