package brokerview

import (
	"cmp"
	"context"
	"maps"
	"slices"

	"github.com/sealmq/sealmq"
)

// maxReturn bounds the dead letters of one call.
const maxReturn = 1000

// Letter is a dead letter by its id and its place in the queue.
type Letter struct {
	ID  string
	Seq uint64
}

// Returned says what became of dead letters.
type Returned struct {
	Queues  []ReturnedTo // by name
	Kept    int          // looked at, and still there
	WhyKept string       // of the first of them
	Next    string       // where to go on; empty at the end
}

// ReturnedTo is how many dead letters went to a queue.
type ReturnedTo struct {
	Queue string
	N     int
}

// Total is how many were returned.
func (r *Returned) Total() (n int) {
	for _, to := range r.Queues {
		n += to.N
	}
	return n
}

func (r *Returned) keep(n int, why string) {
	if n > 0 {
		r.Kept += n
		r.WhyKept = cmp.Or(r.WhyKept, why)
	}
}

// Reasons why a message stays among the dead letters.
const (
	whyNoLetter = "it did not die in a queue, so that it has none to return to"
	whyGone     = "it is not there any more"
	whyNotMoved = "it was taken meanwhile, or waits for a later time"
)

// ReturnSome returns some dead letters of a queue to the queues where they died.
func (v *View) ReturnSome(ctx context.Context, queue string, letters []Letter) (r Returned, err error) {
	letters = slices.Clone(letters)
	slices.SortFunc(letters, func(a, b Letter) int { return cmp.Compare(a.Seq, b.Seq) })
	letters = slices.Compact(letters)
	err = v.act(ctx, func(ctx context.Context, m sealmq.Manager) error {
		var found []sealmq.PeekedMessage
		for len(letters) > 0 {
			page, err := m.Peek(ctx, queue, letters[0].Seq, min(len(letters), sealmq.MaxPeek))
			if err != nil {
				return err
			}
			at := letters[0].Seq
			for i := range page {
				at = page[i].Seq
				j, ok := slices.BinarySearchFunc(letters, at, func(l Letter, seq uint64) int { return cmp.Compare(l.Seq, seq) })
				if ok && letters[j].ID == page[i].ID {
					found = append(found, page[i])
				}
			}
			left := slices.DeleteFunc(slices.Clone(letters), func(l Letter) bool { return l.Seq <= at })
			r.keep(len(letters)-len(left), "")
			letters = left
		}
		r.Kept -= len(found)
		if r.Kept > 0 {
			r.WhyKept = whyGone
		}
		return r.move(ctx, m, queue, found)
	})
	v.renewAll(ctx, queue, &r)
	return r, err
}

// ReturnAll returns the dead letters of a queue from a place on, up to maxReturn of them.
func (v *View) ReturnAll(ctx context.Context, queue, cursor string) (r Returned, err error) {
	from, err := parsePlace(cursor)
	if err != nil {
		return r, err
	}
	err = v.act(ctx, func(ctx context.Context, m sealmq.Manager) error {
		var found []sealmq.PeekedMessage
		for len(found) < maxReturn {
			page, err := m.Peek(ctx, queue, from, sealmq.MaxPeek)
			if err != nil {
				return err
			}
			if len(page) == 0 {
				r.Next = ""
				break
			}
			for i := range page {
				page[i].Body, page[i].BodyBytes = nil, nil
			}
			found = append(found, page...)
			from, r.Next = page[len(page)-1].Seq+1, placeAfter(page)
		}
		return r.move(ctx, m, queue, found)
	})
	v.renewAll(ctx, queue, &r)
	return r, err
}

// move moves messages to where they died. What a queue refuses stays, and holds up no other queue.
func (r *Returned) move(ctx context.Context, m sealmq.Manager, queue string, found []sealmq.PeekedMessage) error {
	groups := make(map[string][]string)
	for i := range found {
		if to := found[i].DeathQueue; to != "" && to != queue {
			groups[to] = append(groups[to], found[i].ID)
		} else {
			r.keep(1, whyNoLetter)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(groups)) {
		n := 0
		for ids := range slices.Chunk(groups[name], sealmq.MaxMoveIDs) {
			moved, err := m.MoveMessages(ctx, queue, name, ids)
			n += moved
			if err == nil {
				r.keep(len(ids)-moved, whyNotMoved)
				continue
			}
			if sealmq.CodeOf(err) == "" || sealmq.CodeOf(err) == sealmq.Unavailable {
				return err
			}
			r.keep(len(ids)-moved, err.Error())
		}
		if n > 0 {
			r.Queues = append(r.Queues, ReturnedTo{name, n})
		}
	}
	return nil
}

func (v *View) renewAll(ctx context.Context, queue string, r *Returned) {
	v.renew(ctx, queue)
	for _, to := range r.Queues[:min(len(r.Queues), 10)] {
		v.renew(ctx, to.Queue)
	}
}
