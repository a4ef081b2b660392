// Package local is the default engine: queues in memory over one journal. It promises
// what engine.Engine asks, with every ability, on one machine.
//
// One lock guards everything. It is held for short work in memory only, never across a
// read, a write or a sync. A call changes the state when it is accepted, in the order of
// the journal. Answers wait for the sync that covers the record, and consumers get no
// message before it. So memory may be ahead of the disk, but no caller is told before the
// disk is there, too. After a failed sync the process must end.
//
// It does not route, knows no permissions and never looks inside a body.
package local

import (
	"cmp"
	"container/heap"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
	"github.com/sealmq/sealmq/internal/clock"
	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/journal"
)

// Defaults of Config.
const (
	DefaultDedupWindow = time.Hour
	DefaultDedupIDs    = 2_000_000
	DefaultMaxMessages = 20_000_000
)

// slowCommit is after how long a write that has not returned is told by Health.
const slowCommit = 3 * time.Second

// Config configures the engine. Dir is required.
type Config struct {
	// Dir holds everything; it is created if it does not exist, and locked.
	Dir string
	// FS is the file system; nil is the operating system's.
	FS durable.FS
	// SegmentBytes, CacheBytes, MaxPendingBytes, MinFreeBytes: see journal.Config.
	SegmentBytes, CacheBytes, MaxPendingBytes int
	MinFreeBytes                              int64
	// Quarantine lets Open go on past damaged records; without it Open refuses.
	Quarantine bool
	// DedupWindow and DedupIDs bound how long and how many ids are remembered after
	// their last copy was settled, whichever ends first.
	DedupWindow time.Duration
	DedupIDs    int
	// MaxMessages bounds the copies in all queues together, each of which takes up to 70
	// bytes of memory. At the bound publishes are refused with code QueueFull.
	MaxMessages int
	// Committed is told of each sync; it must not block.
	Committed func(journal.CommitInfo)
	Clock     clock.Clock
	Log       *slog.Logger
}

func (c Config) withDefaults() Config {
	c.FS = cmp.Or(c.FS, durable.OS())
	c.SegmentBytes = cmp.Or(c.SegmentBytes, journal.DefaultSegmentBytes)
	c.DedupWindow = cmp.Or(c.DedupWindow, DefaultDedupWindow)
	c.DedupIDs = cmp.Or(c.DedupIDs, DefaultDedupIDs)
	c.MaxMessages = cmp.Or(c.MaxMessages, DefaultMaxMessages)
	c.Clock = cmp.Or(c.Clock, clock.System)
	c.Log = cmp.Or(c.Log, slog.New(slog.DiscardHandler))
	return c
}

// Engine is the local engine. It implements engine.Engine and its optional parts.
type Engine struct {
	cfg    Config
	opened time.Time
	// The engine's time (timeline.go): it was began when the engine was opened, and elapsed has
	// passed since.
	began   int64
	elapsed func() time.Duration
	ahead   atomic.Int64 // of the file "clock": by how much the clock was ahead
	files   storeFiles
	log     *slog.Logger
	j       Journal
	unlock  func() error
	report  *journal.Report
	// maxPayload is the largest payload that fits in a segment.
	maxPayload int

	mu    sync.Mutex // guards what follows, unless its type says otherwise
	state state
	// removals are copies that were removed from memory by their queue's own rule, or that
	// needed no ack, and whose record is not written for want of room. Nobody waits for the
	// record; but while there are some, no segment may be released, or a crash would find the
	// copies in the checkpoint and not in the journal.
	removals    []copyRef
	lastSession uint64 // its id
	freeHeld    *held  // to be used again; a list by next
	scratch     []byte // for encoding payload heads
	closed      bool

	sweeper   sweeper
	dead      deadLetterer
	reclaimer reclaimer
	saved     saved
	damage    damageFound

	stopping   context.Context
	cancel     context.CancelFunc
	background sync.WaitGroup
}

var (
	_ engine.Engine  = (*Engine)(nil)
	_ engine.Peeker  = (*Engine)(nil)
	_ engine.Mover   = (*Engine)(nil)
	_ engine.Finder  = (*Engine)(nil)
	_ engine.Changer = (*Engine)(nil)
	_ engine.Pauser  = (*Engine)(nil)

	_ engine.DedupReporter = (*Engine)(nil)
)

// Open opens or creates the store in cfg.Dir and recovers what is in it. Errors:
// durable.ErrLocked if another process holds the folder, journal.ErrNewer if a newer
// version wrote it, *journal.DamageError if promised records are damaged and
// cfg.Quarantine is not set. The same path is taken after a crash and a clean stop.
func Open(cfg Config) (*Engine, error) {
	e := newEngine(cfg)
	cfg = e.cfg
	if err := durable.MkdirAll(cfg.FS, cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("create store folder: %w", err)
	}
	unlock, err := cfg.FS.Lock(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("lock store folder: %w", err)
	}
	e.unlock = unlock
	if err := e.recover(); err != nil {
		return nil, errors.Join(err, unlock())
	}
	e.dead.retry = cfg.Clock.AfterFunc(time.Hour, func() { poke(e.dead.wake) })
	e.dead.retry.Stop()
	e.sweeper.timer = cfg.Clock.AfterFunc(time.Hour, e.sweep)
	e.mu.Lock()
	for _, q := range e.state.queues {
		e.stopSweep(q) // what was found may have set it
		q.alarm.at = e.nowMillis()
		heap.Push(&e.sweeper.due, q)
	}
	e.mu.Unlock()
	e.sweep() // which finds out what is due when
	e.background.Go(e.runReclaimer)
	e.background.Go(e.runDeadLetterer)
	poke(e.reclaimer.wake)
	poke(e.dead.wake)
	return e, nil
}

func newEngine(cfg Config) *Engine {
	cfg = cfg.withDefaults()
	e := &Engine{
		cfg: cfg, log: cfg.Log, opened: cfg.Clock.Now(), files: storeFiles{fs: cfg.FS, dir: cfg.Dir},
		dead: deadLetterer{wake: make(chan struct{}, 1)}, reclaimer: reclaimer{wake: make(chan struct{}, 1), work: make(chan func())},
	}
	e.began, e.elapsed = e.opened.UnixMilli(), monotonic(cfg.Clock)
	e.state = newState(func(empty bool) {
		if empty || e.reclaimer.full.Load() { // then copying few messages may make room
			poke(e.reclaimer.wake)
		}
	})
	e.maxPayload = journal.MaxPayload(cfg.SegmentBytes)
	e.stopping, e.cancel = context.WithCancel(context.Background())
	return e
}

// Report is what recovery found at Open.
func (e *Engine) Report() *journal.Report { return e.report }

// Failed is closed when a write or sync has failed: the process must exit.
func (e *Engine) Failed() <-chan struct{} { return e.j.Failed() }

// Health is nil while everything promised holds.
func (e *Engine) Health() error {
	if e.stopping.Err() != nil {
		return &sealmq.Error{Code: sealmq.Unavailable, Message: "the store is closed"}
	}
	if err := e.j.Err(); err != nil {
		return &sealmq.Error{Code: sealmq.Unavailable, Message: "the store has stopped", Err: err}
	}
	if took := e.j.Stats().Storing; took > slowCommit {
		return &sealmq.Error{Code: sealmq.Unavailable, Message: fmt.Sprintf("the disk has not answered for %v, and clients wait", took.Round(time.Second))}
	}
	if _, err := e.j.Space(); err != nil {
		return &sealmq.Error{Code: sealmq.NoStorage, Message: "publishes are refused", Err: err}
	}
	if n := e.damage.found.Load(); n > 0 {
		return fmt.Errorf("%d damaged records were found; the log names them", n)
	}
	if err := e.reclaimer.err.Load(); err != nil {
		return fmt.Errorf("checkpoint: %w", *err)
	}
	return nil
}

// Abilities: everything.
func (e *Engine) Abilities() engine.Abilities {
	return engine.Abilities{Guarantee: engine.Synced, Delay: true, Uncounted: true, Extend: true, Peek: true, Move: true, StrictRedelivery: true, LongDedup: true, Pause: true}
}

// DedupHorizon implements engine.DedupReporter.
func (e *Engine) DedupHorizon() engine.DedupHorizon {
	e.mu.Lock()
	defer e.mu.Unlock()
	window := uint32(e.cfg.DedupWindow.Seconds())
	h := engine.DedupHorizon{Window: time.Duration(window) * time.Second, MaxIDs: e.cfg.DedupIDs}
	if seconds, ok := e.state.dedup.covered(e.cfg.DedupIDs, e.nowSeconds(), window); ok {
		h.Covered = max(time.Duration(seconds)*time.Second, time.Nanosecond)
	}
	return h
}

// Close stores and answers everything accepted, then releases the folder.
func (e *Engine) Close() error {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return nil
	}
	e.closed = true
	e.sweeper.timer.Stop()
	e.dead.retry.Stop()
	e.mu.Unlock()
	e.cancel()
	e.background.Wait()
	return errors.Join(e.j.Close(), e.unlock())
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// nowMillis is the engine's time.
func (e *Engine) nowMillis() int64 { return e.began + e.elapsed().Milliseconds() }

func (e *Engine) nowSeconds() uint32 { return uint32(e.nowMillis() / 1000) }

// unavailable wraps an error of the journal for callers of the engine.
func unavailable(err error) error {
	if err == nil {
		return nil
	}
	return &sealmq.Error{Code: sealmq.Unavailable, Message: sealmq.ErrUnavailable.Message, Err: err}
}

// storageError turns an error of the journal into one for a publisher; others have a code.
func storageError(err error) error {
	switch {
	case sealmq.CodeOf(err) != "":
		return err
	case journal.IsTooManyFiles(err):
		return &sealmq.Error{Code: sealmq.NoStorage, Message: "the broker has too many files open; try again later", Err: err}
	case errors.Is(err, journal.ErrDiskFull):
		return &sealmq.Error{Code: sealmq.NoStorage, Message: sealmq.ErrNoStorage.Message, Err: err}
	case errors.Is(err, journal.ErrTooLarge):
		return &sealmq.Error{Code: sealmq.TooLarge, Message: "the message is larger than a journal segment"}
	}
	return unavailable(err)
}

// urgent appends a record that may use the reserve. Callers hold mu and have made sure of
// the room (lockWithRoom).
func (e *Engine) urgent(kind byte, payload []byte) (journal.Position, error) {
	return e.j.Append(true, kind, payload, nil)
}

// answer ends a call: it unlocks and calls done with err or, if that is nil, when everything
// that was appended is synced. Callers hold mu.
func (e *Engine) answer(err error, done func(error)) {
	if err == nil {
		e.onSync(done)
	}
	e.mu.Unlock()
	if err != nil {
		done(storageError(err))
	}
}

// onSync calls done when everything that was appended is synced, or cannot be.
func (e *Engine) onSync(done func(error)) {
	e.j.OnSync(func(err error) { done(unavailable(err)) })
}

// Definitions returns all definitions sorted by key.
func (e *Engine) Definitions() []engine.Definition {
	e.mu.Lock()
	out := e.state.definitions()
	e.mu.Unlock()
	slices.SortFunc(out, func(a, b engine.Definition) int { return strings.Compare(a.Key, b.Key) })
	return out
}

// Define writes definitions in order, all or none.
func (e *Engine) Define(batch []engine.Definition, done func(error)) {
	record := encodeDefinitions(nil, batch)
	if err := e.lockWithRoom(len(record)); err != nil {
		done(err)
		return
	}
	var err error
	if len(batch) > 0 {
		_, err = e.urgent(kindDefine, record)
	}
	if err == nil {
		e.state.define(batch)
	}
	e.answer(err, done)
}
