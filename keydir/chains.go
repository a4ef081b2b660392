package keydir

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/seal"
)

// Chains keeps messages small: a sender's certificates are half of an envelope and the
// same in each, so the broker keeps them and envelopes name them by their hash. Nothing
// rests on the broker's word: the hash is signed, and certificates are judged as if they
// had come in the envelope. It is safe for concurrent use.
type Chains struct {
	c     Asker
	pause time.Duration
	now   func() time.Time

	asking singleflight.Group // by the hash
	mu     sync.Mutex
	known  map[[32]byte][]byte // nil: the broker does not keep them
	failed map[[32]byte]failure
}

// failure is why certificates were not found, and when the broker is asked again.
type failure struct {
	err   error
	until time.Time
}

const (
	// maxKnownChains bounds what is remembered, about 1.5 KiB each.
	maxKnownChains = 1024
	// maxFailedChains bounds the failures that are remembered. Senders choose the hashes, so
	// these must not push out what was found.
	maxFailedChains = 8192
	// chainTimeout bounds the wait for certificates.
	chainTimeout = 10 * time.Second
)

// NewChains makes a memory of certificates that the broker of c keeps. What it did not have
// is asked for again after a pause. now is the time of day.
func NewChains(c Asker, pause time.Duration, now func() time.Time) *Chains {
	return &Chains{c: c, pause: pause, now: now, known: make(map[[32]byte][]byte), failed: make(map[[32]byte]failure)}
}

// Store puts a sender's certificates where receivers find them and reports whether they
// are there. If not, because the broker cannot or will not keep them, envelopes must carry
// them.
func (k *Chains) Store(ctx context.Context, s *seal.Signer) bool {
	certs, sum := s.Chain()
	k.mu.Lock()
	known, ok := k.known[sum]
	k.mu.Unlock()
	if ok {
		return known != nil
	}
	reply, err := k.c.Command(ctx, "put_chain "+base64.StdEncoding.EncodeToString(certs))
	if code := sealmq.CodeOf(err); err != nil && (code == "" || code.Info().Retry) {
		return false // asked again at the next epoch
	}
	stored := err == nil && reply == "Chain stored "+hex.EncodeToString(sum[:])
	if !stored {
		certs = nil
	}
	k.put(sum, certs, nil)
	return stored
}

// put remembers what is known.
func (k *Chains) put(sum [32]byte, certs []byte, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err != nil {
		if len(k.failed) >= maxFailedChains {
			clear(k.failed) // they are asked for again
		}
		k.failed[sum] = failure{err, k.now().Add(k.pause)}
		return
	}
	if len(k.known) >= maxKnownChains {
		clear(k.known) // that many senders are rare, and each is found again
	}
	k.known[sum] = certs
	delete(k.failed, sum)
}

// Find returns the certificates with a hash. Many may ask for the same ones; the broker is
// asked once at a time, and not at all for a pause after it did not have them. An error that
// wraps seal.ErrNoCertificates says that the broker has none with this hash; any other error
// decides nothing.
func (k *Chains) Find(ctx context.Context, sum [32]byte) ([]byte, error) {
	if certs, err, ok := k.Known(sum); ok {
		return certs, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	answer := k.asking.DoChan(string(sum[:]), func() (any, error) {
		if certs, err, ok := k.Known(sum); ok { // somebody else's question has ended in between
			return certs, err
		}
		certs, err := k.ask(ctx, sum)
		if ctx.Err() == nil { // else it says nothing about the certificates
			k.put(sum, certs, err)
		}
		return certs, err
	})
	select {
	case a := <-answer:
		certs, _ := a.Val.([]byte)
		return certs, a.Err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Known returns what Find would return without asking the broker. ok is false if it would ask.
func (k *Chains) Known(sum [32]byte) (certs []byte, err error, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if certs = k.known[sum]; certs != nil {
		return certs, nil, true
	}
	f, ok := k.failed[sum]
	left := f.until.Sub(k.now())
	return nil, f.err, ok && left > 0 && left <= k.pause
}

func (k *Chains) ask(ctx context.Context, sum [32]byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, chainTimeout)
	defer cancel()
	encoded, err := ask(ctx, k.c, "find_chain "+hex.EncodeToString(sum[:]), "Chain: ")
	switch code := sealmq.CodeOf(err); {
	case code == sealmq.NoKey, code == sealmq.Unsupported: // a broker without a directory has none of anybody
		return nil, fmt.Errorf("%w: %w", seal.ErrNoCertificates, err)
	case err != nil:
		return nil, err
	}
	certs, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil || sha256.Sum256(certs) != sum {
		return nil, errors.New("the broker answered with other certificates than those that were asked for")
	}
	return certs, nil
}
