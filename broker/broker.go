package broker

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/audit"
	"github.com/sealmq/sealmq/engine"
	"github.com/sealmq/sealmq/internal/clock"
	"github.com/sealmq/sealmq/keydir/keylog"
)

// Config is what a Broker needs. Only Engine is required.
type Config struct {
	// Engine keeps the queues and the definitions. It stays the caller's to close,
	// after the broker.
	Engine engine.Engine
	// Log gets definitions that were repaired at start and changed keys; nil discards.
	Log *slog.Logger
	// Clock stamps messages; nil is the machine's clock.
	Clock clock.Clock
	// Limits bound the definitions; zero fields mean the defaults.
	Limits Limits
	// Directory switches the proven key directory on; nil leaves it off.
	Directory *DirectoryConfig
	// Metrics is what the broker counts into; nil counts into collectors that nobody reads.
	Metrics *Metrics
	// PipelineQueue is the name of the pipeline's queue and exchange. It and names that begin
	// with it and a dot are only for the roles of the pipeline and administrators. Empty is
	// none.
	PipelineQueue string
	// OwnIssuer reports whether an Identity's Issuer is our own authority. The role server may
	// look after all queues only if it is, or if the caller is in this process and has none:
	// other authorities have clients of that role too. Nil is no issuer.
	OwnIssuer func(issuer string) bool
	// Audit gets every denied command, every administrative one that was let through, with
	// its outcome, and changed keys; nil discards.
	Audit audit.Sink
}

// Limits bound what clients can define.
type Limits struct {
	Exchanges int // default 10,000
	Bindings  int // default 1,000,000
	Queues    int // default 100,000; those that the engine makes for dead letters count and are not refused
	Keys      int // default 100,000; bare keys and entries of the key directory together
	// KeyLog is how many changes of keys the directory's log can hold (default and most
	// 1,000,000: clients do not read a longer one), KeyChanges how many of them can be of
	// one client and suite (default 1,024).
	KeyLog     int
	KeyChanges int
	Chains     int // default 10,000; senders' certificate chains

	// How many of these one identity can have: by default a tenth of the limits of all, and at
	// least 100. A binding counts for the owner of its queue. Administrators are not limited.
	ExchangesPerIdentity, BindingsPerIdentity, QueuesPerIdentity int
}

// Default limits.
const (
	DefaultMaxExchanges  = 10_000
	DefaultMaxBindings   = 1_000_000
	DefaultMaxQueues     = 100_000
	DefaultMaxKeys       = 100_000
	DefaultMaxKeyLog     = keylog.MaxLog
	DefaultMaxKeyChanges = 1024
	DefaultMaxChains     = 10_000
)

func (l Limits) withDefaults() Limits {
	l.Exchanges = cmp.Or(l.Exchanges, DefaultMaxExchanges)
	l.Bindings = cmp.Or(l.Bindings, DefaultMaxBindings)
	l.Queues = cmp.Or(l.Queues, DefaultMaxQueues)
	l.Keys = cmp.Or(l.Keys, DefaultMaxKeys)
	l.KeyLog = cmp.Or(l.KeyLog, DefaultMaxKeyLog)
	l.KeyChanges = cmp.Or(l.KeyChanges, DefaultMaxKeyChanges)
	l.Chains = cmp.Or(l.Chains, DefaultMaxChains)
	l.ExchangesPerIdentity = cmp.Or(l.ExchangesPerIdentity, perIdentity(l.Exchanges))
	l.BindingsPerIdentity = cmp.Or(l.BindingsPerIdentity, perIdentity(l.Bindings))
	l.QueuesPerIdentity = cmp.Or(l.QueuesPerIdentity, perIdentity(l.Queues))
	return l
}

func perIdentity(limit int) int { return max(limit/10, min(limit, 100)) }

// Caller is who calls: the identity of a connection's peer, and the connection.
type Caller struct {
	sealmq.Identity
	Conn uint64
}

// Broker routes messages to the queues of one engine. Its methods are safe for concurrent
// use. They take the caller first, and refuse with code Denied what the caller may not do.
//
// A done function is called exactly once, possibly before the method returns, on any
// goroutine; it must not block and must not call back into the broker. It is called
// after what the method did is on stable storage. Effects are visible to later calls as
// soon as the method returns. Strings and slices that are handed in belong to the caller
// again when the method returns; what is handed out must not be changed.
type Broker struct {
	engine  engine.Engine
	log     *slog.Logger
	clock   clock.Clock
	limits  Limits
	metrics *Metrics
	sink    audit.Sink // may be nil
	grants  grants

	topo *topology
	keys *keylog.Log // the key directory, which has locks of its own

	// Changes of the topology take turns, so that the engine gets them in the order in which
	// they were decided: who holds mu has the turn. It is kept while the engine writes the
	// change down, which may wait for room, but not until it is durable. Only other changes
	// wait for it. No done function takes it, because the engine may call one during a turn.
	mu       sync.Mutex
	dangling []engine.Definition // to remove: bindings without their queue

	descriptions descriptions
	closed       atomic.Bool
}

// New loads the definitions from the engine and returns a broker that is ready. A
// definition that it does not understand, as a newer version may write, is an error;
// a binding whose queue or exchange is gone is removed and logged.
func New(cfg Config) (*Broker, error) {
	if cfg.Engine == nil {
		return nil, fmt.Errorf("broker: no engine given")
	}
	b := &Broker{
		engine:  cfg.Engine,
		log:     cmp.Or(cfg.Log, slog.New(slog.DiscardHandler)),
		clock:   cmp.Or(cfg.Clock, clock.System),
		limits:  cfg.Limits.withDefaults(),
		metrics: cmp.Or(cfg.Metrics, NewMetrics()),
		sink:    cfg.Audit,
		grants:  grants{pipeline: cfg.PipelineQueue, own: cfg.OwnIssuer},
	}
	if err := b.load(cfg.Directory); err != nil {
		return nil, fmt.Errorf("load definitions: %w", err)
	}
	b.dropTemporaries()
	b.metrics.setDefinitions(b.Counts())
	b.metrics.setLimits(b.limits)
	return b, nil
}

func (b *Broker) load(directory *DirectoryConfig) error {
	topo := newTopology()
	b.engine.ReportDeadQueues(func(name string, o sealmq.QueueOptions) {
		if topo.addQueue(name, &o) {
			b.metrics.setQueues(topo.countQueues())
		}
	})
	queues, err := b.engine.Queues()
	if err != nil {
		return err
	}
	definitions := b.engine.Definitions()
	dangling, err := topo.read(queues, definitions)
	keys, keysErr := b.openKeys(definitions, directory)
	if err := errors.Join(err, keysErr); err != nil {
		return err
	}
	b.topo, b.keys = topo, keys
	b.dropDangling(dangling)
	keys.Complete()
	return nil
}

// Close makes every later command fail with code Unavailable. It does not close the
// engine, nor consumers that are open. It may be called twice.
func (b *Broker) Close() error {
	b.closed.Store(true)
	return nil
}

// Counts are the sizes of what clients have defined.
type Counts struct {
	Exchanges, Bindings, Queues int
	keylog.Counts               // of the key directory
}

// Counts returns how much is defined.
func (b *Broker) Counts() Counts {
	keys := b.keys.Counts()
	b.topo.mu.RLock()
	defer b.topo.mu.RUnlock()
	return Counts{
		Exchanges: len(b.topo.exchanges),
		Bindings:  b.topo.bindings,
		Queues:    len(b.topo.queues),
		Counts:    keys,
	}
}

// Health is the engine's.
func (b *Broker) Health() error {
	if b.closed.Load() {
		return sealmq.ErrUnavailable
	}
	return b.engine.Health()
}

// checkQueueName is sealmq.CheckName, except that a dead-letter queue may be as much
// longer as its suffix is: the engine names it after a queue whose name may be as long
// as names can be.
func checkQueueName(name string) error {
	return sealmq.CheckName("queue", strings.TrimSuffix(name, sealmq.DeadSuffix))
}
