package receive

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/internal/clock"
	"github.com/sealmq/sealmq/seal"
)

const (
	// UnopenedTrial is after how many messages that do not open a Receiver which has opened
	// none since it was started may end with an *UnopenedError. With an empty ledger a smaller
	// prefetch is enough.
	UnopenedTrial = 10
	// MaxUnopenedTrial is the same for one whose ledger is not empty, as long as there are
	// others to look at: its keys have been good once.
	MaxUnopenedTrial = 1000
	// unopenedQuiet is for how long nothing new must come until there are no others.
	unopenedQuiet = 3 * time.Second
)

// UnopenedError says that nothing could be opened with what the Receiver was given: its
// keys, its names, the authorities and the suites that it accepts. Nothing of it was moved,
// and all is given back.
type UnopenedError struct {
	Messages int
	Err      error // about the first one
}

func (e *UnopenedError) Error() string {
	if e.Messages == 1 {
		return fmt.Sprintf("the first message cannot be opened: %v", e.Err)
	}
	return fmt.Sprintf("none of the first %d messages can be opened: %v", e.Messages, e.Err)
}

func (e *UnopenedError) Unwrap() error { return e.Err }

// Hint says how to go on.
func (e *UnopenedError) Hint() string {
	return "check the keys, the names and the authorities of this receiver; if they are right, have what does not open moved (Config.DeadLetter)"
}

// trial is the time of a Receiver from its start, or from when a key was taken from it, to
// the first message that opens. Until then nobody knows whether it is the messages that are
// wrong or what the Receiver was given. So what does not open is kept in hand, beside the prefetch.
type trial struct {
	on     bool
	held   []refusal // under Receiver.mu; each message once
	lately time.Time // when something new came last
	over   error     // how the Receiver has ended
}

// ownFault reports whether what the Receiver was given may be why a message is refused. The
// route is not among it: only a message that opens has been sent elsewhere.
func ownFault(err error) bool {
	for _, kind := range []error{seal.ErrWrongKey, seal.ErrReceiver, seal.ErrUntrusted, seal.ErrSuite, seal.ErrExpired} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}

// beginTrial makes a start. In a dead-letter queue nothing is moved in any case.
func (r *Receiver) beginTrial() {
	r.trial.on = !r.cfg.DeadLetter && !r.dead
}

// bounds are after how many messages the trial ends if there are no others, and in any case.
func (r *Receiver) bounds() (few, many int) {
	if r.cfg.Ledger.empty() {
		return min(UnopenedTrial, r.prefetch), UnopenedTrial
	}
	return UnopenedTrial, MaxUnopenedTrial
}

// await waits for deliveries, and for a while only if enough were seen that do not open.
func (r *Receiver) await(ctx context.Context, dst []client.Delivery) (int, error) {
	few, _ := r.bounds()
	for r.trial.on && len(r.trial.held) >= few {
		n, err := r.awaitLittle(ctx, dst)
		if n > 0 || err != nil {
			return n, err
		}
	}
	return r.sub.NextBatch(ctx, dst)
}

var errQuiet = errors.New("nothing new comes")

// awaitLittle returns nothing, and no error, if the broker was away.
func (r *Receiver) awaitLittle(ctx context.Context, dst []client.Delivery) (int, error) {
	quiet, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	left := unopenedQuiet - r.cfg.Now().Sub(r.trial.lately)
	t := clock.System.AfterFunc(min(max(left, 0), unopenedQuiet), func() { cancel(errQuiet) })
	defer t.Stop()
	n, err := r.sub.NextBatch(quiet, dst)
	if n > 0 || ctx.Err() != nil || context.Cause(quiet) != errQuiet {
		return n, err
	}
	err = r.c.Ping(ctx)
	if errors.Is(err, client.ErrInterrupted) || err == nil && len(r.sub.Waiting()) > 0 {
		r.trial.lately = r.cfg.Now()
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return 0, r.endUnopened(ctx)
}

// hold keeps what may be this side's fault, and returns the rest.
func (r *Receiver) hold(list []refusal) (rest []refusal, err error) {
	before := len(r.trial.held)
	r.mu.Lock()
	for _, x := range list {
		switch {
		case !ownFault(x.err):
			rest = append(rest, x)
		case !slices.ContainsFunc(r.trial.held, func(h refusal) bool { return h.id == x.id }): // else it came again
			r.trial.held = append(r.trial.held, x)
		}
	}
	n := len(r.trial.held)
	r.mu.Unlock()
	if n > before {
		if before == 0 {
			x := r.trial.held[0]
			r.cfg.Log.Warn("message cannot be opened and is kept aside until one can", "message_id", x.id, "err", x.err)
		}
		err = r.widen()
	}
	if n > before || len(rest) > 0 {
		r.trial.lately = r.cfg.Now()
	}
	return rest, err
}

// widen lets the broker hand out as much as is kept aside beyond the prefetch.
func (r *Receiver) widen() error {
	return r.sub.SetPrefetch(min(r.prefetch+len(r.trial.held), sealmq.MaxPrefetch))
}

// release ends the holding and returns what was held.
func (r *Receiver) release() []refusal {
	r.mu.Lock()
	defer r.mu.Unlock()
	held := r.trial.held
	r.trial.held = nil
	return held
}

// checkTrial ends the Receiver if too much did not open.
func (r *Receiver) checkTrial(ctx context.Context) error {
	if r.trial.on && len(r.trial.held) > 0 {
		if _, many := r.bounds(); len(r.trial.held) >= many {
			return r.endUnopened(ctx)
		}
	}
	return nil
}

// endUnopened gives everything back but what the application has in hand.
func (r *Receiver) endUnopened(ctx context.Context) error {
	r.trial.over = r.Unopened()
	err := r.sub.GiveBack(ctx, r.untaken()...)
	r.release()
	r.setPending(nil)
	if err != nil && !errors.Is(err, client.ErrInterrupted) { // what a lost connection had is back
		return errors.Join(r.trial.over, err)
	}
	return r.trial.over
}

// Unopened is an *UnopenedError if messages came and none could be opened, else nil. It
// is for those who end before there were enough of them for Next to say so.
func (r *Receiver) Unopened() error {
	if r.trial.over != nil {
		return r.trial.over
	}
	if len(r.trial.held) == 0 {
		return nil
	}
	return &UnopenedError{Messages: len(r.trial.held), Err: r.trial.held[0].err}
}

// SetKeys takes the keys of another ring, or of one that was changed. If it lacks a key
// that the Receiver had, it counts as a new start.
func (r *Receiver) SetKeys(keys *seal.Keyring) {
	for _, o := range r.openers {
		o.SetKeys(keys)
	}
	before := r.keys
	r.keys = fingerprints(keys)
	if !contains(r.keys, before) {
		r.beginTrial()
	}
	if contains(before, r.keys) {
		return
	}
	for _, x := range r.release() { // the new key may open it
		_ = r.sub.Release(x.id, 0) // an error ends the client, which Next tells
	}
	_ = r.widen()
}

func fingerprints(keys *seal.Keyring) (list []string) {
	for _, k := range keys.Live() {
		list = append(list, k.Public().Fingerprint())
	}
	return list
}

// contains reports whether all of part are in list.
func contains(list, part []string) bool {
	return !slices.ContainsFunc(part, func(x string) bool { return !slices.Contains(list, x) })
}
