package send

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/internal/clock"
	"github.com/sealmq/sealmq/keydir"
	"github.com/sealmq/sealmq/seal"
)

// Defaults and bounds of a Sender.
const (
	DefaultRetryMin = 100 * time.Millisecond
	DefaultRetryMax = 5 * time.Second
	DefaultKeysFor  = 24 * time.Hour
	// senderQueue and senderQueueBytes bound what a Sender has taken and not published.
	senderQueue      = 1024
	senderQueueBytes = 16 << 20
	// senderBatch bounds what goes into the spool with one sync.
	senderBatch = 512
)

// ErrStopped says that a Sender takes nothing more; what it wraps says why.
var ErrStopped = errors.New("the sender has stopped")

// RefusedError says that the broker has refused a message of a Sender's for good.
type RefusedError struct {
	ID  string
	Err error
}

// Error names the message, and says why.
func (e *RefusedError) Error() string { return fmt.Sprintf("message %s was refused: %v", e.ID, e.Err) }

// Unwrap makes the reason known to errors.Is and errors.As.
func (e *RefusedError) Unwrap() error { return e.Err }

// Config says for whom a Sender seals and what it promises. To must be set, and
// Signer for the suites that say who sent a message.
type Config struct {
	// To names the receivers.
	To []string
	// Keys are keys that are known by other means, by the receivers' names. They are
	// taken before the Directory is asked; Directory.CheckKey compares them with it.
	Keys map[string]*seal.PublicKey
	// Directory finds the keys of all others, anew for every epoch. Its latest checkpoint
	// goes with the messages, so that a broker that shows others another directory is found out.
	Directory *keydir.Directory
	// Suite is what to seal with (default: the best that the first receiver has a key of).
	Suite seal.Suite
	// Signer is asked at the beginning of every epoch, so that a renewed certificate is
	// used from then on.
	Signer func() (*seal.Signer, error)
	// EpochMessages, EpochAge and Pad are those of seal.SealerConfig. No key of the
	// Directory is used for longer than EpochAge without being looked up again, as long as
	// there is a connection to ask it.
	EpochMessages uint64
	EpochAge      time.Duration
	// KeysFor is for how long after they were looked up keys of the Directory are used while
	// it cannot be asked because the broker is away (default 24 h, negative is never). In that
	// time a receiver may have replaced a key, and whoever holds the old one can open what is
	// sealed. An answer of the Directory that is an error always counts.
	KeysFor time.Duration
	Pad     func(size int) int
	// CarryChain puts the sender's certificates into every message, for receivers who
	// cannot ask the broker for them. Else they are left with the broker, if it keeps them,
	// which saves a kilobyte in each.
	CarryChain bool
	// Spool keeps messages until they are confirmed, over the death of this process
	// (default: none; then a message is lost with the process, or sent twice by whoever
	// sends its text again). What it holds is sent before anything new.
	Spool *Spool
	// RetryMin and RetryMax bound the pause before what the broker had no room for is
	// published again (default 100 ms and 5 s). GiveUp stops the Sender when the broker
	// could take nothing for so long (default: never).
	RetryMin, RetryMax, GiveUp time.Duration
	// Waiting is told, once for each reason, why the broker takes nothing, when it has
	// taken nothing for a second.
	Waiting func(reason error)
	// Now is the time of day (default: the machine's).
	Now func() time.Time
}

// Stats counts what a Sender did.
type Stats struct {
	Taken     uint64 // messages handed in
	Replayed  uint64 // messages that the spool held from before
	Confirmed uint64 // both of them
	Refused   uint64 // for good
	Retried   uint64 // publishes again after the broker had no room
	Waited    uint64 // messages that were published again so, each counted once
	// Unknown were published and neither confirmed nor refused: stored or not.
	Unknown uint64
}

// Sender seals texts for receivers and publishes them until each is confirmed. A text is
// sealed once; what is sent again are the same bytes, which the broker recognises.
//
// With a Spool a message that was taken is sent even if the process dies, in its order,
// and the first refusal that time cannot cure stops the Sender: the message stays in the
// spool, to be sent when the cause is gone, or dropped there. So does a message that may
// have been published and has become too old to be published again, with an error that wraps
// a *SpoolTooOldError. Without a Spool both are the callback's affair.
//
// Messages leave in the order in which they were handed in. Only what the broker has no room
// for while it takes later ones can come to stand behind them. It is safe for concurrent use.
type Sender struct {
	c      *client.Client
	cfg    Config
	sealer *seal.Sealer
	chains *keydir.Chains
	life   context.Context
	stop   context.CancelFunc
	done   sync.WaitGroup
	ready  chan []*sending // spooled, to be published
	wake   chan struct{}   // room for one signal to the publishing goroutine
	told   map[string]bool // reasons that Waiting has heard; the publishing goroutine's own

	keys     sync.Mutex
	lookedUp time.Time // when the Directory gave the keys
	askAt    time.Time // not before then, because it could not be asked just now

	mu          sync.Mutex
	queue       []*sending // taken, not yet spooled
	queueBytes  int
	again       []*sending // refused for now
	reason      error      // the last such refusal
	failed      error
	outstanding int
	stats       Stats
	changed     chan struct{} // closed, and forgotten, when any of this changed
}

// sending is a message that is not answered.
type sending struct {
	SpoolEntry
	order     uint64
	again     bool
	replayed  bool // an earlier process may have published it
	confirmed func(id string, err error)
}

// New begins to send what the spool holds and looks the receivers' keys up. It
// fails with a *SpoolTooOldError if the spool is too old, before anything is sent. When it fails
// for another reason, as a key that is not found, it first waits until what the spool held is
// sent, at most until ctx ends.
func New(ctx context.Context, c *client.Client, cfg Config) (*Sender, error) {
	if len(cfg.To) == 0 {
		return nil, errors.New("client: Config.To is empty")
	}
	if cfg.RetryMin <= 0 {
		cfg.RetryMin = DefaultRetryMin
	}
	if cfg.RetryMax <= 0 {
		cfg.RetryMax = max(DefaultRetryMax, cfg.RetryMin)
	}
	if cfg.EpochAge <= 0 {
		cfg.EpochAge = seal.DefaultEpochAge
	}
	if cfg.KeysFor == 0 {
		cfg.KeysFor = DefaultKeysFor
	}
	if cfg.Now == nil {
		cfg.Now = clock.System.Now
	}
	if cfg.Waiting == nil {
		cfg.Waiting = func(error) {}
	}
	s := &Sender{c: c, cfg: cfg, chains: keydir.NewChains(c, 0, cfg.Now), ready: make(chan []*sending, 1), wake: make(chan struct{}, 1), told: make(map[string]bool)}
	var left []SpoolEntry
	if cfg.Spool != nil {
		c.RefreshHorizon(ctx)
		cfg.Spool.learn(c)
		if err := cfg.Spool.CheckAge(); err != nil {
			return nil, err
		}
		left = cfg.Spool.Entries()
		s.outstanding = len(left)
	}
	s.life, s.stop = context.WithCancel(context.WithoutCancel(ctx))
	s.done.Go(func() { s.spool(left) })
	s.done.Go(s.publish)
	if err := s.prepare(ctx); err != nil {
		if len(left) > 0 { // these are sealed and wait for nobody's key
			err = errors.Join(err, s.Flush(ctx))
		}
		s.Close()
		return nil, err
	}
	return s, nil
}

// Suite is what the messages are sealed with.
func (s *Sender) Suite() seal.Suite { return s.sealer.Suite() }

// Send seals a text and returns when the broker has confirmed it. If ctx ends first, the
// message may be stored nevertheless, and the Sender goes on trying; so whoever calls it
// again sends another message.
func (s *Sender) Send(ctx context.Context, exchange, key string, text []byte) (id string, err error) {
	over := make(chan error, 1)
	m, err := s.Seal(ctx, exchange, key, text)
	if err != nil {
		return "", err
	}
	if err := s.Publish(ctx, m, nil, func(_ string, err error) { over <- err }); err != nil {
		return m.ID, err
	}
	select {
	case err = <-over:
		return m.ID, err
	case <-ctx.Done():
		return m.ID, ctx.Err()
	}
}

// SendAsync seals a text and returns; it waits for room, and when keys are looked up again
// some seconds for the Directory, at most until ctx ends. It does not wait for a broker that is
// away, until Config.KeysFor is over. An
// error means that the text was not taken, and confirmed will not be called. Otherwise
// confirmed, if not nil, is called once, with nil when the message is stored. It must be quick and
// must not call the Sender or its Client.
func (s *Sender) SendAsync(ctx context.Context, exchange, key string, text []byte, confirmed func(id string, err error)) error {
	m, err := s.Seal(ctx, exchange, key, text)
	if err != nil {
		return err
	}
	return s.Publish(ctx, m, nil, confirmed)
}

// Seal seals a text and does not publish it. It is one half of SendAsync, for those who
// seal ahead.
func (s *Sender) Seal(ctx context.Context, exchange, key string, text []byte) (client.Message, error) {
	if err := s.renew(ctx); err != nil {
		return client.Message{}, err
	}
	m := client.Message{Exchange: exchange, Key: key, ID: seal.NewID()}
	var err error
	m.Body, err = s.sealer.Seal(seal.Content{ID: m.ID, Exchange: exchange, RoutingKey: key, Body: text})
	return m, err
}

// Publish is the other half of SendAsync. With a Spool, position is kept with the
// message: see SpoolEntry.Position. The message must not be changed any more.
func (s *Sender) Publish(ctx context.Context, m client.Message, position []byte, confirmed func(id string, err error)) error {
	x := &sending{SpoolEntry: SpoolEntry{Message: m, Position: position}, confirmed: confirmed}
	// A bad one must not get in beside good ones.
	if err := s.c.Check(&m); err != nil {
		return err
	}
	if err := checkEntry(&x.SpoolEntry); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.failed == nil && len(s.queue) > 0 && (len(s.queue) >= senderQueue || s.queueBytes+len(m.Body) > senderQueueBytes) {
		if err := s.wait(ctx); err != nil {
			return err
		}
	}
	if s.failed != nil {
		return s.failed
	}
	s.queue = append(s.queue, x)
	s.queueBytes += len(m.Body)
	s.outstanding++
	s.stats.Taken++
	s.notify()
	return nil
}

// wait gives mu up until something changed. The caller holds mu and looks again.
func (s *Sender) wait(ctx context.Context) error {
	if s.changed == nil {
		s.changed = make(chan struct{})
	}
	changed := s.changed
	s.mu.Unlock()
	defer s.mu.Lock()
	select {
	case <-changed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// notify lets every waiting call look again. The caller holds mu.
func (s *Sender) notify() {
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
}

// Flush waits until everything that was handed in, and what the spool held, is answered
// and its callbacks have returned. It returns why the Sender stopped, if it did.
func (s *Sender) Flush(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.outstanding > 0 && s.failed == nil {
		if err := s.wait(ctx); err != nil {
			return err
		}
	}
	return s.failed
}

// Stats returns the counters.
func (s *Sender) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats
}

// Close stops sending at once; call Flush first to wait for confirms. What is not
// published fails with ErrStopped, or stays in the spool to be sent next time. It
// closes neither the Client nor the Spool, and must not be called from a callback.
func (s *Sender) Close() error {
	s.fail(nil)
	s.done.Wait()
	return nil
}

// fail stops the Sender; the first cause stays.
func (s *Sender) fail(cause error) {
	s.mu.Lock()
	if s.failed == nil {
		s.failed = ErrStopped
		if cause != nil {
			s.failed = &stoppedError{cause}
		}
	}
	s.stop()
	rest := slices.Concat(s.again, s.queue)
	s.again, s.queue = nil, nil
	s.notify()
	s.mu.Unlock()
	s.drop(rest)
}

// stoppedError prints the cause alone: who reads it knows that it has stopped.
type stoppedError struct{ cause error }

func (e *stoppedError) Error() string   { return e.cause.Error() }
func (e *stoppedError) Unwrap() []error { return []error{ErrStopped, e.cause} }

// drop answers messages that will not be published by this Sender.
func (s *Sender) drop(list []*sending) {
	s.mu.Lock()
	err := s.failed
	s.mu.Unlock()
	for _, x := range list {
		s.finish(x, err)
	}
}

// tell calls a message's callback, once.
func (x *sending) tell(err error) {
	if x.confirmed != nil {
		x.confirmed(x.ID, err)
		x.confirmed = nil
	}
}

// finish calls a message's callback, and counts it as answered.
func (s *Sender) finish(x *sending, err error) {
	x.tell(err)
	s.mu.Lock()
	s.outstanding--
	s.notify()
	s.mu.Unlock()
}
