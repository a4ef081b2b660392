package receive

import (
	"encoding/binary"
	"errors"
	"slices"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/framelog"
	"github.com/sealmq/sealmq/seal"
)

// The payloads of a ledger's frames, integers big-endian. The first frame is a state, all
// others are commits.
//
//	state:  1  type, 1             commit:  1  type, 2
//	        1  version, 2                   8  length of the output
//	        8  length of the output         8  messages in it
//	        8  messages in it               4  epochs that are new in this file:
//	        1  1 if there are ids of Add    n+   issuer
//	        8  dropped                      n+   sender
//	        4  ids, oldest first:          32    hash
//	       16    id                         8    created, milliseconds
//	        8    text                      32    hash of the epoch before
//	        8    sealed, milliseconds       8    messages in that
//	        *  state of the replay          4  messages:
//	                                       16    id
//	                                        8    text
//	                                        8    sealed, milliseconds
//	                                        4    place of the epoch in this file's list,
//	                                             from 1; 0 if it has none, and then no more
//	                                        8    sequence number
//	                                        8    beginning of the digest
const (
	ledgerState   = 1
	ledgerCommit  = 2
	ledgerVersion = 2
)

var errLedgerFormat = errors.New("it is not what a ledger holds there")

func (k known) append(b []byte) []byte {
	return binary.BigEndian.AppendUint64(append(append(b, k.id[:]...), k.text[:]...), uint64(k.sealed))
}

const knownBytes = 32

func takeKnown(f *framelog.Fields) (k known) {
	copy(k.id[:], f.Bytes(len(k.id)))
	copy(k.text[:], f.Bytes(len(k.text)))
	k.sealed = int64(f.Uint64())
	return k
}

// maxStateBytes is how long a state can become, if names have no more than
// sealmq.MaxNameBytes bytes.
func (l *Ledger) maxStateBytes() int {
	const head, names = 64, 2 * sealmq.MaxNameBytes
	return head + l.cfg.MaxIDs*knownBytes + l.cfg.Replay.maxStateBytes(names)
}

func (l *Ledger) appendState(b []byte) []byte {
	b = append(b, ledgerState, ledgerVersion)
	b = binary.BigEndian.AppendUint64(b, uint64(l.output.Length))
	b = binary.BigEndian.AppendUint64(b, l.output.Messages)
	learned := byte(0)
	if l.learned {
		learned = 1
	}
	b = binary.BigEndian.AppendUint64(append(b, learned), uint64(l.dropped))
	b = binary.BigEndian.AppendUint32(b, uint32(len(l.ids)))
	b = slices.Grow(b, len(l.ids)*knownBytes)
	for i := range l.ids {
		b = l.ids[(l.head+i)%len(l.ids)].append(b)
	}
	return l.replay.append(b)
}

func (l *Ledger) takeState(payload []byte) error {
	f := &framelog.Fields{Rest: payload}
	if f.Byte() != ledgerState {
		return errLedgerFormat
	}
	switch v := f.Byte(); {
	case v > ledgerVersion:
		return framelog.ErrFuture
	case v < ledgerVersion:
		return errLedgerFormat
	}
	output := Output{Length: int64(f.Uint64()), Messages: f.Uint64()}
	learned, dropped := f.Byte() == 1, int64(f.Uint64())
	n := int(f.Uint32())
	if f.Bad || output.Length < 0 || n > len(f.Rest)/knownBytes {
		return errLedgerFormat
	}
	l.reset()
	for range n {
		l.remember(takeKnown(f))
	}
	l.output, l.learned, l.dropped = output, learned, max(l.dropped, dropped)
	return l.replay.take(f.Rest)
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
			b = framelog.AppendPrefixed(framelog.AppendPrefixed(b, key.issuer), key.sender)
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
		b = ids[i].append(b)
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
	// Not the epoch itself: its extensions are the sender's, and large.
	of := &seal.Message{Epoch: &seal.Epoch{Hash: m.Epoch.Hash, Created: m.Epoch.Created,
		Previous: m.Epoch.Previous, PreviousMessages: m.Epoch.PreviousMessages}}
	of.Sender.Issuer, of.Sender.ID = key.issuer, key.sender
	l.list = append(l.list, of)
	place := uint32(len(l.list))
	l.epochs[key] = place
	return place
}

func (l *Ledger) takeCommit(payload []byte) error {
	f := &framelog.Fields{Rest: payload}
	if f.Byte() != ledgerCommit {
		return errLedgerFormat
	}
	output := Output{Length: int64(f.Uint64()), Messages: f.Uint64()}
	for range f.Uint32() {
		key := epochKey{issuer: string(f.Prefixed()), sender: string(f.Prefixed()), hash: f.Hash()}
		epoch := &seal.Epoch{Hash: key.hash, Created: f.Time(), Previous: f.Hash(), PreviousMessages: f.Uint64()}
		if f.Bad || key.sender == "" {
			return errLedgerFormat
		}
		l.addEpoch(key, &seal.Message{Epoch: epoch})
	}
	n := f.Uint32()
	for range n {
		k, place := takeKnown(f), f.Uint32()
		if f.Bad || place > uint32(len(l.list)) {
			return errLedgerFormat
		}
		if place > 0 {
			m := *l.list[place-1]
			m.Sequence = f.Uint64()
			copy(m.Digest[:], f.Bytes(8))
			if f.Bad {
				return errLedgerFormat
			}
			l.replay.mark(&m)
		}
		l.remember(k)
	}
	if f.Bad || len(f.Rest) > 0 || output.Length < 0 {
		return errLedgerFormat
	}
	l.output = output
	return nil
}
