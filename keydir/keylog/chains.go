package keylog

import (
	"crypto/sha256"
	"slices"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/seal"
)

// MaxChains bounds the certificate chains that one identity can store. They are kept for
// ever, because a message that names one may be opened at any time; a certificate that is
// renewed every month fills this in five years.
const MaxChains = 64

// chains keeps senders' certificates by their hash, so that not every message has to carry
// them. A reader checks the hash, and whom to trust: nothing depends on the broker's word.
type chains struct {
	bySum map[[32]byte]*storedChain
	count map[clientOf]int // by who stored them
}

func (c *chains) add(sum [32]byte, s *storedChain) {
	c.bySum[sum] = s
	c.count[s.by]++
}

type storedChain struct {
	chain  []byte
	by     clientOf // older versions did not store the authority
	stored bool     // or under way
}

// reserve makes room for a chain, or returns the one that is there, and whether it is stored.
func (l *Log) reserve(sum [32]byte, s *storedChain) (_ *storedChain, stored bool, err error) {
	c := &l.chains
	l.mu.Lock()
	defer l.mu.Unlock()
	switch there := c.bySum[sum]; {
	case there != nil:
		return there, there.stored, nil
	case len(c.bySum) >= l.cfg.Limits.Chains:
		return nil, false, errLimit("certificate chains", l.cfg.Limits.Chains)
	case c.count[s.by] >= MaxChains:
		return nil, false, errLimit("certificate chains of one client", MaxChains)
	}
	c.add(sum, s)
	return s, false, nil
}

// PutChain stores the caller's certificates, laid out as an envelope carries them
// (docs/sealing.md, the JSON form), under their SHA-256. They must be the caller's: of its
// name and authority and valid now. Storing them again is a success without effect.
func (l *Log) PutChain(by sealmq.Identity, chain []byte, done func(sum [32]byte, err error)) {
	if err := l.checkChain(by, chain); err != nil {
		done([32]byte{}, err)
		return
	}
	sum, own := sha256.Sum256(chain), &storedChain{chain: slices.Clone(chain), by: clientOf{by.ID, by.Issuer}}
	s, stored, err := l.reserve(sum, own)
	if err != nil || stored {
		done(sum, err)
		return
	}
	// If it is under way already, storing it once more costs the wait for the same sync.
	l.cfg.Define([]Definition{defineChain(sum, s)}, func(err error) {
		l.mu.Lock()
		switch {
		case err == nil:
			if s.stored = true; l.chains.bySum[sum] == nil {
				l.chains.add(sum, s)
			}
		case s == own && !s.stored:
			delete(l.chains.bySum, sum)
			l.chains.count[s.by]--
		}
		l.mu.Unlock()
		if err == nil && s == own {
			l.cfg.Changed(by, StoreChain, by.ID, nil)
		}
		done(sum, err)
	})
}

func (l *Log) checkChain(by sealmq.Identity, chain []byte) error {
	if l.cfg.Verifier == nil {
		return errNoDirectory
	}
	if err := l.cfg.Allow(by, StoreChain, by.ID); err != nil {
		return err
	}
	certs, err := seal.ParseChain(chain)
	var owner seal.Sender
	if err == nil {
		owner, err = l.cfg.Verifier.Verify(certs, l.cfg.Now())
	}
	switch {
	case err != nil:
		return &sealmq.Error{Code: sealmq.BadArgument, Message: "the certificates are refused: " + err.Error()}
	case owner.ID != by.ID || owner.Issuer != by.Issuer:
		return &sealmq.Error{Code: sealmq.Denied, Message: "not allowed to store the certificates of another client"}
	}
	return nil
}

// Chain returns the certificates with a hash. The slice must not be changed.
func (l *Log) Chain(by sealmq.Identity, sum [32]byte) ([]byte, error) {
	if err := l.cfg.Allow(by, ReadKey, ""); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.chains.bySum[sum]; s != nil && s.stored {
		return s.chain, nil
	}
	return nil, &sealmq.Error{Code: sealmq.NoKey, Message: "no certificates are stored under this hash"}
}
