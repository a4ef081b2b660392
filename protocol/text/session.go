package text

import (
	"bytes"
	"log/slog"
	"math"
	"runtime/debug"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/broker"
	"github.com/sealmq/sealmq/internal/clock"
)

// Limits bound one session. Zero fields mean the defaults.
type Limits struct {
	// LineBytes is the longest request line without its line feed. Default 4 MiB.
	LineBytes int
	// Waiting and WaitingBytes are how many replies, and how many bytes of them, may wait
	// for their command to be stored or for the peer to read. At the bound no more is read.
	// One read may exceed them by what it brings. Defaults 100,000 and 1 MiB.
	Waiting, WaitingBytes int
	// UnconfirmedBytes is how much of published messages may wait to be stored. At the bound
	// no more is read. Default 8 MiB.
	UnconfirmedBytes int
	// Unacked is how many deliveries the peer may hold; at the bound no more are pushed,
	// and fetch is refused. Default 65,536.
	Unacked int
	// Subscriptions is how many queues one connection may consume. Default 1,000.
	Subscriptions int
}

// Default limits.
const (
	DefaultLineBytes        = 4 << 20
	DefaultWaiting          = 100_000
	DefaultWaitingBytes     = 1 << 20
	DefaultUnconfirmedBytes = 8 << 20
	DefaultUnacked          = 65_536
	DefaultSubscriptions    = 1_000
)

func (l Limits) withDefaults() Limits {
	for _, f := range []struct {
		field *int
		value int
	}{
		{&l.LineBytes, DefaultLineBytes},
		{&l.Waiting, DefaultWaiting},
		{&l.WaitingBytes, DefaultWaitingBytes},
		{&l.UnconfirmedBytes, DefaultUnconfirmedBytes},
		{&l.Unacked, DefaultUnacked},
		{&l.Subscriptions, DefaultSubscriptions},
	} {
		if *f.field <= 0 {
			*f.field = f.value
		}
	}
	return l
}

// Config is what a Session needs. Broker, Identity and Wake are required.
type Config struct {
	Broker   *broker.Broker
	Identity sealmq.Identity
	// Wake says that Output may have something. It must not block; it is called from any
	// goroutine and more often than needed.
	Wake func()
	// Peers is the server's table of connections; nil is an empty one.
	Peers Peers
	// Panicked is told when the session's own code panicked in a call of the broker's. It
	// must have the connection end, and neither block nor call the session or the broker.
	// Nil only logs it and closes the session.
	Panicked func(v any, stack []byte)
	// Memory is where replies that wait are counted; nil is without a bound.
	Memory Memory
	// Log gets internal errors; nil discards.
	Log *slog.Logger
	// Clock measures; nil is the machine's clock.
	Clock clock.Clock
	// Metrics is what the session counts into; nil counts for nobody.
	Metrics *Metrics
	Limits  Limits
}

// Memory is the connection's part of the memory for all connections. Its methods must
// not block and may be called from any goroutine.
type Memory interface {
	// Add takes n bytes, or gives them back if n is negative.
	Add(n int)
	// Room is how much there is to take, below zero if more was taken than there was.
	Room() int
}

// Session is one connection's conversation.
//
// Three parties use it: one goroutine that reads calls Input and Ready; one goroutine
// at a time that writes calls Output; the broker's goroutines resolve replies. Close
// and the observers may be called from anywhere.
type Session struct {
	broker  *broker.Broker
	id      sealmq.Identity
	wake    func()
	peers   Peers
	memory  Memory
	panic   func(v any, stack []byte)
	log     *slog.Logger
	clock   clock.Clock
	metrics *Metrics
	limits  Limits

	// The fields of this block belong to the goroutine that calls Input.
	now           time.Time // when the input that is being worked on was read
	scanned       int       // bytes at the start of the input known to hold no line feed
	discarding    bool      // inside a line that is over the limit
	answered      bool      // a reply was queued that needs no waiting
	groupText     int       // how much text of replies makes a group
	full          bool      // more replies wait than the limits allow
	current       *group    // commands that are collected and not handed on yet
	scratch       *scratch  // what they will be handed on in
	subscriptions map[string]struct{}
	prefetch      int // what consumers are given; 0 is the queue's own
	resends       int // since resendsSince
	resendsSince  time.Time

	commands atomic.Uint64
	unacked  unacked
	meta     atomic.Int32 // which lines that CipherMQ does not know are pushed

	pipeline pipeline
	delivery delivery
}

// Which lines that CipherMQ does not know are pushed.
const (
	metaOff  int32 = iota // none
	metaEnds              // that a queue was deleted
	metaOn                // that, and one before each message
)

// NewSession begins a conversation. It allocates little: the consumer's side is opened
// by the first command that needs it.
func NewSession(cfg Config) *Session {
	s := &Session{
		broker:  cfg.Broker,
		id:      cfg.Identity,
		wake:    cfg.Wake,
		peers:   cfg.Peers,
		memory:  cfg.Memory,
		panic:   cfg.Panicked,
		log:     cfg.Log,
		clock:   cfg.Clock,
		metrics: cfg.Metrics,
		limits:  cfg.Limits.withDefaults(),
	}
	if s.peers == nil {
		s.peers = noPeers{}
	}
	if s.memory == nil {
		s.memory = endless{}
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.panic == nil {
		s.panic = func(v any, stack []byte) {
			s.log.Error("session panicked", "panic", v, "stack", string(stack))
			go s.Close() // the broker may hold what it needs
		}
	}
	if s.clock == nil {
		s.clock = clock.System
	}
	if s.metrics == nil {
		s.metrics = NewMetrics()
	}
	s.pipeline.changed.L = &s.pipeline.mu
	return s
}

// Input takes what was received: first the bytes that the last call did not use, then
// newer ones. It carries out the complete lines in it and returns how many bytes it is
// done with. It keeps no reference to data.
//
// All commands in data become as few calls of the broker as their order allows. more
// says that complete lines are left because enough replies wait; call Ready, then Input
// again. A rest without a line feed never exceeds Limits.LineBytes: of a longer line
// nothing is kept.
func (s *Session) Input(data []byte) (n int, more bool) {
	s.now = s.clock.Now()
	s.groupText = min(max(s.memory.Room()/8, ownBytes/2), keptText)
	commands := 0
	for !more {
		length := bytes.IndexByte(data[n+s.scanned:], '\n')
		if length < 0 {
			n += s.unfinished(data[n:])
			break
		}
		line := data[n : n+s.scanned+length]
		n += len(line) + 1
		s.scanned = 0
		if s.discarding {
			s.discarding = false
			continue
		}
		commands++
		if len(line) > s.limits.LineBytes {
			s.longLine()
		} else {
			s.command(Parse(line))
		}
		more = s.full && n < len(data)
	}
	s.commands.Add(uint64(commands)) // before anybody has a reply to them
	s.flush()
	if s.answered {
		s.answered = false
		s.wake()
	}
	return n, more
}

// unfinished deals with a rest that has no line feed and returns how much of it is of
// no further use.
func (s *Session) unfinished(rest []byte) int {
	if !s.discarding && len(rest) > s.limits.LineBytes {
		s.discarding = true
		s.longLine()
	}
	if s.discarding {
		s.scanned = 0
		return len(rest)
	}
	s.scanned = len(rest)
	return 0
}

// NoRoom says that there is no memory for the line that Input left unfinished: it is
// answered with an error, and its rest will be skipped. The goroutine that calls Input
// calls it.
func (s *Session) NoRoom() {
	s.discarding, s.scanned = true, 0
	s.answerError(Unknown, errNoMemory)
	s.flush()
	s.answered = false
	s.wake()
}

// errNoMemory is for what would have to be kept when memory is short.
var errNoMemory = &sealmq.Error{Code: sealmq.QueueFull, Message: "the broker is full, it has no memory for this now; try again later"}

func (s *Session) short() bool { return s.memory.Room() <= 0 }

// endless is memory without a bound.
type endless struct{}

func (endless) Add(int)   {}
func (endless) Room() int { return math.MaxInt }

func (s *Session) longLine() {
	s.metrics.fault(faultLongLine)
	s.fail(Unknown, "line is longer than "+strconv.Itoa(s.limits.LineBytes)+" bytes")
}

// command carries out one command. Each queues exactly one reply (publish_batch: one
// per element), at once or when the broker has answered. The two commands that come by
// the million stand first.
func (s *Session) command(c Command) {
	switch c.Verb {
	case Publish:
		s.publish(c.Args)
	case Ack:
		s.ack(c.Args)
	case Unknown:
		s.metrics.fault(faultUnknownCommand)
		s.reply(Unknown, replyUnknown)
	default:
		s.dispatch(c)
	}
}

func (s *Session) dispatch(c Command) {
	switch c.Verb {
	case DeclareQueue:
		s.declareQueue(c.Args)
	case DeclareExchange:
		s.declareExchange(c.Args)
	case Bind, Unbind:
		s.bind(c.Verb, c.Args)
	case PublishBatch:
		s.publishBatch(c.Args)
	case Consume:
		s.consume(c.Args)
	case Fetch:
		s.fetch(c.Args)
	case Stats:
		s.stats()
	case ResetStats:
		s.resetStats()
	case RegisterKey:
		s.registerKey(c.Args)
	case GetKey, GetPublicKey:
		s.getKey(c.Verb, c.Args)
	case RegisterPublicKey:
		s.registerPublicKey(c.Args)
	case Resend:
		s.resend(c.Args)
	case DeleteQueue, Purge:
		s.removeMessages(c.Verb, c.Args)
	case DeleteExchange:
		s.deleteExchange(c.Args)
	case Peek:
		s.peek(c.Args)
	case Move:
		s.move(c.Args)
	case Nack:
		s.nack(c.Args)
	case Release:
		s.release(c.Args)
	case Extend:
		s.extend(c.Args)
	case Prefetch:
		s.setPrefetch(c.Args)
	case Meta:
		s.setMeta(c.Args)
	case Queues:
		s.queues()
	case Queue:
		s.queue(c.Args)
	case Exchanges:
		s.exchanges()
	case Connections:
		s.connections()
	case CloseConnection:
		s.closeConnection(c.Args)
	case Whoami:
		s.whoami()
	case Ping:
		s.reply(Ping, replyPong)
	case PutKey:
		s.putKeyEntry(c.Args)
	case FindKey:
		s.findKey(c.Args)
	case PutChain:
		s.putChain(c.Args)
	case FindChain:
		s.findChain(c.Args)
	case KeyLog:
		s.keyLog(c.Args)
	case KeyProof:
		s.keyProof(c.Args)
	case ResetKey:
		s.resetKey(c.Args)
	case FindReset:
		s.findReset(c.Args)
	}
}

// missing answers a command that lacks an argument.
func (s *Session) missing(v Verb, reply string) {
	s.metrics.fault(faultMissingArgument)
	s.reply(v, reply)
}

// badArgument answers a command whose argument cannot be used.
func (s *Session) badArgument(v Verb, why string) {
	s.metrics.fault(faultBadArgument)
	s.fail(v, why)
}

// fail answers with an error line.
func (s *Session) fail(v Verb, why string) {
	g := s.collect(ready, v)
	g.text = appendLine(g.text, prefixError, why)
	s.answerNow(v)
}

// reply answers with a literal line.
func (s *Session) reply(v Verb, line string) {
	g := s.collect(ready, v)
	g.text = append(g.text, line...)
	s.answerNow(v)
}

// answerError answers with what a peer may know of err.
func (s *Session) answerError(v Verb, err error) { s.fail(v, s.explain(v, err)) }

func (s *Session) answerNow(v Verb) {
	s.current.count++
	s.metrics.answered(v, 1, 0)
	if len(s.current.text) >= s.groupText {
		s.flush() // so that large replies count before the next one is made
	}
}

// contain ends the session, and nothing else, when its own code panics on a goroutine
// of the broker's.
func (s *Session) contain() {
	if v := recover(); v != nil {
		s.panic(v, debug.Stack())
	}
}

// Commands is how many commands were read.
func (s *Session) Commands() uint64 { return s.commands.Load() }

// Drain stops pushing. Replies go on; Drained tells when all have been handed out.
func (s *Session) Drain() { s.delivery.drain() }

// Quiet gives memory back that a busy connection keeps. The goroutine that calls Input
// calls it when nothing was received for a while.
func (s *Session) Quiet() { s.delivery.quiet() }

// Close returns every held delivery to its queue and releases whoever waits in Ready
// or Input. What was handed to the broker is still carried out. It may be called twice.
func (s *Session) Close() {
	s.pipeline.close()
	s.delivery.close()
}
