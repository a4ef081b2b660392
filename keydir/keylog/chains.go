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
	stored  map[[32]byte]storedChain
	waiting map[[32]byte][]func(error) // being stored: who waits for it
	count   map[string]int             // by who stored them, those being stored included
}

type storedChain struct {
	chain []byte
	by    string
}

func newChains() chains {
	return chains{stored: make(map[[32]byte]storedChain), waiting: make(map[[32]byte][]func(error)), count: make(map[string]int)}
}

func (c *chains) len() int { return len(c.stored) + len(c.waiting) }

// PutChain stores the caller's certificates, laid out as an envelope carries them
// (docs/sealing.md, the JSON form), under their SHA-256. They must be the caller's: of its
// name and authority and valid now. Storing them again is a success without effect.
func (l *Log) PutChain(by sealmq.Identity, chain []byte, done func(sum [32]byte, err error)) {
	if err := l.checkChain(by, chain); err != nil {
		done([32]byte{}, err)
		return
	}
	sum, s := sha256.Sum256(chain), storedChain{slices.Clone(chain), by.ID}
	answer := func(err error) { done(sum, err) }
	c := &l.chains
	l.mu.Lock()
	_, there := c.stored[sum]
	waiting, busy := c.waiting[sum]
	var err error
	switch {
	case there:
	case busy:
		c.waiting[sum] = append(waiting, answer)
	case c.len() >= l.cfg.Limits.Chains:
		err = errLimit("certificate chains", l.cfg.Limits.Chains)
	case c.count[s.by] >= MaxChains:
		err = errLimit("certificate chains of one client", MaxChains)
	default:
		c.waiting[sum] = []func(error){answer}
		c.count[s.by]++
	}
	l.mu.Unlock()
	switch {
	case there || err != nil:
		answer(err)
	case !busy:
		l.cfg.Define([]Definition{defineChain(sum, s)}, func(err error) { l.keepChain(by, sum, s, err) })
	}
}

// keepChain takes the store's answer.
func (l *Log) keepChain(by sealmq.Identity, sum [32]byte, s storedChain, err error) {
	c := &l.chains
	l.mu.Lock()
	done := c.waiting[sum]
	delete(c.waiting, sum)
	if err == nil {
		c.stored[sum] = s
	} else if c.count[s.by]--; c.count[s.by] == 0 {
		delete(c.count, s.by)
	}
	l.mu.Unlock()
	if err == nil {
		l.cfg.Changed(by, StoreChain, by.ID, nil)
	}
	for _, f := range done {
		f(err)
	}
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
	if s, ok := l.chains.stored[sum]; ok {
		return s.chain, nil
	}
	return nil, &sealmq.Error{Code: sealmq.NoKey, Message: "no certificates are stored under this hash"}
}
