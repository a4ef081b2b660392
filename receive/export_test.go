package receive

import "github.com/sealmq/sealmq/seal"

// SetGrowth makes a ledger's file be replaced after this many bytes.
func (l *Ledger) SetGrowth(n int64) { l.growth = n }

// DecodeLedger reads a ledger's payload as a start does.
func DecodeLedger(payload []byte) error {
	l := NewLedger(LedgerConfig{MaxIDs: 8})
	err := l.takeState(payload)
	if err != nil {
		err = l.takeCommit(payload)
	}
	return err
}

// MaxLedgerEpochs is maxLedgerEpochs.
const MaxLedgerEpochs = maxLedgerEpochs

// Epochs is how many epochs a ledger's file lists.
func (l *Ledger) Epochs() int { return len(l.list) }

// Replay is the part of a ledger that knows senders and their epochs.
type Replay struct{ r *replay }

func NewReplay(cfg ReplayConfig) *Replay { return &Replay{newReplay(cfg)} }

func (r *Replay) Check(m *seal.Message) Judgement { return r.r.judge(m) }

// Mark returns what the message was before it was marked.
func (r *Replay) Mark(m *seal.Message) Judgement {
	j := r.r.judge(m)
	r.r.mark(m)
	return j
}

func (r *Replay) Gaps() []Gap                       { return r.r.missing() }
func (r *Replay) MarshalBinary() ([]byte, error)    { return r.r.append(nil), nil }
func (r *Replay) UnmarshalBinary(data []byte) error { return r.r.take(data) }

// MaxStateBytes is maxStateBytes.
func (c ReplayConfig) MaxStateBytes(nameBytes int) int { return c.maxStateBytes(nameBytes) }
