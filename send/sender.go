package send

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/internal/changes"
	"github.com/sealmq/sealmq/internal/clock"
	"github.com/sealmq/sealmq/keydir"
	"github.com/sealmq/sealmq/seal"
)

// Defaults and bounds of a Sender.
const (
	DefaultRetryMin = 100 * time.Millisecond
	DefaultRetryMax = 5 * time.Second
	DefaultKeysFor  = 24 * time.Hour
	// maxQueued and maxQueuedBytes bound what a Sender has taken and not put into the spool.
	maxQueued      = 1024
	maxQueuedBytes = 16 << 20
	// maxBatch bounds what goes into the spool with one sync.
	maxBatch = 512
)

// ErrStopped says that a Sender takes no more messages. The error that it comes with says
// why.
var ErrStopped = errors.New("the sender has stopped")

// RefusedError says that the broker refused a message for good.
type RefusedError struct {
	ID  string
	Err error
}

// Error names the message, and says why.
func (e *RefusedError) Error() string { return fmt.Sprintf("message %s was refused: %v", e.ID, e.Err) }

// Unwrap makes the reason known to errors.Is and errors.As.
func (e *RefusedError) Unwrap() error { return e.Err }

// Config says for whom a Sender seals and what it promises. To must be set, and Signer for
// suites that prove the sender.
type Config struct {
	// To names the receivers.
	To []string
	// Keys has receivers' keys that are known by other means. For these receivers the
	// Directory is not asked; Directory.CheckKey compares such a key with it.
	Keys map[string]*seal.PublicKey
	// Directory finds the keys of all other receivers, again for every epoch. Its latest
	// checkpoint travels with the messages, so that receivers notice a broker that shows them
	// another directory.
	Directory *keydir.Directory
	// Suite is the suite to seal with (default: the best one for which the first receiver
	// has a key).
	Suite seal.Suite
	// Signer is asked at the beginning of every epoch, so that a renewed certificate is used.
	Signer func() (*seal.Signer, error)
	// EpochMessages and EpochAge are those of seal.SealerConfig. While there is a
	// connection, a key of the Directory is looked up again after EpochAge.
	EpochMessages uint64
	EpochAge      time.Duration
	// KeysFor is how long keys of the Directory are used after their look-up while the broker
	// is away (default 24 h, negative is never). In that time a receiver may have replaced a
	// key, and a thief of the old one can open what is sealed. An error that the Directory
	// answers with always counts.
	KeysFor time.Duration
	// CarryChain puts the sender's certificates into every message, for receivers that cannot
	// ask the broker for them. By default they are left with the broker, if it keeps them,
	// which saves a kilobyte in each message.
	CarryChain bool
	// Spool keeps messages until they are confirmed, also if this process dies (default: none;
	// then a message is lost with the process). What it holds is sent first.
	Spool *Spool
	// RetryMin and RetryMax bound the pause before a message is published again for which the
	// broker had no room (default 100 ms and 5 s). GiveUp stops the Sender when the broker has
	// had no room for this long (default: never).
	RetryMin, RetryMax, GiveUp time.Duration
	// Waiting is called once for each reason why the broker takes nothing, when that has
	// lasted a second.
	Waiting func(reason error)
	// Now is the time of day (default: the machine's).
	Now func() time.Time
}

// Stats counts what a Sender did.
type Stats struct {
	Taken     uint64 // messages handed in
	Replayed  uint64 // messages that the spool held at the start
	Confirmed uint64 // of both
	Refused   uint64 // for good
	Retried   uint64 // repeated publishes, because the broker had no room
	Waited    uint64 // messages that were published again, each counted once
	// Unknown messages were published and neither confirmed nor refused: it is not known
	// whether they are stored.
	Unknown uint64
}

// Sender seals texts for receivers and publishes them until each is confirmed. A text is
// sealed once; a repeated publish has the same bytes, which the broker recognises.
//
// With a Spool, a message that was taken is sent even if the process dies. The first refusal
// for good stops the Sender: the message stays in the spool, to be sent when the cause is
// gone, or to be dropped. A message that may have been published, and has become too old to
// be published again, stops it too, with an error that wraps a *SpoolTooOldError. Without a
// Spool the callback gets both errors.
//
// Messages leave in the order in which they were handed in. If the broker has no room for one
// and takes later ones, it comes after them. A Sender is safe for concurrent use.
//
// A message passes two goroutines: stage puts messages into the spool, a batch with each
// sync, and publish hands them to the client.
type Sender struct {
	c      *client.Client
	cfg    Config
	sealer *seal.Sealer
	chains *keydir.Chains
	life   context.Context
	stop   context.CancelFunc
	done   sync.WaitGroup
	ready  chan []*sending // from stage to publish
	wake   chan struct{}   // room for one signal to publish
	told   map[string]bool // reasons that Waiting has got; belongs to publish

	keys     sync.Mutex
	lookedUp time.Time // when the Directory gave the keys
	askAt    time.Time // when it is asked again, after it did not answer

	mu          sync.Mutex
	queue       []*sending // for stage
	queueBytes  int
	again       []*sending // the broker had no room for them
	reason      error      // what it said last
	failed      error
	outstanding int
	stats       Stats
	changed     changes.Signal // when any of this changed
}

// sending is a message that is not answered.
type sending struct {
	SpoolEntry
	again     bool
	replayed  bool // an earlier process may have published it
	confirmed func(id string, err error)
}

// New begins to send what the spool holds and looks up the receivers' keys. If messages of
// the spool are too old, it fails with a *SpoolTooOldError before anything is sent. If it
// fails for another reason, for example a key that is not found, it first waits until what
// the spool held is sent, at most until ctx ends.
func New(ctx context.Context, c *client.Client, cfg Config) (*Sender, error) {
	if len(cfg.To) == 0 {
		return nil, errors.New("send: Config.To is empty")
	}
	cfg.RetryMin = cmp.Or(max(cfg.RetryMin, 0), DefaultRetryMin)
	cfg.RetryMax = cmp.Or(max(cfg.RetryMax, 0), max(DefaultRetryMax, cfg.RetryMin))
	cfg.EpochAge = cmp.Or(max(cfg.EpochAge, 0), seal.DefaultEpochAge)
	cfg.KeysFor = cmp.Or(cfg.KeysFor, DefaultKeysFor)
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
	s.done.Go(func() { s.stage(left) })
	s.done.Go(s.publish)
	if err := s.prepare(ctx); err != nil {
		if len(left) > 0 { // these are sealed already
			err = errors.Join(err, s.Flush(ctx))
		}
		s.Close()
		return nil, err
	}
	return s, nil
}

// Suite is the suite that the messages are sealed with.
func (s *Sender) Suite() seal.Suite { return s.sealer.Suite() }

// Rotate ends the epoch: the next message is signed by what Config.Signer returns then, for
// example a renewed certificate. It has no effect on messages that are sealed.
func (s *Sender) Rotate() { s.sealer.Rotate() }

// Send seals a text and returns when the broker has confirmed it. If ctx ends first, the
// message may be stored nevertheless, and the Sender goes on trying: another call sends
// another message.
func (s *Sender) Send(ctx context.Context, exchange, key string, text []byte) (id string, err error) {
	over := make(chan error, 1)
	m, err := s.Seal(ctx, exchange, key, text)
	if err != nil {
		return "", err
	}
	if err := s.Publish(ctx, m, nil, func(_ string, err error) { over <- err }); err != nil {
		return m.ID, err
	}
	result, err := changes.Receive(ctx, over)
	return m.ID, cmp.Or(err, result)
}

// SendAsync seals a text and returns. It waits for room, and some seconds for the Directory
// when keys are looked up again, at most until ctx ends. It does not wait for a broker that
// is away until Config.KeysFor is over. An error means that the text was not taken, and that
// confirmed is not called. Otherwise confirmed, if not nil, is called once, with nil when the
// message is stored. It must be quick and must not call the Sender or its Client.
func (s *Sender) SendAsync(ctx context.Context, exchange, key string, text []byte, confirmed func(id string, err error)) error {
	m, err := s.Seal(ctx, exchange, key, text)
	if err != nil {
		return err
	}
	return s.Publish(ctx, m, nil, confirmed)
}

// Seal seals a text and does not publish it. It is the first half of SendAsync, for programs
// that seal ahead.
func (s *Sender) Seal(ctx context.Context, exchange, key string, text []byte) (sealmq.Message, error) {
	if err := s.renew(ctx); err != nil {
		return sealmq.Message{}, err
	}
	m := sealmq.Message{Exchange: exchange, Key: key, ID: seal.NewID()}
	var err error
	m.Body, err = s.sealer.Seal(seal.Content{ID: m.ID, Exchange: exchange, RoutingKey: key, Body: text})
	return m, err
}

// Publish is the second half of SendAsync. With a Spool, position is kept with the message:
// see SpoolEntry.Position. The message must not be changed afterwards.
func (s *Sender) Publish(ctx context.Context, m sealmq.Message, position []byte, confirmed func(id string, err error)) error {
	x := &sending{SpoolEntry: SpoolEntry{Message: m, Position: position}, confirmed: confirmed}
	// A bad message must not get into the spool beside good ones.
	if err := s.c.Check(&m); err != nil {
		return err
	}
	if err := checkEntry(&x.SpoolEntry); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.failed == nil && len(s.queue) > 0 && (len(s.queue) >= maxQueued || s.queueBytes+len(m.Body) > maxQueuedBytes) {
		if err := s.changed.Wait(ctx, &s.mu); err != nil {
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
	s.changed.Notify()
	return nil
}

// Flush waits until everything that was handed in, and what the spool held, is answered and
// the callbacks have returned. If the Sender stopped, it returns why.
func (s *Sender) Flush(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.outstanding > 0 && s.failed == nil {
		if err := s.changed.Wait(ctx, &s.mu); err != nil {
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

// Close stops sending at once; call Flush first to wait for confirms. What is not published
// fails with ErrStopped, or stays in the spool to be sent next time. Close closes neither the
// Client nor the Spool, and must not be called from a callback.
func (s *Sender) Close() error {
	s.fail(nil)
	s.done.Wait()
	return nil
}

// fail stops the Sender; the first cause stays. What is left will not be published either.
func (s *Sender) fail(cause error, left ...*sending) {
	s.mu.Lock()
	if s.failed == nil {
		s.failed = ErrStopped
		if cause != nil {
			s.failed = &stoppedError{cause}
		}
	}
	s.stop()
	rest := slices.Concat(left, s.again, s.queue)
	s.again, s.queue = nil, nil
	s.changed.Notify()
	s.mu.Unlock()
	s.drop(rest)
}

// stoppedError prints the cause only: its reader sees that the Sender has stopped.
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
	s.changed.Notify()
	s.mu.Unlock()
}
