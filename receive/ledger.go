package receive

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/sealmq/sealmq/internal/clock"
	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/internal/framelog"
	"github.com/sealmq/sealmq/seal"
)

// Defaults of LedgerConfig.
const (
	// DefaultLedgerIDs is how many message ids a ledger remembers; they take about
	// 90 MiB of memory when there are as many.
	DefaultLedgerIDs = 1 << 20
	// MaxLedgerIDs bounds them, so that all fit into one frame of the file.
	MaxLedgerIDs = 1 << 22
	// MaxLedgerCommit bounds the messages of one commit.
	MaxLedgerCommit = 1 << 18
	// ledgerGrowth is how much a ledger's file grows at least before it is rewritten.
	ledgerGrowth = 8 << 20
	// maxLedgerEpochs is how many epochs a file lists before it is rewritten.
	maxLedgerEpochs = 1 << 14
)

// LedgerConfig bounds a ledger. The zero value means the defaults.
type LedgerConfig struct {
	// MaxIDs is how many message ids are remembered, the latest ones (default
	// DefaultLedgerIDs, at most MaxLedgerIDs in a file).
	MaxIDs int
	// Replay bounds what is remembered of senders and their epochs.
	Replay ReplayConfig
	// Now is the time of day (default: the machine's).
	Now func() time.Time

	disk
}

// disk lets tests of this module put another file system under a ledger.
type disk = durable.Override

// ErrInUse says that another process has a ledger open.
var ErrInUse = durable.ErrLocked

// Output is how far an application has come with what it makes of the messages.
type Output struct {
	// Length is what a file that the messages go to may keep after a crash; what is
	// behind it is to be cut off. An application without a file leaves it 0.
	Length int64
	// Messages counts the messages in it.
	Messages uint64
}

// Cut is what was cut off the end of a ledger.
type Cut = framelog.Cut

// DamagedFileError says that a ledger cannot be read where it was known to be on stable
// storage. Nothing was changed.
type DamagedFileError = framelog.DamagedError

// Judgement is what a ledger says of a message.
type Judgement uint8

// The judgements.
const (
	// LedgerNew: the message was not committed before.
	LedgerNew Judgement = iota + 1
	// LedgerSeen: it was. It is to be acknowledged and not shown.
	LedgerSeen
	// LedgerConflict: another message had the same id, or the same place among its
	// sender's. Somebody lies, or a sender was copied while it ran.
	LedgerConflict
	// LedgerForgotten: it is older than what the ledger remembers. To show it might be
	// the second time, to drop it might lose it.
	LedgerForgotten
	// LedgerInHand: a Receiver has shown it, and it is neither committed nor given back.
	LedgerInHand
)

// Ledger remembers which messages an application has taken, together with how far its
// output has come, in one file. A message is committed once its effect is on stable
// storage; what a crash leaves of an effect that was not committed is undone by cutting
// the output to Output().Length. So the application sees each message once, however
// often it is delivered.
//
// It remembers ids and digests, no texts. What it forgets at its bounds it never calls
// new, except for messages of CipherMQ's suites, which have nothing but their ids.
//
// It also knows, for as long as the process lives, what its Receivers have shown and not
// settled: of several that share it each shows a message that no other has in hand.
//
// One process at a time can have a ledger open. Competing receivers that each have a ledger
// of their own see a message twice if one of them takes it and dies before its
// acknowledgement: the other's ledger does not know. It is safe for concurrent use.
type Ledger struct {
	name   string
	cfg    LedgerConfig
	unlock func() error

	mu     sync.Mutex
	log    *framelog.Log // nil in a ledger without a file
	cut    Cut
	base   int64 // size of the file after the last rewriting
	growth int64 // by how much it grows at least before it is rewritten
	output Output
	known  map[idHash]uint32 // places in ids
	ids    []known           // a ring, oldest at head
	head   int
	// dropped is when the newest message was sealed whose id was dropped, notSealed if
	// none was: what was sealed later and is not there was never committed.
	dropped int64
	// learned says that there are ids of Add, which does not know the sender's authority.
	learned bool
	replay  *replay
	epochs  map[epochKey]uint32 // places in the file's list of epochs
	list    []*seal.Message     // of each of them, what replay needs to know
	hands   map[idHash]*hand
	places  map[place]*hand // the same, of messages that have a place
	err     error           // why it takes no commits any more
}

// idHash identifies a sender and a message id. It is wide enough that nobody can make two
// that share one.
type idHash [16]byte

// textSum identifies a text.
type textSum [8]byte

// known is what is remembered of a message.
type known struct {
	id     idHash
	text   textSum
	sealed int64 // milliseconds since 1970
}

func knownOf(m *seal.Message) known { return known{idOf(m), sumText(m.Text), sealedAt(m)} }

// notSealed is the time of messages that do not say when they were sealed.
const notSealed = math.MinInt64

type epochKey struct {
	issuer, sender string
	hash           [32]byte
}

func hashID(issuer, sender, id string) idHash {
	var room [256]byte
	b := room[:0]
	if sender != "" {
		b = append(append(append(append(b, issuer...), 0), sender...), 0)
	}
	sum := sha256.Sum256(append(b, id...))
	return idHash(sum[:16])
}

func idOf(m *seal.Message) idHash { return hashID(m.Sender.Issuer, m.Sender.ID, m.ID) }

func sealedAt(m *seal.Message) int64 {
	if !m.Proven() {
		return notSealed
	}
	return m.SealedAt.UnixMilli()
}

func sumText(text []byte) textSum {
	sum := sha256.Sum256(text)
	return textSum(sum[:8])
}

// OpenLedger opens or creates a ledger. The error wraps ErrInUse if it is open elsewhere and the
// file system has locks, and is a *DamagedFileError if it cannot be read; then nothing is
// changed.
func OpenLedger(name string, cfg LedgerConfig) (*Ledger, error) {
	l := NewLedger(cfg)
	l.name = name
	if l.cfg.MaxIDs > MaxLedgerIDs || l.maxStateBytes() > framelog.MaxPayloadBytes {
		return nil, fmt.Errorf("open ledger: its bounds allow more than a file holds (%d ids at most)", MaxLedgerIDs)
	}
	if locker, ok := l.cfg.FS.(durable.FileLocker); ok {
		// Not the file itself: it is replaced when it has grown.
		unlock, err := locker.LockFile(name + ".lock")
		if err != nil {
			return nil, err
		}
		l.unlock = unlock
	}
	err := l.open()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open ledger: %w", err), l.unlock())
	}
	return l, nil
}

// NewLedger makes one that is forgotten with the process.
func NewLedger(cfg LedgerConfig) *Ledger {
	cfg.FS = cfg.System()
	if cfg.Now == nil {
		cfg.Now = clock.System.Now
	}
	cfg.MaxIDs = min(cmp.Or(max(cfg.MaxIDs, 0), DefaultLedgerIDs), math.MaxInt32)
	l := &Ledger{cfg: cfg, growth: ledgerGrowth, unlock: func() error { return nil }, hands: make(map[idHash]*hand), places: make(map[place]*hand)}
	l.reset()
	return l
}

func (l *Ledger) reset() {
	l.known, l.ids, l.head = make(map[idHash]uint32), nil, 0
	l.replay = newReplay(l.cfg.Replay)
	l.epochs, l.list = make(map[epochKey]uint32), nil
	l.output, l.dropped, l.learned = Output{}, notSealed, false
}

func (l *Ledger) open() error {
	log, err := framelog.Open(l.cfg.FS, l.name, false, func(offset int64, payload []byte) error {
		if offset == 0 {
			l.base = framelog.HeadBytes + int64(len(payload))
			return l.takeState(payload)
		}
		return l.takeCommit(payload)
	})
	if durable.IsNotExist(err) {
		return l.rewrite()
	}
	if errors.Is(err, framelog.ErrEmpty) { // a state is never torn
		return &framelog.DamagedError{Name: l.name, Offset: 0, Why: "it does not begin with a state"}
	}
	if err == nil {
		l.log, l.cut = log, log.Cut
	}
	return err
}

// Cut is what OpenLedger cut off the end of the file, which a crash had torn. If it was damage
// instead, the last commits are forgotten: their messages are in the output, or not.
func (l *Ledger) Cut() Cut { return l.cut }

// Output is how far the application had come with the last commit.
func (l *Ledger) Output() Output {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.output
}

// Len is how many message ids it remembers.
func (l *Ledger) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.known)
}

// Gaps lists the numbers that were not seen, as far as they are known to exist: below
// the highest number of an epoch, up to the count that the next epoch gives, and epochs
// of which nothing was seen between two that were. A receiver that shares its key with
// others sees gaps where the others' messages are. Messages at the end of a sender's last
// epoch cannot be missed.
func (l *Ledger) Gaps() []Gap {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.replay.missing()
}

// Judge says whether a message was committed before, or is in hand. It remembers nothing.
func (l *Ledger) Judge(m *seal.Message) Judgement {
	l.mu.Lock()
	defer l.mu.Unlock()
	j, _ := l.judge(m, idOf(m))
	return j
}

// judge also returns what is in hand with the message's id or place.
func (l *Ledger) judge(m *seal.Message, id idHash) (Judgement, *hand) {
	at, ok := l.known[id]
	if !ok && l.learned && m.Proven() {
		at, ok = l.known[hashID("", m.Sender.ID, m.ID)]
	}
	switch {
	case ok && l.ids[at].text == sumText(m.Text):
		return LedgerSeen, nil
	case ok:
		return LedgerConflict, nil
	}
	if j, h := l.judgeHands(m, id); j != LedgerNew {
		return j, h
	}
	if !m.Proven() {
		return LedgerNew, nil
	}
	// Whatever was committed is among the ids, or was sealed no later than one that was dropped.
	forgettable := sealedAt(m) <= l.dropped
	switch j := l.replay.judge(m); {
	case j == LedgerSeen && !forgettable:
		return LedgerConflict, nil // its place was seen, its id was not
	case j == LedgerForgotten && !forgettable:
		return LedgerNew, nil
	default:
		return j, nil
	}
}

// Add remembers a message that is in the output already, from before there was a ledger.
// It is durable with the next Rewrite.
func (l *Ledger) Add(sender, id string, text []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	// When it was sealed is not known, and no later than a sender's clock may be ahead.
	latest := l.cfg.Now().Add(seal.DefaultMaxSkew).UnixMilli()
	l.remember(known{hashID("", sender, id), sumText(text), latest})
	l.learned = true
}

// Has reports whether a message was committed or added, as far as can be told without its
// sender's authority.
func (l *Ledger) Has(sender, id string, text []byte) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	sum := sumText(text)
	is := func(issuer string) bool {
		at, ok := l.known[hashID(issuer, sender, id)]
		return ok && l.ids[at].text == sum
	}
	issuers := 0
	for key := range l.replay.senders {
		if key.id == sender {
			if issuers++; is(key.issuer) {
				return true
			}
		}
	}
	// The authority of a sender whose epochs are forgotten cannot be told: then the text decides.
	return is("") || sender != "" && issuers == 0 && slices.ContainsFunc(l.ids, func(k known) bool { return k.text == sum })
}

var errLedgerClosed = errors.New("the ledger is closed")

// Commit remembers messages and how far the output has come, in one step: after a crash
// the ledger knows all of it or nothing. What the output keeps must be on stable storage
// before; acknowledgements come after. After an error the ledger must be opened again.
func (l *Ledger) Commit(output Output, messages ...*seal.Message) error {
	return l.commit(output, messages, func(i int) known { return knownOf(messages[i]) })
}

// commit is Commit with what is remembered of each message, which a Receiver has already.
func (l *Ledger) commit(output Output, messages []*seal.Message, of func(i int) known) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return l.err
	}
	if len(messages) > MaxLedgerCommit {
		return fmt.Errorf("a commit of %d messages is larger than %d", len(messages), MaxLedgerCommit)
	}
	ids := make([]known, len(messages))
	for i := range ids {
		ids[i] = of(i)
	}
	if l.log != nil {
		l.log.Add(func(b []byte) []byte { return l.appendCommit(b, output, messages, ids) })
		if l.err = l.log.Commit(); l.err != nil {
			return l.err
		}
	}
	for i, m := range messages {
		l.remember(ids[i])
		l.replay.mark(m)
		l.drop(l.hands[ids[i].id])
	}
	l.output = output
	if l.log != nil {
		l.log.Mark(func(b []byte) []byte { return l.appendCommit(b, l.output, nil, nil) }) // a commit of nothing
	}
	if l.log == nil || l.log.Length() < l.base+max(l.growth, l.base) && len(l.list) < maxLedgerEpochs {
		return nil
	}
	return l.rewrite()
}

// Rewrite writes the whole file again, with what Add has added.
func (l *Ledger) Rewrite(output Output) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return l.err
	}
	l.output = output
	if l.log == nil {
		return nil
	}
	return l.rewrite()
}

// rewrite replaces the file by one with the state alone. The caller holds mu, or nobody
// else knows the ledger yet.
func (l *Ledger) rewrite() (err error) {
	defer func() { l.err = err }()
	data := framelog.AppendFrame(nil, 0, 0, l.appendState)
	if len(data) > framelog.HeadBytes+framelog.MaxPayloadBytes {
		return fmt.Errorf("write %s: its state has %d bytes, which is more than a file holds", l.name, len(data))
	}
	if l.log != nil { // closed before, because some systems do not replace an open file
		err, l.log = l.log.Close(), nil
		if err != nil {
			return err
		}
	}
	if err := durable.WriteFile(l.cfg.FS, l.name, data, 0o600); err != nil {
		return fmt.Errorf("write %s: %w", l.name, err)
	}
	l.epochs, l.list = make(map[epochKey]uint32), nil
	log, err := framelog.Open(l.cfg.FS, l.name, false, func(int64, []byte) error { return nil })
	if err != nil {
		return err
	}
	l.log, l.base = log, log.Length()
	return nil
}

// remember takes an id in and forgets the oldest where there are too many.
func (l *Ledger) remember(k known) {
	if at, ok := l.known[k.id]; ok {
		l.ids[at].text = k.text
		return
	}
	if len(l.ids) < l.cfg.MaxIDs {
		l.known[k.id] = uint32(len(l.ids))
		l.ids = append(l.ids, k)
		return
	}
	oldest := &l.ids[l.head]
	delete(l.known, oldest.id)
	l.dropped = max(l.dropped, oldest.sealed)
	*oldest = k
	l.known[k.id] = uint32(l.head)
	l.head = (l.head + 1) % len(l.ids)
}

// Close gives the ledger up. What is committed is on stable storage already.
func (l *Ledger) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == errLedgerClosed {
		return nil
	}
	var err error
	if l.log != nil {
		if l.err == nil {
			err = l.log.Commit() // the mark
		}
		err = errors.Join(err, l.log.Close())
	}
	l.err = errLedgerClosed
	return errors.Join(err, l.unlock())
}
