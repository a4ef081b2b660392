package receive

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/keydir"
	"github.com/sealmq/sealmq/seal"
)

// settle returns those of the first n pending messages that are to be shown, and settles the
// others. If an error keeps it from judging one, it says how many were done.
func (r *Receiver) settle(ctx context.Context, n int, noKeys time.Duration) (list []Received, done int, err error) {
	var acks []sealmq.Delivery
	for done < n && err == nil {
		d, res := &r.pending[done], &r.results[done]
		reason := res.err
		if reason == nil {
			if reason, err = r.checkPeer(ctx, res.m); err != nil {
				break
			}
		}
		_, left := r.left[d.ID] // it was refused before, and has come again
		switch {
		case errors.Is(reason, seal.ErrNoCertificates) && r.mayAskAgain(d.ID):
			err = r.postpone(d, r.cfg.UndecidedDelay, reason)
		case isUndecided(reason) && ctx.Err() != nil:
			err = ctx.Err()
		case isUndecided(reason):
			err = r.postpone(d, r.cfg.UndecidedDelay, reason)
		case noKeys > 0 && !left && errors.Is(reason, seal.ErrWrongKey):
			err = r.postpone(d, noKeys, reason)
		case reason != nil:
			err = r.refuse(d, reason)
		default:
			r.hasOpened = true
			delete(r.chainless, d.ID)
			switch j, h := r.cfg.Ledger.take(res.m, r); j {
			case LedgerNew:
				one := *d
				list = append(list, Received{Message: res.m, Delivery: &one, hand: h})
			case LedgerSeen:
				r.repeated.Add(1)
				acks = append(acks, *d)
			case LedgerConflict:
				r.conflicts.Add(1)
				err = r.refuse(d, ErrMessageConflict)
			case LedgerForgotten:
				err = r.refuse(d, ErrMessageForgotten)
			case LedgerInHand:
				if h.by != r { // the other one commits it, or it is this one's then
					err = r.sub.Release(r.cfg.UndecidedDelay, *d)
				}
			}
		}
		if err == nil {
			done++
		}
	}
	r.show(list)
	return list, done, errors.Join(r.sub.Ack(acks...), err)
}

func (r *Receiver) show(list []Received) {
	r.opened.Add(uint64(len(list)))
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range list {
		r.shown[list[i].ID] = list[i].Delivery
	}
}

// isUndecided reports whether time may cure what a message is refused for.
func isUndecided(err error) bool {
	return errors.Is(err, seal.ErrUndecided) || errors.Is(err, seal.ErrFuture)
}

// mayAskAgain counts that nobody had the certificates of a message, and reports whether the
// broker is asked again when the message comes again.
func (r *Receiver) mayAskAgain(id string) bool {
	times, counted := r.chainless[id]
	if times+1 >= chainTries || !counted && len(r.chainless) >= maxChainless {
		delete(r.chainless, id)
		return false
	}
	r.chainless[id] = times + 1
	return true
}

// postpone gives a message back uncounted that cannot be judged now.
func (r *Receiver) postpone(d *sealmq.Delivery, delay time.Duration, reason error) error {
	r.undecided.Add(1)
	r.cfg.Log.Info("message cannot be judged now and comes again", "message_id", d.ID, "err", reason)
	return r.sub.Release(delay, *d)
}

// checkPeer compares the checkpoint of a message's epoch with what is seen here. reason is
// about the message; err is about the directory, or ctx, and ends the call.
func (r *Receiver) checkPeer(ctx context.Context, m *seal.Message) (reason, err error) {
	checkpoint, ok := m.Extension(seal.ExtCheckpoint)
	if r.cfg.Directory == nil || !ok || r.checked[m.Epoch.Hash] {
		return nil, nil
	}
	err = r.cfg.Directory.CheckPeer(ctx, checkpoint)
	var fork *keydir.ForkError
	switch {
	case err == nil:
		if len(r.checked) >= maxCheckedEpochs {
			clear(r.checked)
		}
		r.checked[m.Epoch.Hash] = true
		return nil, nil
	case errors.Is(err, keydir.ErrCheckpoint):
		return err, nil
	case errors.As(err, &fork), errors.Is(err, keydir.ErrRollback), errors.Is(err, keydir.ErrLog), errors.Is(err, keydir.ErrPinned):
		return nil, fmt.Errorf("message %s of %s: %w", m.ID, m.Sender.ID, err)
	case ctx.Err() != nil:
		return nil, ctx.Err()
	}
	return fmt.Errorf("%w: %w", seal.ErrUndecided, err), nil
}

// mayBeMine reports whether what the Receiver was given may be why a message is refused. The
// route is not among it: only a message that opens has been sent elsewhere.
func mayBeMine(err error) bool {
	if errors.Is(err, seal.ErrNoCertificates) {
		return false
	}
	mine := []error{seal.ErrWrongKey, seal.ErrReceiver, seal.ErrUntrusted, seal.ErrSuite, seal.ErrExpired}
	return slices.ContainsFunc(mine, func(kind error) bool { return errors.Is(err, kind) })
}

// refuse moves a message to the dead-letter queue, or leaves it where it is.
func (r *Receiver) refuse(d *sealmq.Delivery, reason error) error {
	if r.deadQueue || mayBeMine(reason) && !r.cfg.DeadLetter {
		return r.leave(d, reason)
	}
	r.cfg.Log.Warn("message is refused and goes to the dead-letter queue", "message_id", d.ID, "err", reason)
	r.refused.Add(1)
	return r.sub.Dead(reason.Error(), *d)
}

// leave gives a message back uncounted. It comes again later each time, so that it stops
// nobody and costs little however long it stays.
func (r *Receiver) leave(d *sealmq.Delivery, reason error) error {
	times, known := r.left[d.ID]
	delay := maxLeftDelay
	if known || len(r.left) < maxLeft {
		r.left[d.ID] = times + 1
		delay = min(maxLeftDelay, minLeftDelay<<min(times, 16))
	}
	if !known {
		r.stayed.Add(1)
		r.cfg.Log.Warn("message cannot be opened and stays in the queue", "message_id", d.ID, "err", reason)
		r.unopened = cmp.Or(r.unopened, reason)
	}
	return r.sub.Release(delay, *d)
}

// Unopened is an *UnopenedError if messages came and none could be opened, else nil.
func (r *Receiver) Unopened() error {
	if r.unopened == nil || r.hasOpened || r.deadQueue {
		return nil
	}
	return &UnopenedError{Messages: int(r.stayed.Load()), Err: r.unopened}
}

// UnopenedError says that nothing could be opened with what a Receiver was given: its keys,
// its names, and the authorities and suites that it accepts. All of it stays in the queue.
type UnopenedError struct {
	Messages int
	Err      error // about the first one
}

// Error says how many messages there were, and about the first one why.
func (e *UnopenedError) Error() string {
	if e.Messages == 1 {
		return fmt.Sprintf("the first message cannot be opened: %v", e.Err)
	}
	return fmt.Sprintf("none of the first %d messages can be opened: %v", e.Messages, e.Err)
}

// Unwrap makes the reason known to errors.Is and errors.As.
func (e *UnopenedError) Unwrap() error { return e.Err }
