package client

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/seal"
)

// Defaults of LedgerConfig.
const (
	// DefaultLedgerIDs is how many message ids a ledger remembers; they take about
	// 80 MiB of memory when there are as many.
	DefaultLedgerIDs = 1 << 20
	// ledgerGrowth is how much a ledger's file grows at least before it is made anew.
	ledgerGrowth = 8 << 20
)

// LedgerConfig bounds a ledger. The zero value means the defaults.
type LedgerConfig struct {
	// FS is where the file is (default: the operating system's).
	FS durable.FS
	// MaxIDs is how many message ids are remembered, the latest ones (default
	// DefaultLedgerIDs).
	MaxIDs int
	// Replay bounds what is remembered of senders and their epochs.
	Replay seal.ReplayConfig
}

// Output is how far an application has come with what it makes of the messages.
type Output struct {
	// Length is what a file that the messages go to may keep after a crash; what is
	// behind it is to be cut off. An application without a file leaves it 0.
	Length int64
	// Messages counts the messages in it.
	Messages uint64
}

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
// One process at a time can have a ledger open. Competing receivers that each have a ledger
// of their own see a message twice if one of them takes it and dies before its
// acknowledgement: the other's ledger does not know. It is safe for concurrent use.
type Ledger struct {
	name   string
	cfg    LedgerConfig
	unlock func() error

	mu     sync.Mutex
	log    *frameLog // nil in a ledger without a file
	base   int64     // size of the file when it was made anew last
	growth int64     // by how much it grows at least before it is made anew
	output Output
	known  map[idHash]textSum
	order  []idHash // a ring, oldest at head
	head   int
	// forgot says that an id was dropped, so that one that is not there may have been.
	forgot bool
	replay *seal.Replay
	epochs map[epochKey]uint32 // places in the file's list of epochs
	list   []*seal.Message     // of each of them, what a Replay needs to know
	err    error               // why it takes no commits any more
}

// idHash stands for a sender and a message id. It is wide enough that nobody can make two
// that share one.
type idHash [16]byte

// textSum stands for a text.
type textSum [8]byte

type known struct {
	id   idHash
	text textSum
}

type epochKey struct {
	issuer, sender string
	hash           [32]byte
}

func hashID(sender, id string) idHash {
	if sender != "" {
		id = sender + "\x00" + id
	}
	sum := sha256.Sum256([]byte(id))
	return idHash(sum[:16])
}

func sumText(text []byte) textSum {
	sum := sha256.Sum256(text)
	return textSum(sum[:8])
}

// OpenLedger opens or creates a ledger. A second Open of the same one fails with an
// error that wraps durable.ErrLocked, where the file system has locks; one that cannot be
// read fails with a *DamagedFileError and is not changed.
func OpenLedger(name string, cfg LedgerConfig) (*Ledger, error) {
	l := newLedger(cfg)
	l.name = name
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
func NewLedger(cfg LedgerConfig) *Ledger { return newLedger(cfg) }

func newLedger(cfg LedgerConfig) *Ledger {
	if cfg.FS == nil {
		cfg.FS = durable.OS()
	}
	if cfg.MaxIDs <= 0 {
		cfg.MaxIDs = DefaultLedgerIDs
	}
	l := &Ledger{cfg: cfg, growth: ledgerGrowth, unlock: func() error { return nil }}
	l.reset()
	return l
}

func (l *Ledger) reset() {
	l.known, l.order, l.head = make(map[idHash]textSum), nil, 0
	l.replay = seal.NewReplay(l.cfg.Replay)
	l.epochs, l.list = make(map[epochKey]uint32), nil
	l.output, l.forgot = Output{}, false
}

func (l *Ledger) open() error {
	log, err := openFrameLog(l.cfg.FS, l.name, false, func(offset int64, payload []byte) error {
		if offset == 0 {
			l.base = frameHeadBytes + int64(len(payload))
			return l.takeState(payload)
		}
		return l.takeCommit(payload)
	})
	if durable.IsNotExist(err) {
		return l.rewrite()
	}
	if errors.Is(err, errNoFrames) { // a state is never torn
		return &DamagedFileError{l.name, 0, "it does not begin with a state"}
	}
	l.log = log
	return err
}

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

// Gaps lists messages of known senders that were not seen; see seal.Replay.
func (l *Ledger) Gaps() []seal.Gap { return l.replay.Gaps() }

// Judge says whether a message was committed before. It remembers nothing.
func (l *Ledger) Judge(m *seal.Message) Judgement {
	l.mu.Lock()
	defer l.mu.Unlock()
	if known, ok := l.known[hashID(m.Sender.ID, m.ID)]; ok {
		if known == sumText(m.Text) {
			return LedgerSeen
		}
		return LedgerConflict
	}
	if !m.Proven() {
		return LedgerNew
	}
	switch l.replay.Check(m) {
	case seal.Fresh:
		return LedgerNew
	case seal.Conflict:
		return LedgerConflict
	case seal.Repeated:
		if l.forgot {
			return LedgerSeen
		}
		return LedgerConflict // its place was seen, its id was not
	}
	if l.forgot {
		return LedgerForgotten
	}
	return LedgerNew
}

// Add remembers a message that is in the output already, from before there was a ledger.
// It is durable with the next Commit.
func (l *Ledger) Add(sender, id string, text []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.remember(hashID(sender, id), sumText(text))
}

var errLedgerClosed = errors.New("the ledger is closed")

// Commit remembers messages and how far the output has come, in one step: after a crash
// the ledger knows all of it or nothing. What the output keeps must be on stable storage
// before; acknowledgements come after. After an error the ledger must be opened anew.
func (l *Ledger) Commit(output Output, messages ...*seal.Message) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return l.err
	}
	ids := make([]known, len(messages))
	for i, m := range messages {
		ids[i] = known{hashID(m.Sender.ID, m.ID), sumText(m.Text)}
	}
	if l.log != nil {
		l.log.add(func(b []byte) []byte { return l.appendCommit(b, output, messages, ids) })
		if l.err = l.log.commit(); l.err != nil {
			return l.err
		}
	}
	for i, m := range messages {
		l.remember(ids[i].id, ids[i].text)
		l.replay.Mark(m)
	}
	l.output = output
	if l.log == nil || l.log.size < l.base+max(l.growth, l.base) {
		return nil
	}
	return l.rewrite()
}

// Rewrite makes the file anew, with what Add has added.
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
	if l.log != nil { // closed before, because some systems do not replace an open file
		err, l.log = l.log.close(), nil
		if err != nil {
			return err
		}
	}
	data := appendFrame(nil, 0, 0, l.appendState)
	if err := durable.WriteFile(l.cfg.FS, l.name, data, 0o600); err != nil {
		return fmt.Errorf("write %s: %w", l.name, err)
	}
	l.epochs, l.list = make(map[epochKey]uint32), nil
	log, err := openFrameLog(l.cfg.FS, l.name, false, func(int64, []byte) error { return nil })
	if err != nil {
		return err
	}
	l.log, l.base = log, log.size
	return nil
}

// remember takes an id in and forgets the oldest where there are too many.
func (l *Ledger) remember(id idHash, sum textSum) {
	if _, ok := l.known[id]; ok {
		l.known[id] = sum
		return
	}
	l.known[id] = sum
	if len(l.order) < l.cfg.MaxIDs {
		l.order = append(l.order, id)
		return
	}
	delete(l.known, l.order[l.head])
	l.order[l.head] = id
	l.head = (l.head + 1) % len(l.order)
	l.forgot = true
}

// Close gives the ledger up. What is committed is on stable storage already.
func (l *Ledger) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == errLedgerClosed {
		return nil
	}
	l.err = errLedgerClosed
	var err error
	if l.log != nil {
		err = l.log.close()
	}
	return errors.Join(err, l.unlock())
}

// The payloads of a ledger's frames, integers big-endian. The first frame is a state, all
// others are commits.
//
//	state:  1  type, 1             commit:  1  type, 2
//	        1  version, 1                   8  length of the output
//	        8  length of the output         8  messages in it
//	        8  messages in it               4  epochs that are new in this file:
//	        1  1 if ids were forgotten      n+   issuer
//	        4  ids, oldest first:           n+   sender
//	       16    id                        32    hash
//	        8    text                       8    created, milliseconds
//	        *  state of the Replay         32    hash of the epoch before
//	                                        8    messages in that
//	                                        4  messages:
//	                                       16    id
//	                                        8    text
//	                                        4    place of the epoch in this file's list,
//	                                             from 1; 0 if it has none, and then no more
//	                                        8    sequence number
//	                                        8    beginning of the digest
const (
	ledgerState   = 1
	ledgerCommit  = 2
	ledgerVersion = 1
)

var errLedgerFormat = errors.New("it is not what a ledger holds there")

func timeOf(millis uint64) time.Time { return time.UnixMilli(int64(millis)) }

func (l *Ledger) appendState(b []byte) []byte {
	b = append(b, ledgerState, ledgerVersion)
	b = binary.BigEndian.AppendUint64(b, uint64(l.output.Length))
	b = binary.BigEndian.AppendUint64(b, l.output.Messages)
	forgot := byte(0)
	if l.forgot {
		forgot = 1
	}
	b = append(b, forgot)
	b = binary.BigEndian.AppendUint32(b, uint32(len(l.order)))
	for i := range l.order {
		id := l.order[(l.head+i)%len(l.order)]
		sum := l.known[id]
		b = append(append(b, id[:]...), sum[:]...)
	}
	b, err := l.replay.AppendBinary(b)
	if err != nil {
		panic(err) // there is nothing that could fail
	}
	return b
}

func (l *Ledger) takeState(payload []byte) error {
	f := &fields{b: payload}
	if f.byte() != ledgerState {
		return errLedgerFormat
	}
	if v := f.byte(); v > ledgerVersion {
		return errFutureFormat
	}
	output := Output{Length: int64(f.uint64()), Messages: f.uint64()}
	forgot := f.byte() == 1
	n := int(f.uint32())
	if f.bad || output.Length < 0 || n > len(f.b)/24 {
		return errLedgerFormat
	}
	l.reset()
	for range n {
		l.remember(idHash(f.bytes(16)), textSum(f.bytes(8)))
	}
	l.output, l.forgot = output, l.forgot || forgot
	return l.replay.UnmarshalBinary(f.b)
}

func (l *Ledger) appendCommit(b []byte, output Output, messages []*seal.Message, ids []known) []byte {
	b = append(b, ledgerCommit)
	b = binary.BigEndian.AppendUint64(b, uint64(output.Length))
	b = binary.BigEndian.AppendUint64(b, output.Messages)
	places := make([]uint32, len(messages))
	count, countAt := uint32(0), len(b)
	b = binary.BigEndian.AppendUint32(b, 0)
	for i, m := range messages {
		if !m.Proven() || m.Epoch == nil {
			continue
		}
		key := epochKey{m.Sender.Issuer, m.Sender.ID, m.Epoch.Hash}
		place, ok := l.epochs[key]
		if !ok {
			place = l.addEpoch(key, m)
			count++
			b = appendPrefixed(appendPrefixed(b, key.issuer), key.sender)
			b = append(b, key.hash[:]...)
			b = binary.BigEndian.AppendUint64(b, uint64(m.Epoch.Created.UnixMilli()))
			b = append(b, m.Epoch.Previous[:]...)
			b = binary.BigEndian.AppendUint64(b, m.Epoch.PreviousMessages)
		}
		places[i] = place
	}
	binary.BigEndian.PutUint32(b[countAt:], count)
	b = binary.BigEndian.AppendUint32(b, uint32(len(messages)))
	for i, m := range messages {
		b = append(append(b, ids[i].id[:]...), ids[i].text[:]...)
		b = binary.BigEndian.AppendUint32(b, places[i])
		if places[i] != 0 {
			b = binary.BigEndian.AppendUint64(b, m.Sequence)
			b = append(b, m.Digest[:8]...)
		}
	}
	return b
}

// addEpoch gives an epoch its place in the file's list.
func (l *Ledger) addEpoch(key epochKey, m *seal.Message) uint32 {
	of := &seal.Message{Suite: m.Suite, Epoch: m.Epoch}
	of.Sender.Issuer, of.Sender.ID = key.issuer, key.sender
	l.list = append(l.list, of)
	place := uint32(len(l.list))
	l.epochs[key] = place
	return place
}

func (l *Ledger) takeCommit(payload []byte) error {
	f := &fields{b: payload}
	if f.byte() != ledgerCommit {
		return errLedgerFormat
	}
	output := Output{Length: int64(f.uint64()), Messages: f.uint64()}
	for range f.uint32() {
		key := epochKey{issuer: string(f.prefixed()), sender: string(f.prefixed()), hash: f.hash()}
		epoch := &seal.Epoch{Hash: key.hash, Created: timeOf(f.uint64()), Previous: f.hash(), PreviousMessages: f.uint64()}
		if f.bad || key.sender == "" {
			return errLedgerFormat
		}
		l.addEpoch(key, &seal.Message{Epoch: epoch})
	}
	n := f.uint32()
	for range n {
		id, sum, place := f.bytes(16), f.bytes(8), f.uint32()
		if f.bad || place > uint32(len(l.list)) {
			return errLedgerFormat
		}
		if place > 0 {
			m := *l.list[place-1]
			m.Sequence = f.uint64()
			copy(m.Digest[:], f.bytes(8))
			if f.bad {
				return errLedgerFormat
			}
			l.replay.Mark(&m)
		}
		l.remember(idHash(id), textSum(sum))
	}
	if f.bad || len(f.b) > 0 || output.Length < 0 {
		return errLedgerFormat
	}
	l.output = output
	return nil
}
