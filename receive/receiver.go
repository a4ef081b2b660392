package receive

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
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
	// maxLeft bounds the messages that were left in the queue and are known again.
	maxLeft = 1 << 16
	// minLeftDelay and maxLeftDelay bound the time after which such a message comes again. It
	// doubles each time.
	minLeftDelay = time.Second
	maxLeftDelay = 5 * time.Minute
	// maxCheckedEpochs bounds the epochs whose checkpoint is known to be good.
	maxCheckedEpochs = 1024
	// chainTries is how often in a row the broker may say that nobody has a sender's
	// certificates until the message is refused. The pauses between are longer than an answer is
	// remembered, so one that came before the message does not decide.
	chainTries = 3
	// maxCredit and maxCreditBytes bound the prefetch while most messages are not for the
	// application.
	maxCredit      = receiveBatch
	maxCreditBytes = 16 << 20
	// maxChainless bounds the messages whose tries are counted. One too many has one try.
	maxChainless = 1 << 16
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
	// Prefetch is how many messages may be in this receiver's hands (default: the queue's). While
	// most messages turn out not to be for the application, more are taken at a time, so that
	// they do not delay others.
	Prefetch int
	// UndecidedDelay is after what time a message comes again that time may cure: its
	// sender cannot be checked now, or was ahead of the clock here (default 30 s).
	UndecidedDelay time.Duration
	// Reload returns the owner's keys as they are now. It is asked, every two seconds at
	// most, before a message is refused because no key opens it (default: nobody is). It
	// must not change a ring that it has returned.
	Reload func(context.Context) (*seal.Keyring, error)
	// DeadLetter moves messages that do not open with what the Receiver was given: its keys,
	// names, suites, authorities and clock. Without it they stay in the queue and come again,
	// uncounted and later and later, so that a wrong key file empties no queue. Messages that
	// are bad by themselves are moved in any case.
	DeadLetter bool
	// Log gets a line for each message that was refused (default: nothing is logged).
	Log *slog.Logger
	// Now is the time of day (default: the machine's).
	Now func() time.Time
}

// Received is an opened message that was not taken before.
type Received struct {
	*seal.Message
	// Delivery is what the broker says of it, which nothing proves: its ID, Queue and Body, and
	// the rest if the client's Config.Meta is set.
	Delivery *sealmq.Delivery
	hand     *hand
}

// Stats counts what a Receiver did.
type Stats struct {
	Opened    uint64 `json:"opened"`    // new messages that Next returned
	Repeated  uint64 `json:"repeated"`  // delivered again, acknowledged, and not shown
	Refused   uint64 `json:"refused"`   // put into the dead-letter queue
	Conflicts uint64 `json:"conflicts"` // among these: another message had the id or the place
	Undecided uint64 `json:"undecided"` // given back, because time may cure what is wrong
	Stayed    uint64 `json:"stayed"`    // messages that were refused and left in the queue
}

// Errors that a message is refused with, for errors.Is; their texts are the reason in the
// dead-letter queue.
var (
	ErrMessageConflict  = errors.New("another message has the same id or the same place among its sender's")
	ErrMessageForgotten = errors.New("the message is too old to tell whether it was received before")
)

// Receiver takes messages from a queue, opens and checks them, and shows each that is new
// once. A message that it shows belongs to the application until Commit, Nack or Dead, however
// long that takes: the broker is told in time that it is still in hand. A message that is not
// committed comes again, also after a crash. Use one goroutine.
type Receiver struct {
	c         *client.Client
	cfg       Config
	sub       sealmq.Subscription
	openers   []*seal.Opener
	chains    *keydir.Chains
	chainless map[string]int // how often nobody had the certificates of a message, by its id
	deadQueue bool           // the queue is a dead-letter queue: nothing is moved from there
	credit    credit
	ackTime   time.Duration     // after which the broker takes back a message without a sign of life
	askAgain  time.Time         // when Reload is asked next
	checked   map[[32]byte]bool // epochs whose checkpoint is good
	keys      []string          // fingerprints
	left      map[string]int    // how often a message was left in the queue with these keys, by its id
	unopened  error             // why the first of them did not open, while none has
	hasOpened bool
	batch     []sealmq.Delivery
	results   []openResult

	wantedMu sync.Mutex
	wanted   map[[32]byte]bool // certificates that the broker must be asked for

	mu      sync.Mutex                  // of what extendAll reads
	pending []sealmq.Delivery           // of the batch, not judged yet
	shown   map[string]*sealmq.Delivery // the application's

	opened, repeated, refused, conflicts, undecided, stayed atomic.Uint64
}

// New subscribes to a queue.
func New(ctx context.Context, c *client.Client, queue string, cfg Config) (*Receiver, error) {
	if len(cfg.Names) == 0 || cfg.Keys == nil {
		return nil, errors.New("receive: Config.Names and Keys must be set")
	}
	cfg.Ledger = cmp.Or(cfg.Ledger, NewLedger(LedgerConfig{}))
	cfg.UndecidedDelay = cmp.Or(max(cfg.UndecidedDelay, 0), DefaultUndecidedDelay)
	if cfg.Now == nil {
		cfg.Now = clock.System.Now
	}
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	r := &Receiver{c: c, cfg: cfg, keys: fingerprints(cfg.Keys), deadQueue: strings.HasSuffix(queue, sealmq.DeadSuffix),
		checked: make(map[[32]byte]bool), left: make(map[string]int), chainless: make(map[string]int), wanted: make(map[[32]byte]bool), shown: make(map[string]*sealmq.Delivery),
		batch: make([]sealmq.Delivery, receiveBatch), results: make([]openResult, receiveBatch)}
	r.chains = keydir.NewChains(c, min(cfg.UndecidedDelay, maxChainPause), cfg.Now)
	for _, name := range cfg.Names {
		o, err := seal.NewOpener(seal.OpenerConfig{Name: name, Keys: cfg.Keys, Verifier: cfg.Verifier, Suites: cfg.Suites, Legacy: cfg.Legacy,
			Chain: r.knownChain, Now: cfg.Now})
		if err != nil {
			return nil, err
		}
		r.openers = append(r.openers, o)
	}
	var err error
	if r.sub, err = c.Consume(ctx, queue, cfg.Prefetch); err != nil {
		return nil, err
	}
	if err := r.askQueue(ctx, queue); err != nil {
		return nil, err
	}
	r.extendAll()
	return r, nil
}

// askQueue learns the queue's ack timeout. An older broker, or one that does not tell, is
// taken to have the default.
func (r *Receiver) askQueue(ctx context.Context, queue string) error {
	info, err := r.c.Queue(ctx, queue)
	for errors.Is(err, client.ErrInterrupted) {
		info, err = r.c.Queue(ctx, queue)
	}
	if ctx.Err() != nil || errors.Is(err, client.ErrClosed) {
		return err
	}
	r.ackTime = cmp.Or(info.Options.AckTimeout, sealmq.DefaultAckTimeout)
	r.credit.own = cmp.Or(r.cfg.Prefetch, info.Options.Prefetch)
	r.credit.now = r.credit.own
	return nil
}

// Stats returns the counters. Any goroutine may ask.
func (r *Receiver) Stats() Stats {
	return Stats{Opened: r.opened.Load(), Repeated: r.repeated.Load(), Refused: r.refused.Load(),
		Conflicts: r.conflicts.Load(), Undecided: r.undecided.Load(), Stayed: r.stayed.Load()}
}

// SetKeys takes the keys of another ring, or of one that was changed.
func (r *Receiver) SetKeys(keys *seal.Keyring) {
	for _, o := range r.openers {
		o.SetKeys(keys)
	}
	before := r.keys
	r.keys = fingerprints(keys)
	if slices.ContainsFunc(r.keys, func(k string) bool { return !slices.Contains(before, k) }) {
		for id := range r.left { // the new key may open it
			r.left[id] = 0
		}
	}
}

func fingerprints(keys *seal.Keyring) (list []string) {
	for _, k := range keys.Live() {
		list = append(list, k.Public().Fingerprint())
	}
	return list
}

// Next waits for new messages and returns at least one and at most limit (0: as many as
// there are), in the order of the queue. Until it has some it settles by itself what is not
// new or not to be shown. A *keydir.ForkError ends the Receiver, and so does an error that
// wraps keydir.ErrRollback, ErrLog or ErrPinned: the key directory is not what it was, and
// somebody must look. Nothing is moved for these, nor for the end of ctx; what was not judged
// yet is left for the next call.
func (r *Receiver) Next(ctx context.Context, limit int) ([]Received, error) {
	if limit <= 0 || limit > receiveBatch {
		limit = receiveBatch
	}
	for {
		if len(r.pending) == 0 {
			if err := r.take(ctx); err != nil {
				return nil, err
			}
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		n := min(limit, len(r.pending), cmp.Or(r.credit.own, receiveBatch))
		r.open(ctx, n)
		noKeys := r.reload(ctx, n)
		list, done, err := r.settle(ctx, n, noKeys)
		r.credit.count(r.pending[:done], len(list))
		r.setPending(r.pending[done:])
		if len(list) > 0 {
			return list, nil // a lasting error is found again
		}
		if err != nil {
			return nil, err
		}
	}
}

func (r *Receiver) setPending(list []sealmq.Delivery) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pending = list
}

// Commit says that the application has taken messages and that their effect is on stable
// storage. They are remembered together with output in one step, and acknowledged. It does
// not wait for the acknowledgements; Client.Flush does. After an error it is not known
// whether they come again; the ledger must be opened again.
func (r *Receiver) Commit(output Output, list ...Received) error {
	messages := make([]*seal.Message, len(list))
	for i := range list {
		messages[i] = list[i].Message
	}
	if err := r.cfg.Ledger.commit(output, messages, func(i int) known { return list[i].known() }); err != nil {
		return err
	}
	r.unshow(list)
	return r.sub.Ack(deliveries(list)...)
}

func deliveries(list []Received) []sealmq.Delivery {
	out := make([]sealmq.Delivery, len(list))
	for i := range list {
		out[i] = *list[i].Delivery
	}
	return out
}

// Nack gives messages back, to be delivered again after delay.
func (r *Receiver) Nack(delay time.Duration, list ...Received) error {
	r.forget(list)
	return r.sub.Nack(delay, deliveries(list)...)
}

// Dead puts messages into the queue's dead-letter queue. In a dead-letter queue they stay,
// and come again after UndecidedDelay.
func (r *Receiver) Dead(reason string, list ...Received) error {
	r.forget(list)
	if r.deadQueue {
		return r.sub.Release(r.cfg.UndecidedDelay, deliveries(list)...)
	}
	return r.sub.Dead(reason, deliveries(list)...)
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

// extendAll has the broker told, again and again, what is in hand. It ends with the client.
func (r *Receiver) extendAll() {
	clock.System.AfterFunc(max(r.ackTime/3, time.Millisecond), func() {
		if r.c.Err() == nil {
			_ = r.sub.Extend(r.unsettled()...) // without it they come again
			r.extendAll()
		}
	})
}

// unsettled is all that was taken from the subscription and is not settled.
func (r *Receiver) unsettled() []sealmq.Delivery {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := slices.Clone(r.pending)
	for _, d := range r.shown {
		list = append(list, *d)
	}
	return list
}

// GiveBack gives everything back that the broker has sent and that is not settled. It does not
// count as a delivery, so that what was only looked at comes no nearer to the queue's
// delivery limit. It ends the Receiver; call it before the Client is closed. It returns when
// the broker has everything back, or with ctx's error.
func (r *Receiver) GiveBack(ctx context.Context) error {
	return r.sub.Close(ctx, r.unsettled()...)
}
