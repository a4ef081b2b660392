package receive

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/sealmq/sealmq/seal"
)

// Defaults of ReplayConfig.
const (
	DefaultReplayEpochs    = 2048
	DefaultReplayPerSender = 512
	// DefaultReplayGaps is as many as an epoch of DefaultEpochMessages can have, so that a
	// receiver that shares its key with others forgets nothing for the numbers they got.
	DefaultReplayGaps    = seal.DefaultEpochMessages / 2
	DefaultReplayAllGaps = 1 << 18

	// replayMarks is how many of an epoch's latest messages are remembered with their
	// digest, and not by their number alone.
	replayMarks = 512
)

// ReplayConfig bounds what a ledger remembers of senders and their epochs. At its bounds that
// takes about 45 MiB.
type ReplayConfig struct {
	// MaxEpochs bounds the epochs that are remembered (default DefaultReplayEpochs).
	MaxEpochs int
	// MaxPerSender bounds those of one sender (default DefaultReplayPerSender), so that
	// nobody can make others be forgotten.
	MaxPerSender int
	// MaxGaps bounds the ranges of missing numbers in one epoch (default
	// DefaultReplayGaps).
	MaxGaps int
	// MaxAllGaps bounds those of all epochs together (default DefaultReplayAllGaps). At
	// the bound, the sender with the most gaps loses the gaps of its oldest epoch.
	MaxAllGaps int
}

// Gap is a range of numbers that were not seen, both ends included.
type Gap struct {
	// Sender is the sender's name, Issuer its authority.
	Sender, Issuer string
	// Epoch names the epoch. From and To are numbers in it.
	Epoch    [32]byte
	From, To uint64
}

// replay remembers which messages were seen, by sender, epoch and number. Its size is
// bounded; what it had to forget it calls LedgerForgotten, never LedgerNew. The ledger's mutex
// guards it.
type replay struct {
	cfg     ReplayConfig
	senders map[senderKey]*seenSender
	epochs  int   // of all senders
	gaps    int   // ranges of missing numbers, of all senders
	floor   int64 // an unknown epoch that began then or before may have been forgotten
}

type senderKey struct{ issuer, id string }

type seenSender struct {
	floor  int64 // as replay.floor, for this sender
	gaps   int   // ranges of missing numbers, of all epochs
	epochs map[[32]byte]*seenEpoch
}

type seenEpoch struct {
	created       int64
	previous      [32]byte
	previousCount uint64
	count         uint64 // as the next epoch says; 0 if that is not known
	high          uint64 // the highest number that was seen
	forgotten     uint64 // of numbers up to this it is not known which were seen
	gaps          []span // numbers between forgotten and high that were not seen, ascending
	marks         []mark // by number modulo replayMarks
}

type span struct{ from, to uint64 }

type mark struct{ seq, digest uint64 }

func (c ReplayConfig) withDefaults() ReplayConfig {
	return ReplayConfig{
		MaxEpochs:    cmp.Or(max(c.MaxEpochs, 0), DefaultReplayEpochs),
		MaxPerSender: cmp.Or(max(c.MaxPerSender, 0), DefaultReplayPerSender),
		MaxGaps:      cmp.Or(max(c.MaxGaps, 0), DefaultReplayGaps),
		MaxAllGaps:   cmp.Or(max(c.MaxAllGaps, 0), DefaultReplayAllGaps),
	}
}

func newReplay(cfg ReplayConfig) *replay {
	return &replay{cfg: cfg.withDefaults(), senders: make(map[senderKey]*seenSender)}
}

// mark remembers a message that is new.
func (r *replay) mark(m *seal.Message) {
	if r.judge(m) != LedgerNew {
		return
	}
	key := senderKey{m.Sender.Issuer, m.Sender.ID}
	s := r.senders[key]
	if s == nil {
		s = &seenSender{epochs: make(map[[32]byte]*seenEpoch)}
		r.senders[key] = s
	}
	e := s.epochs[m.Epoch.Hash]
	if e == nil {
		e = s.begin(m.Epoch)
		r.epochs++
	}
	before := len(e.gaps)
	e.record(m.Sequence, digestOfMark(m), r.cfg.MaxGaps)
	s.gaps += len(e.gaps) - before
	r.gaps += len(e.gaps) - before
	r.shrink(key, s)
}

func digestOfMark(m *seal.Message) uint64 { return binary.BigEndian.Uint64(m.Digest[:]) }

// judge says LedgerForgotten of messages of CipherMQ's suites: they have no number.
func (r *replay) judge(m *seal.Message) Judgement {
	if !m.Proven() || m.Epoch == nil {
		return LedgerForgotten
	}
	floor := r.floor
	if s := r.senders[senderKey{m.Sender.Issuer, m.Sender.ID}]; s != nil {
		if e := s.epochs[m.Epoch.Hash]; e != nil {
			return e.judge(m.Sequence, digestOfMark(m))
		}
		floor = max(floor, s.floor)
	}
	if m.Epoch.Created.UnixMilli() <= floor {
		return LedgerForgotten
	}
	return LedgerNew
}

func (e *seenEpoch) judge(seq, digest uint64) Judgement {
	if seq > e.high {
		return LedgerNew
	}
	if seq <= e.forgotten {
		return LedgerForgotten
	}
	if _, missing := e.find(seq); missing {
		return LedgerNew
	}
	if i := int(seq % replayMarks); i < len(e.marks) && e.marks[i].seq == seq && e.marks[i].digest != digest {
		return LedgerConflict
	}
	return LedgerSeen
}

// find returns the place of a number among the gaps, and whether it is in one.
func (e *seenEpoch) find(seq uint64) (int, bool) {
	return slices.BinarySearchFunc(e.gaps, seq, func(g span, seq uint64) int {
		if g.from > seq {
			return 1
		}
		return min(0, cmp.Compare(g.to, seq))
	})
}

// record takes in a fresh number.
func (e *seenEpoch) record(seq, digest uint64, maxGaps int) {
	if seq > e.high {
		if seq > e.high+1 {
			e.gaps = append(e.gaps, span{e.high + 1, seq - 1})
		}
		e.high = seq
	} else if i, ok := e.find(seq); ok {
		g := e.gaps[i]
		var rest []span
		if g.from < seq {
			rest = append(rest, span{g.from, seq - 1})
		}
		if seq < g.to {
			rest = append(rest, span{seq + 1, g.to})
		}
		e.gaps = slices.Replace(e.gaps, i, i+1, rest...)
	}
	e.limitGaps(maxGaps)
	i := int(seq % replayMarks)
	for len(e.marks) <= i {
		e.marks = append(e.marks, mark{})
	}
	if e.marks[i].seq < seq {
		e.marks[i] = mark{seq, digest}
	}
}

// limitGaps forgets the oldest gaps. It moves none of those that stay: at the bound it is
// called for every message.
func (e *seenEpoch) limitGaps(most int) {
	if over := len(e.gaps) - most; over > 0 {
		e.forgotten = e.gaps[over-1].to
		e.gaps = e.gaps[over:]
	}
}

// begin adds an epoch and links it with its neighbours.
func (s *seenSender) begin(of *seal.Epoch) *seenEpoch {
	e := &seenEpoch{created: of.Created.UnixMilli(), previous: of.Previous, previousCount: of.PreviousMessages}
	for _, other := range s.epochs {
		if other.previous == of.Hash {
			e.count = other.previousCount
		}
	}
	if before := s.epochs[of.Previous]; before != nil {
		before.count = of.PreviousMessages
	}
	s.epochs[of.Hash] = e
	return e
}

// shrink forgets epochs until the bounds hold. s is who had one added.
func (r *replay) shrink(key senderKey, s *seenSender) {
	for len(s.epochs) > r.cfg.MaxPerSender {
		r.forget(key, s)
	}
	for r.epochs > r.cfg.MaxEpochs {
		var most senderKey
		n := 0
		for k, s := range r.senders {
			if len(s.epochs) > n || len(s.epochs) == n && s.begun() < r.senders[most].begun() {
				most, n = k, len(s.epochs)
			}
		}
		r.forget(most, r.senders[most])
	}
	for r.gaps > r.cfg.MaxAllGaps {
		r.forgetGaps()
	}
}

// forgetGaps drops the gaps of one epoch, the oldest with any of the sender with the most.
func (r *replay) forgetGaps() {
	var most *seenSender
	var who senderKey
	for k, s := range r.senders {
		if most == nil || s.gaps > most.gaps || s.gaps == most.gaps && k.compare(who) < 0 {
			most, who = s, k
		}
	}
	_, e := most.oldest(func(e *seenEpoch) bool { return len(e.gaps) > 0 })
	most.gaps -= len(e.gaps)
	r.gaps -= len(e.gaps)
	e.limitGaps(0)
	e.gaps = nil
}

// begun is when the oldest epoch began.
func (s *seenSender) begun() int64 {
	_, e := s.oldest(anyEpoch)
	return e.created
}

func anyEpoch(*seenEpoch) bool { return true }

// oldest is the first of the epochs that are wanted.
func (s *seenSender) oldest(want func(*seenEpoch) bool) (hash [32]byte, oldest *seenEpoch) {
	for h, e := range s.epochs {
		if !want(e) {
			continue
		}
		if oldest == nil || e.created < oldest.created || e.created == oldest.created && bytes.Compare(h[:], hash[:]) < 0 {
			hash, oldest = h, e
		}
	}
	return hash, oldest
}

// forget drops a sender's oldest epoch, and with the last one the sender.
func (r *replay) forget(key senderKey, s *seenSender) {
	hash, e := s.oldest(anyEpoch)
	delete(s.epochs, hash)
	r.epochs--
	s.gaps -= len(e.gaps)
	r.gaps -= len(e.gaps)
	s.floor = max(s.floor, e.created)
	if len(s.epochs) == 0 {
		r.floor = max(r.floor, s.floor)
		delete(r.senders, key)
	}
}

// missing lists the gaps; see Ledger.Gaps.
func (r *replay) missing() []Gap {
	var all []Gap
	for key, s := range r.senders {
		for hash, e := range s.epochs {
			g := Gap{Sender: key.id, Issuer: key.issuer, Epoch: hash}
			for _, missing := range e.gaps {
				g.From, g.To = missing.from, missing.to
				all = append(all, g)
			}
			if e.count > e.high {
				g.From, g.To = e.high+1, e.count
				all = append(all, g)
			}
			if e.previousCount > 0 && s.epochs[e.previous] == nil && s.begun() < e.created {
				g.Epoch, g.From, g.To = e.previous, 1, e.previousCount
				all = append(all, g)
			}
		}
	}
	slices.SortFunc(all, func(a, b Gap) int {
		return cmp.Or(cmp.Compare(a.Sender, b.Sender), cmp.Compare(a.Issuer, b.Issuer), bytes.Compare(a.Epoch[:], b.Epoch[:]), cmp.Compare(a.From, b.From))
	})
	return all
}
