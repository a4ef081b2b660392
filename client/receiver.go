package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/seal"
)

// Defaults and bounds of a Receiver.
const (
	DefaultUndecidedDelay = 30 * time.Second
	// UnopenedTrial is how many messages may not open before one does.
	UnopenedTrial = 10
	// receiveBatch is how many messages are opened together at most.
	receiveBatch = 2048
	// maxCheckedEpochs bounds the epochs whose checkpoint is known to be good.
	maxCheckedEpochs = 1024
)

// ReceiverConfig says what a Receiver opens and remembers. Names and Keys must be set, and
// Verifier for the suites that say who sent a message.
type ReceiverConfig struct {
	// Names are the receiver's own names, as senders know it; mostly there is one.
	Names []string
	// Keys open the messages.
	Keys *seal.Keyring
	// Verifier decides whose messages are opened.
	Verifier seal.Verifier
	// Suites are what is accepted (default: all that say who sent a message).
	Suites []seal.Suite
	// Exchange and RoutingKey are where messages must have been sent; empty is anywhere.
	Exchange, RoutingKey string
	// Directory compares what senders saw of the key directory with what is seen here
	// (default: nobody does). A broker that shows two directories ends the Receiver with a
	// *ForkError.
	Directory *Directory
	// Ledger remembers what was taken (default: one in memory, which a restart forgets).
	Ledger *Ledger
	// Prefetch is how many messages may be in this receiver's hands (default: the queue's).
	Prefetch int
	// UndecidedDelay is after what time a message comes again whose sender cannot be
	// checked now (default 30 s).
	UndecidedDelay time.Duration
	// DeadLetter moves what cannot be opened from the first message on. Else a Receiver
	// that opens none of the first messages ends with an *UnopenedError and moves nothing,
	// so that one wrong key does not empty a queue.
	DeadLetter bool
	// Log gets a line for each message that was refused (default: nothing is logged).
	Log *slog.Logger
}

// Received is an opened message that was not taken before.
type Received struct {
	*seal.Message
	Delivery *Delivery // its Meta is the broker's word
}

// ReceiverStats counts what a Receiver did.
type ReceiverStats struct {
	Opened    uint64 `json:"opened"`    // new messages that Next returned
	Repeated  uint64 `json:"repeated"`  // delivered again, acknowledged, and not shown
	Refused   uint64 `json:"refused"`   // put into the dead-letter queue
	Conflicts uint64 `json:"conflicts"` // among these: another message had the id or the place
	Undecided uint64 `json:"undecided"` // given back, because the sender could not be checked
}

// UnopenedError says that the keys opened none of the first messages. Nothing was moved.
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

// Errors that a message is refused with, for errors.Is; their texts are the reason in the
// dead-letter queue.
var (
	ErrMessageConflict  = errors.New("another message has the same id or the same place among its sender's")
	ErrMessageForgotten = errors.New("the message is too old to tell whether it was received before")
)

// Receiver takes messages from a queue, opens and checks them, and shows each that is new
// once. What it shows is the application's until Commit, Nack or Dead; a message that is not
// committed comes again, after a crash too. Use one goroutine.
type Receiver struct {
	c       *Client
	cfg     ReceiverConfig
	sub     *Subscription
	openers []*seal.Opener
	checked map[[32]byte]bool // epochs whose checkpoint is good
	inHand  map[idHash]bool   // shown and not settled
	held    []refusal         // not settled, because nothing was opened yet
	batch   []Delivery
	results []openResult

	opened, repeated, refused, conflicts, undecided atomic.Uint64
}

type refusal struct {
	id  string
	err error
}

type openResult struct {
	m   *seal.Message
	err error
}

// NewReceiver subscribes to a queue.
func (c *Client) NewReceiver(ctx context.Context, queue string, cfg ReceiverConfig) (*Receiver, error) {
	if len(cfg.Names) == 0 || cfg.Keys == nil {
		return nil, errors.New("client: ReceiverConfig.Names and Keys must be set")
	}
	if cfg.Ledger == nil {
		cfg.Ledger = NewLedger(LedgerConfig{})
	}
	if cfg.UndecidedDelay <= 0 {
		cfg.UndecidedDelay = DefaultUndecidedDelay
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	r := &Receiver{c: c, cfg: cfg, checked: make(map[[32]byte]bool), inHand: make(map[idHash]bool),
		batch: make([]Delivery, receiveBatch), results: make([]openResult, receiveBatch)}
	certificates := newChains(c)
	for _, name := range cfg.Names {
		o, err := seal.NewOpener(seal.OpenerConfig{Name: name, Keys: cfg.Keys, Verifier: cfg.Verifier, Suites: cfg.Suites,
			Chain: certificates.find, Now: c.cfg.Clock.Now})
		if err != nil {
			return nil, err
		}
		r.openers = append(r.openers, o)
	}
	var err error
	if r.sub, err = c.Consume(ctx, queue, cfg.Prefetch); err != nil {
		return nil, err
	}
	return r, nil
}

// Stats returns the counters; other goroutines may ask.
func (r *Receiver) Stats() ReceiverStats {
	return ReceiverStats{Opened: r.opened.Load(), Repeated: r.repeated.Load(), Refused: r.refused.Load(),
		Conflicts: r.conflicts.Load(), Undecided: r.undecided.Load()}
}

// SetPrefetch is Subscription.SetPrefetch.
func (r *Receiver) SetPrefetch(n int) error { return r.sub.SetPrefetch(n) }

// SetKeys takes the keys of another ring, or of one that was changed.
func (r *Receiver) SetKeys(keys *seal.Keyring) {
	for _, o := range r.openers {
		o.SetKeys(keys)
	}
}

// Next waits for new messages and returns at least one and at most limit (0: as many as
// there are), in the order of the queue. Until it has some it acknowledges, gives back and
// moves by itself what is not new or not to be shown. A *ForkError and an *UnopenedError end
// the Receiver; so does the client's end.
func (r *Receiver) Next(ctx context.Context, limit int) ([]Received, error) {
	if limit <= 0 || limit > receiveBatch {
		limit = receiveBatch
	}
	for {
		n, err := r.sub.NextBatch(ctx, r.batch[:limit])
		if err != nil {
			return nil, err
		}
		r.open(n)
		list, err := r.sort(ctx, n)
		if err != nil || len(list) > 0 {
			return list, err
		}
	}
}

// Unopened is an *UnopenedError if messages came and none could be opened, else nil. It
// is for those who end before there were enough of them for Next to say so.
func (r *Receiver) Unopened() error {
	if len(r.held) == 0 {
		return nil
	}
	return &UnopenedError{Messages: len(r.held), Err: r.held[0].err}
}

// open opens a batch on all cores.
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
				r.results[i].m, r.results[i].err = r.openOne(&r.batch[i])
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

func (r *Receiver) openOne(d *Delivery) (m *seal.Message, err error) {
	want := seal.Expect{ID: d.ID, Exchange: r.cfg.Exchange, RoutingKey: r.cfg.RoutingKey}
	for _, o := range r.openers {
		if m, err = o.Open(d.Body, want); err == nil || !errors.Is(err, seal.ErrReceiver) {
			return m, err
		}
	}
	return m, err
}

// sort returns what is to be shown and settles the rest of a batch.
func (r *Receiver) sort(ctx context.Context, n int) (list []Received, err error) {
	var acks []string
	var refusals []refusal
	someOpened := false
	for i := range n {
		d, res := &r.batch[i], &r.results[i]
		if res.err == nil {
			res.err = r.checkPeer(ctx, res.m)
		}
		var fork *ForkError
		switch {
		case errors.As(res.err, &fork):
			return nil, fmt.Errorf("message %s of %s: %w", d.ID, res.m.Sender.ID, res.err)
		case errors.Is(res.err, seal.ErrUndecided):
			r.undecided.Add(1)
			r.cfg.Log.Info("sender cannot be checked now; the message comes again", "message_id", d.ID, "err", res.err)
			if err := r.sub.Nack(d.ID, r.cfg.UndecidedDelay); err != nil {
				return nil, err
			}
			continue
		case res.err != nil:
			refusals = append(refusals, refusal{d.ID, res.err})
			continue
		}
		someOpened = true
		key := hashID(res.m.Sender.ID, res.m.ID)
		if r.inHand[key] {
			continue // it came again while the application has it
		}
		switch r.cfg.Ledger.Judge(res.m) {
		case LedgerSeen:
			r.repeated.Add(1)
			acks = append(acks, d.ID)
		case LedgerConflict:
			r.conflicts.Add(1)
			refusals = append(refusals, refusal{d.ID, ErrMessageConflict})
		case LedgerForgotten:
			refusals = append(refusals, refusal{d.ID, ErrMessageForgotten})
		default:
			r.inHand[key] = true
			one := *d
			list = append(list, Received{Message: res.m, Delivery: &one})
		}
	}
	r.opened.Add(uint64(len(list)))
	if err := r.refuse(refusals, someOpened); err != nil {
		return nil, err
	}
	return list, r.sub.Ack(acks...)
}

// checkPeer compares the checkpoint of a message's epoch with what is seen here.
func (r *Receiver) checkPeer(ctx context.Context, m *seal.Message) error {
	checkpoint, ok := m.Extension(seal.ExtCheckpoint)
	if r.cfg.Directory == nil || !ok || r.checked[m.Epoch.Hash] {
		return nil
	}
	err := r.cfg.Directory.CheckPeer(ctx, checkpoint)
	var fork *ForkError
	switch {
	case err == nil:
		if len(r.checked) >= maxCheckedEpochs {
			clear(r.checked)
		}
		r.checked[m.Epoch.Hash] = true
		return nil
	case errors.As(err, &fork), errors.Is(err, ErrCheckpoint):
		return err
	}
	return fmt.Errorf("%w: %w", seal.ErrUndecided, err)
}

// refuse moves what cannot be shown, once it is known that the keys open anything.
func (r *Receiver) refuse(list []refusal, someOpened bool) error {
	st := r.Stats()
	if !someOpened && !r.cfg.DeadLetter && st.Opened+st.Repeated+st.Refused == 0 {
		for _, x := range list { // one that came again is held already
			if !slices.ContainsFunc(r.held, func(h refusal) bool { return h.id == x.id }) {
				r.held = append(r.held, x)
			}
		}
		if trial := min(UnopenedTrial, cmp.Or(r.cfg.Prefetch, sealmq.DefaultPrefetch)); len(r.held) >= trial {
			return r.Unopened()
		}
		return nil
	}
	for _, x := range slices.Concat(r.held, list) {
		r.cfg.Log.Warn("message is refused and goes to the dead-letter queue", "message_id", x.id, "err", x.err)
		if err := r.sub.Dead(x.id, x.err.Error()); err != nil {
			return err
		}
		r.refused.Add(1)
	}
	r.held = nil
	return nil
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
	if err := r.cfg.Ledger.Commit(output, messages...); err != nil {
		return err
	}
	r.forget(list)
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

// Dead puts messages into the queue's dead-letter queue.
func (r *Receiver) Dead(reason string, list ...Received) error {
	r.forget(list)
	for i := range list {
		if err := r.sub.Dead(list[i].ID, reason); err != nil {
			return err
		}
	}
	return nil
}

func (r *Receiver) forget(list []Received) {
	for i := range list {
		delete(r.inHand, hashID(list[i].Sender.ID, list[i].ID))
	}
}
