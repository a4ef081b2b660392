package receive

// SetGrowth makes a ledger's file be replaced after this many bytes.
func (l *Ledger) SetGrowth(n int64) { l.growth = n }

// DecodeLedger reads a ledger's payload as a start does.
func DecodeLedger(payload []byte) error {
	l := newLedger(LedgerConfig{MaxIDs: 8})
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
