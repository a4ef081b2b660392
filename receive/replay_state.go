package receive

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"maps"
	"slices"

	"github.com/sealmq/sealmq/internal/framelog"
	"github.com/sealmq/sealmq/seal"
)

// The state of a replay as bytes, integers big-endian:
//
//	  1  version, 1
//	  8  floor, milliseconds
//	  4  senders, by issuer and name, and for each
//	2+n    issuer
//	2+n    name
//	  8    floor
//	  4    epochs, by hash, and for each
//	 32      hash
//	  8      created, milliseconds
//	 32      hash of the epoch before
//	  8      messages in that
//	  8      messages in this, 0 if not known
//	  8      highest number seen
//	  8      numbers up to this are forgotten
//	  4      gaps, ascending: from (8), to (8)
//	  4      marks, ascending: number (8), digest (8)
const replayVersion = 1

const maxMillis = 253402300799999 // the end of the year 9999

// append appends the state to dst. Equal states give equal bytes.
func (r *replay) append(dst []byte) []byte {
	dst = append(dst, replayVersion)
	dst = binary.BigEndian.AppendUint64(dst, uint64(r.floor))
	keys := slices.SortedFunc(maps.Keys(r.senders), senderKey.compare)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(keys)))
	for _, k := range keys {
		s := r.senders[k]
		dst = framelog.AppendPrefixed(dst, k.issuer)
		dst = framelog.AppendPrefixed(dst, k.id)
		dst = binary.BigEndian.AppendUint64(dst, uint64(s.floor))
		hashes := slices.SortedFunc(maps.Keys(s.epochs), func(a, b [32]byte) int { return bytes.Compare(a[:], b[:]) })
		dst = binary.BigEndian.AppendUint32(dst, uint32(len(hashes)))
		for _, h := range hashes {
			dst = s.epochs[h].append(append(dst, h[:]...))
		}
	}
	return dst
}

// maxStateBytes is how long the state of a replay with these bounds can become, if the names
// of a sender and of its authority have no more than nameBytes bytes together.
func (c ReplayConfig) maxStateBytes(nameBytes int) int {
	const head, perSender, perEpoch = 1 + 8 + 4, 2 + 2 + 8 + 4, 32 + 8 + 32 + 4*8 + 4 + 4 + 16*replayMarks
	c = c.withDefaults()
	return head + c.MaxEpochs*(perSender+nameBytes+perEpoch) + 16*c.MaxAllGaps
}

func (k senderKey) compare(other senderKey) int {
	return cmp.Or(cmp.Compare(k.issuer, other.issuer), cmp.Compare(k.id, other.id))
}

func (e *seenEpoch) append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint64(dst, uint64(e.created))
	dst = append(dst, e.previous[:]...)
	for _, n := range []uint64{e.previousCount, e.count, e.high, e.forgotten} {
		dst = binary.BigEndian.AppendUint64(dst, n)
	}
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(e.gaps)))
	for _, g := range e.gaps {
		dst = binary.BigEndian.AppendUint64(dst, g.from)
		dst = binary.BigEndian.AppendUint64(dst, g.to)
	}
	marks := slices.DeleteFunc(slices.Clone(e.marks), func(m mark) bool { return m.seq == 0 })
	slices.SortFunc(marks, func(a, b mark) int { return cmp.Compare(a.seq, b.seq) })
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(marks)))
	for _, m := range marks {
		dst = binary.BigEndian.AppendUint64(dst, m.seq)
		dst = binary.BigEndian.AppendUint64(dst, m.digest)
	}
	return dst
}

var errReplayState = errors.New("the replay state is damaged, or of a later SealMQ")

// take replaces the state by one that append wrote. If it is larger than the bounds of this
// replay, the oldest epochs and gaps are forgotten. On an error nothing changes.
func (r *replay) take(data []byte) error {
	in := &framelog.Fields{Rest: data}
	version, floor, n := in.Byte(), in.Uint64(), in.Uint32()
	if in.Bad || version != replayVersion || floor > maxMillis {
		return errReplayState
	}
	senders := make(map[senderKey]*seenSender)
	epochs := 0
	var last senderKey
	for i := range n {
		key, s, err := readSender(in)
		if err != nil {
			return err
		}
		if i > 0 && last.compare(key) >= 0 {
			return errReplayState
		}
		last, senders[key] = key, s
		epochs += len(s.epochs)
	}
	if len(in.Rest) > 0 {
		return errReplayState
	}
	r.senders, r.epochs, r.gaps, r.floor = senders, epochs, 0, int64(floor)
	for key, s := range senders {
		for _, e := range s.epochs {
			e.limitGaps(r.cfg.MaxGaps)
			s.gaps += len(e.gaps)
		}
		r.gaps += s.gaps
		for len(s.epochs) > r.cfg.MaxPerSender {
			r.forget(key, s)
		}
	}
	r.shrink(senderKey{}, &seenSender{})
	return nil
}

func readSender(in *framelog.Fields) (key senderKey, s *seenSender, err error) {
	key = senderKey{string(in.Prefixed()), string(in.Prefixed())}
	floor, n := in.Uint64(), in.Uint32()
	if in.Bad || floor > maxMillis || n == 0 {
		return key, nil, errReplayState
	}
	s = &seenSender{floor: int64(floor), epochs: make(map[[32]byte]*seenEpoch)}
	var last [32]byte
	for i := range n {
		hash := in.Hash()
		if in.Bad || i > 0 && bytes.Compare(last[:], hash[:]) >= 0 {
			return key, nil, errReplayState
		}
		last = hash
		if s.epochs[hash], err = readEpoch(in); err != nil {
			return key, nil, err
		}
	}
	return key, s, nil
}

func readEpoch(in *framelog.Fields) (*seenEpoch, error) {
	created := in.Uint64()
	e := &seenEpoch{created: int64(created), previous: in.Hash()}
	for _, n := range []*uint64{&e.previousCount, &e.count, &e.high, &e.forgotten} {
		if *n = in.Uint64(); *n > seal.MaxEpochMessages {
			return nil, errReplayState
		}
	}
	if in.Bad || created > maxMillis || e.forgotten > e.high || e.high == 0 {
		return nil, errReplayState
	}
	if err := e.readGaps(in); err != nil {
		return nil, err
	}
	return e, e.readMarks(in)
}

func (e *seenEpoch) readGaps(in *framelog.Fields) error {
	n := in.Uint32()
	if in.Bad || uint64(n)*16 > uint64(len(in.Rest)) {
		return errReplayState
	}
	last := e.forgotten
	for range n {
		from, to := in.Uint64(), in.Uint64()
		// Two gaps that touch would be one.
		if from <= last || len(e.gaps) > 0 && from == last+1 || to < from || to >= e.high {
			return errReplayState
		}
		e.gaps = append(e.gaps, span{from, to})
		last = to
	}
	return nil
}

func (e *seenEpoch) readMarks(in *framelog.Fields) error {
	n := in.Uint32()
	if in.Bad || n > replayMarks || uint64(n)*16 > uint64(len(in.Rest)) {
		return errReplayState
	}
	last := uint64(0)
	for range n {
		seq, digest := in.Uint64(), in.Uint64()
		i := int(seq % replayMarks)
		if seq <= last || seq > e.high || i < len(e.marks) && e.marks[i].seq != 0 {
			return errReplayState
		}
		for len(e.marks) <= i {
			e.marks = append(e.marks, mark{})
		}
		e.marks[i], last = mark{seq, digest}, seq
	}
	return nil
}
