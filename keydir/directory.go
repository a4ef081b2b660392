package keydir

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/clock"
	"github.com/sealmq/sealmq/seal"
)

// Config says whom to believe.
type Config struct {
	// Verifier says whose the certificates of entries are. It must be set.
	Verifier seal.Verifier
	// Pins remembers what was seen (default: in memory, for the life of the Directory).
	Pins *Pins
	// StrictPins refuses every key but the pinned one, even one that its owner has properly
	// replaced.
	StrictPins bool
	// AllowUnproven accepts keys of which nothing proves whose they are, if there is none that
	// is proven.
	AllowUnproven bool
	// Notice gets a sentence for a person about every key that is pinned for the first time,
	// replaced, or unproven, and about a log that is too long to be read (default: it is
	// dropped). It must not call the Directory.
	Notice func(string)
	// MaxLogRead is the longest log, in records, that a look-up reads when no key of the name
	// is pinned (default 50,000). A longer one is left to Audit, and Notice is told.
	MaxLogRead int64
	// Now is the time of day (default: the machine's).
	Now func() time.Time
}

// defaultMaxLogRead is some 10 MB to be read once, and about as much of memory.
const defaultMaxLogRead = 50_000

// Directory looks up and publishes public keys, and believes nothing that is not proven:
// an entry must be signed by its owner's certificate and be in the directory's log, the
// log must continue the one that was seen before, and the key must be the pinned one or
// follow it. It is safe for concurrent use.
type Directory struct {
	c   Asker
	cfg Config

	mu    sync.Mutex
	peers map[[32]byte]error // what CheckPeer has decided

	reading chan struct{} // of size one, filled while the log is read
	read    *history      // what was read of it, and is proven; nil if nothing
}

// New makes the directory of the broker that c is connected to. It asks nothing before that
// is needed.
func New(c Asker, cfg Config) (*Directory, error) {
	if cfg.Verifier == nil {
		return nil, errors.New("keydir: Config.Verifier is not set")
	}
	cfg.Pins = cmp.Or(cfg.Pins, NewPins())
	if cfg.Notice == nil {
		cfg.Notice = func(string) {}
	}
	cfg.MaxLogRead = cmp.Or(cfg.MaxLogRead, defaultMaxLogRead)
	if cfg.Now == nil {
		cfg.Now = clock.System.Now
	}
	return &Directory{c: c, cfg: cfg, peers: make(map[[32]byte]error), reading: make(chan struct{}, 1)}, nil
}

// Find returns the key to seal for, of the given suite or, if suite is empty, of the best
// one that there is. It asks the broker every time; what it returns is pinned. The errors
// wrap sealmq.ErrNoKey, ErrUnproven, ErrRollback, ErrPinned, ErrLog, what a seal.KeyEntry's
// Verify returns, or are a *ForkError.
//
// A bare key is of a suite of CipherMQ's: the one that is asked for, else ciphermq.G5.
func (d *Directory) Find(ctx context.Context, name string, suite seal.Suite) (*seal.PublicKey, error) {
	s, err := d.find(ctx, name, suite)
	if err != nil {
		return nil, err
	}
	return s.key, nil
}

func (d *Directory) find(ctx context.Context, name string, suite seal.Suite) (*shown, error) {
	v, err := d.lookUp(ctx, d.question(name, suite))
	if err != nil {
		return nil, fmt.Errorf("key of %s: %w", name, err)
	}
	return v.shown, nil
}

func (d *Directory) question(name string, suite seal.Suite) question {
	return question{name: name, suite: suite, strict: d.cfg.StrictPins, allowUnproven: d.cfg.AllowUnproven, longestLog: d.cfg.MaxLogRead, now: d.cfg.Now()}
}

// lookUp asks for a key and has it judged.
func (d *Directory) lookUp(ctx context.Context, q question) (verdict, error) {
	return d.settle(ctx, q, func() (*answer, error) { return d.findKey(ctx, q) }, func(m memory, a *answer) verdict { return judge(q, m, a) })
}

// settle is the loop around the judge: it reads what is remembered, asks the broker, has the
// answer judged, supplies the evidence that the judge needs, and remembers the verdict, in one
// step. If another process has changed the pins meanwhile it begins again: that process may
// have seen a newer answer. The error is the verdict's too.
func (d *Directory) settle(ctx context.Context, q question, ask func() (*answer, error), judge func(memory, *answer) verdict) (verdict, error) {
	for {
		before, err := d.cfg.Pins.recall(q.name)
		if err != nil {
			return verdict{}, err
		}
		a, err := ask()
		if err != nil {
			return verdict{}, err
		}
		v := judge(before, a)
		for v.need != nil {
			if err := d.supply(ctx, q, v.need, a); err != nil {
				return verdict{}, err
			}
			v = judge(before, a)
		}
		if kept, err := d.cfg.Pins.remember(ctx, q.name, before, v.memory); err != nil {
			return verdict{}, err
		} else if !kept {
			continue
		}
		for _, text := range v.notices {
			d.cfg.Notice(text)
		}
		return v, v.err
	}
}

// Pins is what the Directory remembers.
func (d *Directory) Pins() *Pins { return d.cfg.Pins }

// Checkpoint is the latest signed checkpoint of the log that was seen, or nil. A sender
// puts it into its messages as seal.ExtCheckpoint. It asks nobody.
func (d *Directory) Checkpoint() []byte {
	known, err := d.cfg.Pins.recall("")
	if err != nil {
		return nil
	}
	return known.checkpoint
}

// CheckPeer compares the checkpoint that a sender put into its messages with what the
// broker shows here. Nil says that both are of one history; a *ForkError is the proof
// that they are not. An error that wraps ErrCheckpoint says that the sender's checkpoint
// is not the log's, which proves nothing about the broker. Any other error says that it
// cannot be decided now. Answers are remembered by content, so asking for every message
// costs little.
func (d *Directory) CheckPeer(ctx context.Context, checkpoint []byte) error {
	sum := sha256.Sum256(checkpoint)
	d.mu.Lock()
	verdict, known := d.peers[sum]
	d.mu.Unlock()
	if known {
		return verdict
	}
	verdict = d.checkPeer(ctx, checkpoint)
	var fork *ForkError
	if verdict == nil || errors.Is(verdict, ErrCheckpoint) || errors.As(verdict, &fork) {
		d.mu.Lock()
		if len(d.peers) >= maxPeers {
			clear(d.peers)
		}
		d.peers[sum] = verdict
		d.mu.Unlock()
	}
	return verdict
}

// maxPeers bounds the checkpoints whose answers are remembered.
const maxPeers = 4096

func (d *Directory) checkPeer(ctx context.Context, checkpoint []byte) error {
	_, err := d.settle(ctx, question{}, func() (*answer, error) { return &answer{}, nil },
		func(m memory, a *answer) verdict { return judgePeer(m, a, checkpoint) })
	return err
}

// CheckKey compares a key that came another way with the one that is pinned for its owner
// and suite, and with the one that the directory shows now. It pins neither, and a name that
// nobody knows is fine. Notice is told of another key, and of a directory that cannot be
// believed; under StrictPins that is an error, unless the key is the pinned one. The error
// wraps ErrPinned or ErrShown and names the keys, or is one of Find's.
func (d *Directory) CheckKey(ctx context.Context, name string, key *seal.PublicKey) error {
	q := d.question(name, key.Suite())
	q.given = true
	interrupted := func(err error) bool { return errors.Is(err, sealmq.ErrInterrupted) || ctx.Err() != nil }
	var known *memory
	v, err := d.settle(ctx, q, func() (*answer, error) {
		a, err := d.findKey(ctx, q)
		if err != nil && !interrupted(err) {
			return &answer{failed: err}, nil
		}
		return a, err
	}, func(m memory, a *answer) verdict {
		known = &m
		return judge(q, m, a)
	})
	var notice string
	if known != nil && !interrupted(err) {
		notice, err = judgeGiven(q, *known, key, v.shown, err)
	}
	if err != nil {
		return fmt.Errorf("key of %s: %w", name, err)
	}
	if notice != "" {
		d.cfg.Notice(notice)
	}
	return nil
}
