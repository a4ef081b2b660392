package receive

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/internal/clock"
	"github.com/sealmq/sealmq/keydir"
	"github.com/sealmq/sealmq/seal"
)

// Defaults and bounds of a Receiver.
const (
	DefaultUndecidedDelay = 30 * time.Second
	// receiveBatch is how many messages are opened together at most.
	receiveBatch = 2048
	// keysPause is how long Config.Reload is not asked again.
	keysPause = 2 * time.Second
	// maxChainPause bounds for how long certificates that were not found are not asked for
	// again.
	maxChainPause = 5 * time.Second
	// maxStayed bounds the messages of a dead-letter queue that are known to be counted.
	maxStayed = 1 << 16
	// maxCheckedEpochs bounds the epochs whose checkpoint is known to be good.
	maxCheckedEpochs = 1024
)

// Config says what a Receiver opens and remembers. Names and Keys must be set, and
// Verifier for the suites that say who sent a message.
type Config struct {
	// Names are the receiver's own names, as senders know it; mostly there is one.
	Names []string
	// Keys open the messages.
	Keys *seal.Keyring
	// Verifier decides whose messages are opened.
	Verifier seal.Verifier
	// Suites are what is accepted (default: all that say who sent a message).
	Suites []seal.Suite
	// Legacy are the legacy suites that are known; Suites says which of them are accepted.
	Legacy []seal.Legacy
	// Exchange and RoutingKey are where messages must have been sent; empty is anywhere.
	Exchange, RoutingKey string
	// Directory compares what senders saw of the key directory with what is seen here
	// (default: nobody does). A broker that shows two directories ends the Receiver with a
	// *ForkError.
	Directory *keydir.Directory
	// Ledger remembers what was taken (default: one in memory, which a restart forgets).
	Ledger *Ledger
	// Prefetch is how many messages may be in this receiver's hands (default: the queue's).
	Prefetch int
	// UndecidedDelay is after what time a message comes again that time may cure: its
	// sender cannot be checked now, or was ahead of the clock here (default 30 s).
	UndecidedDelay time.Duration
	// Reload returns the owner's keys as they are now. It is asked, every two seconds at
	// most, before a message is refused because no key opens it (default: nobody is). It
	// must not change a ring that it has returned.
	Reload func(context.Context) (*seal.Keyring, error)
	// DeadLetter moves what does not open from the first message on. Else a Receiver that has
	// opened nothing since its start keeps aside what may be refused because of what it was
	// given: a wrong key, name, suite or authority, or a clock that is ahead. It moves
	// that when one message has opened, and ends with an *UnopenedError when none of
	// UnopenedTrial does and nothing else comes, so that a wrong key file empties no queue.
	// What is refused for other reasons is moved at once.
	DeadLetter bool
	// Log gets a line for each message that was refused (default: nothing is logged).
	Log *slog.Logger
	// Now is the time of day (default: the machine's).
	Now func() time.Time
}

// Received is an opened message that was not taken before.
type Received struct {
	*seal.Message
	Delivery *client.Delivery // its Meta is the broker's word
	hand     *hand
}

// Stats counts what a Receiver did.
type Stats struct {
	Opened    uint64 `json:"opened"`    // new messages that Next returned
	Repeated  uint64 `json:"repeated"`  // delivered again, acknowledged, and not shown
	Refused   uint64 `json:"refused"`   // put into the dead-letter queue
	Conflicts uint64 `json:"conflicts"` // among these: another message had the id or the place
	Undecided uint64 `json:"undecided"` // given back, because time may cure what is wrong
	Stayed    uint64 `json:"stayed"`    // refused in a dead-letter queue, where they stay
}

// Errors that a message is refused with, for errors.Is; their texts are the reason in the
// dead-letter queue.
var (
	ErrMessageConflict  = errors.New("another message has the same id or the same place among its sender's")
	ErrMessageForgotten = errors.New("the message is too old to tell whether it was received before")
)

// Receiver takes messages from a queue, opens and checks them, and shows each that is new
// once. What it shows is the application's until Commit, Nack or Dead, for as long as it
// likes: the broker is told in time that it is still in hand. A message that is not
// committed comes again, after a crash too. Use one goroutine.
type Receiver struct {
	c        *client.Client
	cfg      Config
	sub      *client.Subscription
	openers  []*seal.Opener
	ctx      context.Context // of the Next that opens messages
	trial    trial
	keys     []string      // fingerprints
	prefetch int           // how many messages can be in the application's hands
	dead     bool          // the queue is a dead-letter queue
	ackTime  time.Duration // after which the broker takes back what it hears nothing of
	askAgain time.Time     // when Reload is asked next
	stayed   map[string]bool
	checked  map[[32]byte]bool // epochs whose checkpoint is good
	batch    []client.Delivery
	results  []openResult

	mu      sync.Mutex          // of what extend reads
	pending []client.Delivery   // of the batch, not judged yet
	shown   map[string]struct{} // the application's

	opened, repeated, refused, conflicts, undecided, stays atomic.Uint64
}

type refusal struct {
	id  string
	err error
}

type openResult struct {
	m   *seal.Message
	err error
}

// New subscribes to a queue.
func New(ctx context.Context, c *client.Client, queue string, cfg Config) (*Receiver, error) {
	if len(cfg.Names) == 0 || cfg.Keys == nil {
		return nil, errors.New("client: Config.Names and Keys must be set")
	}
	if cfg.Ledger == nil {
		cfg.Ledger = NewLedger(LedgerConfig{})
	}
	if cfg.UndecidedDelay <= 0 {
		cfg.UndecidedDelay = DefaultUndecidedDelay
	}
	if cfg.Now == nil {
		cfg.Now = clock.System.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	r := &Receiver{c: c, cfg: cfg, keys: fingerprints(cfg.Keys), dead: strings.HasSuffix(queue, sealmq.DeadSuffix),
		checked: make(map[[32]byte]bool), stayed: make(map[string]bool), shown: make(map[string]struct{}),
		batch: make([]client.Delivery, receiveBatch), results: make([]openResult, receiveBatch)}
	certificates := keydir.NewChains(c, min(cfg.UndecidedDelay, maxChainPause), cfg.Now)
	find := func(sum [32]byte) ([]byte, error) { return certificates.Find(r.ctx, sum) }
	for _, name := range cfg.Names {
		o, err := seal.NewOpener(seal.OpenerConfig{Name: name, Keys: cfg.Keys, Verifier: cfg.Verifier, Suites: cfg.Suites, Legacy: cfg.Legacy,
			Chain: find, Now: cfg.Now})
		if err != nil {
			return nil, err
		}
		r.openers = append(r.openers, o)
	}
	var err error
	if r.sub, err = c.Consume(ctx, queue, cfg.Prefetch); err != nil {
		return nil, err
	}
	if err := r.ask(ctx); err != nil {
		return nil, err
	}
	r.beginTrial()
	r.later()
	return r, nil
}

// ask learns what the queue does with what is in hand. An older broker, or one that does
// not tell, is taken to have the defaults.
func (r *Receiver) ask(ctx context.Context) error {
	info, err := r.c.Queue(ctx, r.sub.Queue())
	for errors.Is(err, client.ErrInterrupted) {
		info, err = r.c.Queue(ctx, r.sub.Queue())
	}
	if ctx.Err() != nil || errors.Is(err, client.ErrClosed) {
		return err
	}
	r.ackTime = cmp.Or(info.Options.AckTimeout, sealmq.DefaultAckTimeout)
	r.prefetch = cmp.Or(r.cfg.Prefetch, info.Options.Prefetch, sealmq.DefaultPrefetch)
	return nil
}

// Stats returns the counters; other goroutines may ask.
func (r *Receiver) Stats() Stats {
	return Stats{Opened: r.opened.Load(), Repeated: r.repeated.Load(), Refused: r.refused.Load(),
		Conflicts: r.conflicts.Load(), Undecided: r.undecided.Load(), Stayed: r.stays.Load()}
}

// SetPrefetch is Subscription.SetPrefetch.
func (r *Receiver) SetPrefetch(n int) error {
	if err := r.sub.SetPrefetch(n); err != nil {
		return err
	}
	if r.prefetch = n; len(r.trial.held) > 0 {
		return r.widen()
	}
	return nil
}

// Next waits for new messages and returns at least one and at most limit (0: as many as
// there are), in the order of the queue. Until it has some it acknowledges, gives back and
// moves by itself what is not new or not to be shown. A *ForkError and an *UnopenedError end
// the Receiver, and so does an error that wraps ErrRollback, ErrLog or ErrPinned: the key
// directory is not what it was, and somebody must look. Nothing is moved for these, nor for the end of
// ctx; what was not judged yet is the next call's.
func (r *Receiver) Next(ctx context.Context, limit int) ([]Received, error) {
	if limit <= 0 || limit > receiveBatch {
		limit = receiveBatch
	}
	r.ctx = ctx
	if r.trial.over != nil {
		return nil, r.trial.over
	}
	for {
		if len(r.pending) == 0 {
			n, err := r.await(ctx, r.batch[:limit])
			if err != nil {
				return nil, err
			}
			r.setPending(r.batch[:n])
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		n := min(limit, len(r.pending))
		r.open(n)
		wait := r.reload(ctx, n)
		list, done, err := r.sort(ctx, n, wait)
		r.setPending(r.pending[done:])
		if len(list) > 0 {
			return list, nil // an error that stands is met again
		}
		if err == nil {
			err = r.checkTrial(ctx)
		}
		if err != nil {
			return nil, err
		}
	}
}

func (r *Receiver) setPending(list []client.Delivery) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pending = list
}

// open opens the first pending messages on all cores.
func (r *Receiver) open(n int) {
	const share = 16 // messages at a time, so that the cores do not fight for the counter
	var next atomic.Int64
	work := func() {
		for {
			from := int(next.Add(share)) - share
			if from >= n {
				return
			}
			for i := from; i < min(n, from+share); i++ {
				r.results[i].m, r.results[i].err = r.openOne(&r.pending[i])
			}
		}
	}
	var workers sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), (n+share-1)/share) - 1 {
		workers.Go(work)
	}
	work()
	workers.Wait()
}

func (r *Receiver) openOne(d *client.Delivery) (m *seal.Message, err error) {
	want := seal.Expect{ID: d.ID, Exchange: r.cfg.Exchange, RoutingKey: r.cfg.RoutingKey}
	for _, o := range r.openers {
		if m, err = o.Open(d.Body, want); err == nil || !errors.Is(err, seal.ErrReceiver) {
			return m, err
		}
	}
	return m, err
}

// reload looks for new keys if no key opened a message, and opens it with them. It returns
// for how long nobody can be asked, and nothing be refused for want of a key.
func (r *Receiver) reload(ctx context.Context, n int) (wait time.Duration) {
	noKey := func(res openResult) bool { return errors.Is(res.err, seal.ErrWrongKey) }
	if r.cfg.Reload == nil || !slices.ContainsFunc(r.results[:n], noKey) {
		return 0
	}
	now := r.cfg.Now()
	if wait = r.askAgain.Sub(now); wait > 0 {
		return min(wait, keysPause) // the clock may have been set back
	}
	r.askAgain = now.Add(keysPause)
	keys, err := r.cfg.Reload(ctx)
	if err != nil {
		r.cfg.Log.Warn("the keys cannot be read again; messages that no key opens come again", "err", err)
		return keysPause
	}
	r.SetKeys(keys)
	for i := range n {
		if noKey(r.results[i]) {
			r.results[i].m, r.results[i].err = r.openOne(&r.pending[i])
		}
	}
	return 0
}

// sort returns what is to be shown and settles the rest of the first n pending messages, or
// of so many of them as it says, if an error kept it from judging the next one.
func (r *Receiver) sort(ctx context.Context, n int, noKeys time.Duration) (list []Received, done int, err error) {
	var acks []string
	var refusals []refusal
	for done < n && err == nil {
		d, res := &r.pending[done], &r.results[done]
		reason := res.err
		if reason == nil {
			if reason, err = r.checkPeer(ctx, res.m); err != nil {
				break
			}
		}
		again := time.Duration(0)
		switch {
		case undecided(reason) && ctx.Err() != nil:
			err = ctx.Err()
		case undecided(reason):
			again = r.cfg.UndecidedDelay
		case noKeys > 0 && errors.Is(reason, seal.ErrWrongKey):
			again = noKeys
		case reason != nil:
			refusals = append(refusals, refusal{d.ID, reason})
		default:
			r.trial.on = false
			j, h := r.cfg.Ledger.take(res.m, r)
			switch {
			case j == LedgerSeen:
				r.repeated.Add(1)
				acks = append(acks, d.ID)
			case j == LedgerConflict:
				r.conflicts.Add(1)
				refusals = append(refusals, refusal{d.ID, ErrMessageConflict})
			case j == LedgerForgotten:
				refusals = append(refusals, refusal{d.ID, ErrMessageForgotten})
			case j == LedgerNew:
				one := *d
				list = append(list, Received{Message: res.m, Delivery: &one, hand: h})
			case h.by != r: // it will be committed by the other one, or is this one's then
				err = r.sub.Release(d.ID, r.cfg.UndecidedDelay)
			}
		}
		if again > 0 {
			r.undecided.Add(1)
			r.cfg.Log.Info("message cannot be judged now and comes again", "message_id", d.ID, "err", reason)
			err = r.sub.Release(d.ID, again)
		}
		if err == nil {
			done++
		}
	}
	r.show(list)
	return list, done, errors.Join(r.refuse(refusals), r.sub.Ack(acks...), err)
}

// undecided reports whether time may cure what a message is refused for.
func undecided(err error) bool {
	return errors.Is(err, seal.ErrUndecided) || errors.Is(err, seal.ErrFuture)
}

func (r *Receiver) show(list []Received) {
	r.opened.Add(uint64(len(list)))
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range list {
		r.shown[list[i].ID] = struct{}{}
	}
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

// refuse moves what cannot be shown, during the trial only what cannot be this side's fault.
func (r *Receiver) refuse(list []refusal) error {
	if r.trial.on {
		rest, err := r.hold(list)
		return errors.Join(err, r.moveAway(rest))
	}
	held := r.release()
	if len(held) > 0 {
		if err := r.widen(); err != nil { // to the prefetch alone, before there is room
			return err
		}
	}
	return r.moveAway(slices.Concat(held, list))
}

func (r *Receiver) moveAway(list []refusal) error {
	for _, x := range list {
		if !r.dead {
			r.cfg.Log.Warn("message is refused and goes to the dead-letter queue", "message_id", x.id, "err", x.err)
			r.refused.Add(1)
		} else if !r.stayed[x.id] {
			r.cfg.Log.Warn("message is refused and stays where it is", "message_id", x.id, "err", x.err)
			r.stays.Add(1)
			if len(r.stayed) < maxStayed {
				r.stayed[x.id] = true
			}
		}
		if err := r.bury(x.id, x.err.Error()); err != nil {
			return err
		}
	}
	return nil
}

// bury puts a message into the dead-letter queue. One that is there already comes again
// later: a dead-letter queue has no other, and would deliver it at once.
func (r *Receiver) bury(id, reason string) error {
	if r.dead {
		return r.sub.Release(id, r.cfg.UndecidedDelay)
	}
	return r.sub.Dead(id, reason)
}

// Commit says that the application has taken messages and that what came of them is on
// stable storage. They are remembered together with output in one step, and acknowledged. It
// does not wait for the acknowledgements; Client.Flush does. After an error it is not known
// whether they will come again; the ledger must be opened anew.
func (r *Receiver) Commit(output Output, list ...Received) error {
	messages := make([]*seal.Message, len(list))
	acks := make([]string, len(list))
	for i := range list {
		messages[i], acks[i] = list[i].Message, list[i].ID
	}
	if err := r.cfg.Ledger.commit(output, messages, func(i int) known { return list[i].known() }); err != nil {
		return err
	}
	r.unshow(list)
	return r.sub.Ack(acks...)
}

// Nack gives messages back, to be delivered again after delay.
func (r *Receiver) Nack(delay time.Duration, list ...Received) error {
	r.forget(list)
	for i := range list {
		if err := r.sub.Nack(list[i].ID, delay); err != nil {
			return err
		}
	}
	return nil
}

// Dead puts messages into the queue's dead-letter queue. In a dead-letter queue they stay,
// and come again after UndecidedDelay.
func (r *Receiver) Dead(reason string, list ...Received) error {
	r.forget(list)
	for i := range list {
		if err := r.bury(list[i].ID, reason); err != nil {
			return err
		}
	}
	return nil
}

// forget takes messages that are given back out of hand.
func (r *Receiver) forget(list []Received) {
	r.cfg.Ledger.give(r, list)
	r.unshow(list)
}

func (r *Receiver) unshow(list []Received) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range list {
		delete(r.shown, list[i].ID)
	}
}

// later has the broker told, again and again, what is in hand. It ends with the client.
func (r *Receiver) later() {
	clock.System.AfterFunc(max(r.ackTime/3, time.Millisecond), func() {
		if r.c.Err() == nil {
			// An older broker cannot; one that comes in its place may.
			_ = r.sub.Extend(append(r.unsettled(), r.sub.Waiting()...)...)
			r.later()
		}
	})
}

// unsettled are the ids of all that was taken from the subscription and is not settled.
func (r *Receiver) unsettled() []string {
	ids := r.untaken()
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.AppendSeq(ids, maps.Keys(r.shown))
}

// untaken are those of them that the application has not seen.
func (r *Receiver) untaken() []string {
	var ids []string
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.pending {
		ids = append(ids, r.pending[i].ID)
	}
	for _, x := range r.trial.held {
		ids = append(ids, x.id)
	}
	return ids
}

// GiveBack gives everything back that the broker has sent and that is not settled, so
// that it does not count as a delivery: what was only looked at, or waited its turn, comes no
// nearer to the queue's delivery limit. It ends the Receiver; call it before the Client is closed.
// It returns when the broker has taken everything back, or with ctx's error.
func (r *Receiver) GiveBack(ctx context.Context) error {
	return r.sub.GiveBack(ctx, r.unsettled()...)
}
