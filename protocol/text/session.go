package text

import (
	"bytes"
	"cmp"
	"maps"
	"runtime/debug"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/broker"
	"github.com/sealmq/sealmq/internal/clock"
	"github.com/sealmq/sealmq/protocol"
)

// Limits bound one session. Zero fields mean the defaults.
type Limits struct {
	// LineBytes is the longest request line without its line feed. Default 4 MiB.
	LineBytes int
	// Waiting and WaitingBytes are how many replies, and how many bytes of them, may wait
	// for their command to be stored or for the peer to read. At the limit reading stops.
	// One read may exceed it by what it brings. Defaults 100,000 and 1 MiB.
	Waiting, WaitingBytes int
	// UnconfirmedBytes is how many bytes of published messages may wait to be stored. At
	// the limit reading stops. Default 8 MiB.
	UnconfirmedBytes int
	// Unacked is how many deliveries the peer may hold. At the limit nothing is pushed, and
	// fetch is refused. Default 65,536.
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
	l.LineBytes = cmp.Or(max(l.LineBytes, 0), DefaultLineBytes)
	l.Waiting = cmp.Or(max(l.Waiting, 0), DefaultWaiting)
	l.WaitingBytes = cmp.Or(max(l.WaitingBytes, 0), DefaultWaitingBytes)
	l.UnconfirmedBytes = cmp.Or(max(l.UnconfirmedBytes, 0), DefaultUnconfirmedBytes)
	l.Unacked = cmp.Or(max(l.Unacked, 0), DefaultUnacked)
	l.Subscriptions = cmp.Or(max(l.Subscriptions, 0), DefaultSubscriptions)
	return l
}

// Config is what the sessions of one server share. Broker is required.
type Config struct {
	Broker *broker.Broker
	// Clock measures; nil is the machine's clock.
	Clock clock.Clock
	// Metrics are counters that the caller registers; nil counts nothing.
	Metrics *Metrics
	Limits  Limits
	// Version and Started are what "status" tells of the program.
	Version string
	Started time.Time
}

// Protocol is the line protocol. It has no prefix: a conversation that begins like no
// other is one of lines.
func Protocol(cfg Config) protocol.Protocol {
	cfg.Metrics = cmp.Or(cfg.Metrics, NewMetrics())
	cfg.Clock = cmp.Or(cfg.Clock, clock.System)
	cfg.Limits = cfg.Limits.withDefaults()
	return protocol.Protocol{
		Name:    "text",
		Open:    func(p protocol.Peer) protocol.Session { return newSession(&cfg, p) },
		Refusal: func(err error) []byte { return append(appendFree([]byte(prefixError), err.Error()), '\n') },
	}
}

// Session is one connection's conversation; it is a protocol.Session. The broker's
// goroutines resolve its replies.
type Session struct {
	cfg    *Config
	table  []row
	peer   protocol.Peer
	caller broker.Caller

	// The fields of this block belong to the goroutine that calls Input.
	now          time.Time // when the current input was read
	scanned      int       // bytes at the start of the input known to hold no line feed
	discarding   bool      // inside a line that is over the limit
	answered     bool      // a reply was queued that needs no waiting
	groupText    int       // how much text of replies makes a group
	full         bool      // more replies wait than the limits allow
	current      *group    // the replies to the commands that are collected now; nil if none are
	requests     *requests // what these commands ask of the broker; nil if nothing
	prefetch     int       // credit of new subscriptions; 0 is the queue's own
	coded        bool      // the peer asked for codes in error lines
	resends      int       // since resendsSince
	resendsSince time.Time

	commands atomic.Uint64
	asked    atomic.Int32 // prefetch, for descriptions
	meta     atomic.Int32 // which lines are pushed that CipherMQ does not know

	pipeline pipeline
	delivery delivery
}

// Which lines are pushed that CipherMQ does not know.
const (
	metaOff  int32 = iota // none
	metaEnds              // that a queue was deleted
	metaOn                // that, and one before each message
)

// newSession begins a conversation. It allocates little: the first command that needs the
// consumer's side opens it.
func newSession(cfg *Config, p protocol.Peer) *Session {
	s := &Session{cfg: cfg, table: table, peer: p, caller: broker.Caller{Identity: p.Identity, Conn: p.Conn}}
	s.pipeline.changed.L = &s.pipeline.mu
	return s
}

// Input implements protocol.Session. It carries out the complete lines in data, with as
// few calls of the broker as their order allows. more says that complete lines are left
// because enough replies wait. A rest without a line feed never exceeds
// Limits.LineBytes: of a longer line nothing is kept.
func (s *Session) Input(data []byte) (n int, more bool) {
	s.now = s.cfg.Clock.Now()
	s.groupText = min(max(s.peer.Memory.Room()/8, uncountedBytes/2), keptText)
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
		if len(line) > s.cfg.Limits.LineBytes {
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
		s.peer.Wake()
	}
	return n, more
}

// unfinished takes a rest that has no line feed and returns how much of it can be dropped.
func (s *Session) unfinished(rest []byte) int {
	if !s.discarding && len(rest) > s.cfg.Limits.LineBytes {
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

// NoRoom implements protocol.Session: the line that Input left unfinished is refused.
func (s *Session) NoRoom() {
	s.discarding, s.scanned = true, 0
	s.answerError(Unknown, errNoMemory)
	s.flush()
	s.answered = false
	s.peer.Wake()
}

// errNoMemory refuses what would need memory when there is none.
var errNoMemory = &sealmq.Error{Code: sealmq.QueueFull, Message: "the broker is full, it has no memory for this now; try again later"}

func (s *Session) memoryUsedUp() bool { return s.peer.Memory.Room() <= 0 }

func (s *Session) longLine() {
	s.cfg.Metrics.fault(faultLongLine)
	s.fail(Unknown, prefixError, sealmq.TooLarge, "line is longer than "+strconv.Itoa(s.cfg.Limits.LineBytes)+" bytes")
}

// command carries out one command. Each queues exactly one reply (publish_batch: one
// per element; heartbeat: none), at once or when the broker has answered.
func (s *Session) command(c Command) {
	switch c.Verb {
	case Publish: // these two are the hot path: they check their arguments themselves
		s.publish(Publish, c.Args)
	case Ack:
		s.ack(Ack, c.Args)
	case Unknown:
		s.cfg.Metrics.fault(faultUnknownCommand)
		s.fail(Unknown, "", sealmq.Unsupported, "Unknown command")
	default:
		switch row := &s.table[c.Verb]; {
		case !atLeast(row.least, c.Args):
			s.missing(c.Verb)
		case row.flags&inOrder == 0 || s.barrier():
			row.run(s, c.Verb, c.Args)
		}
	}
}

func (s *Session) ping(v Verb, _ []byte) { s.succeed(v, "") }

// heartbeat has no reply. The receiver of CipherMQ's demo sends it between its requests, and
// would take a reply for that to the next request.
func (s *Session) heartbeat(Verb, []byte) {}

// missing answers a command that lacks an argument.
func (s *Session) missing(v Verb) {
	s.cfg.Metrics.fault(faultMissingArgument)
	s.fail(v, "", sealmq.BadArgument, s.table[v].missing)
}

// badArgument answers a command whose argument cannot be used.
func (s *Session) badArgument(v Verb, why string) {
	s.cfg.Metrics.fault(faultBadArgument)
	s.fail(v, classic(v), sealmq.BadArgument, why)
}

// fail answers with an error line that begins as in appendError.
func (s *Session) fail(v Verb, classic string, code sealmq.Code, sentence string) {
	g := s.collect(ready, v)
	g.text = g.appendError(g.text, classic, code, sentence)
	s.answerNow(v)
}

// reply answers with a literal line.
func (s *Session) reply(v Verb, line string) {
	g := s.collect(ready, v)
	g.text = append(append(g.text, line...), '\n')
	s.answerNow(v)
}

// succeed answers with the verb's own reply and what follows it.
func (s *Session) succeed(v Verb, rest string) { s.reply(v, s.table[v].reply+rest) }

// answerError answers with what a peer may know of err.
func (s *Session) answerError(v Verb, err error) {
	code, sentence := s.explain(v, err)
	s.fail(v, classic(v), code, sentence)
}

func (s *Session) answerNow(v Verb) {
	s.current.count++
	s.cfg.Metrics.answered(v, 1, 0)
	if len(s.current.text) >= s.groupText {
		s.flush() // so that large replies are counted before the next one is made
	}
}

// contain ends only this session when its code panics on a goroutine of the broker.
func (s *Session) contain() {
	if v := recover(); v != nil {
		s.peer.Panicked(v, debug.Stack())
	}
}

// Tick implements protocol.Session. The line protocol has neither heartbeats nor
// time-outs: a consumer may be silent for ever (specification R11).
func (s *Session) Tick(time.Time) time.Time { return time.Time{} }

// Describe implements protocol.Session.
func (s *Session) Describe(info *sealmq.ConnectionInfo) {
	info.Commands, info.Prefetch = s.commands.Load(), int(s.asked.Load())
	d := &s.delivery
	if c := d.consumer.Load(); c != nil {
		info.Unacked = c.Unacked()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	info.Consumes = slices.Sorted(maps.Keys(d.subs))
}

// Drain stops pushing. Replies go on; Drained tells when all have been handed out.
func (s *Session) Drain() {
	s.delivery.pushMu.Lock()
	defer s.delivery.pushMu.Unlock()
	s.delivery.draining = true
}

// Quiet implements protocol.Session.
func (s *Session) Quiet() {
	d := &s.delivery
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ledger.len() == 0 {
		d.ledger = ledger{turn: d.ledger.turn}
	}
}

// Close implements protocol.Session. It returns every held delivery to its queue and ends
// the wait in Ready or Input. What was handed to the broker is still carried out.
func (s *Session) Close() {
	s.pipeline.close()
	s.delivery.close()
}
