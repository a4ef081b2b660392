package client

import (
	"context"
	"time"

	"github.com/sealmq/sealmq/keydir"
)

// SetGrowth makes a ledger's file be made anew after so many bytes.
func (l *Ledger) SetGrowth(n int64) { l.growth = n }

// DecodeSpool reads a spool's payload as a start does.
func DecodeSpool(payload []byte) error {
	s := &Spool{}
	_, err := s.take(&spoolFile{}, 0, payload)
	return err
}

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

// FindChain finds senders' certificates as a Receiver does.
func FindChain(c *Client, pause time.Duration) func(context.Context, [32]byte) ([]byte, error) {
	return keydir.NewChains(c, pause, c.cfg.Now).Find
}
