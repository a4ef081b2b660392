package keydir

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"sync"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/seal"
)

// Chains keeps messages small: a sender's certificates are half of an envelope and the
// same in each, so the broker keeps them and envelopes name them by their hash. Nothing
// rests on the broker's word: the hash is signed, and certificates are judged as if they
// had come in the envelope. It is safe for concurrent use.
type Chains struct {
	c   Asker
	now func() time.Time

	// pause is for how long what was not found is not asked for again.
	pause time.Duration

	mu     sync.Mutex
	known  map[[32]byte][]byte // found or stored; nil if the broker does not keep it
	failed map[[32]byte]failure
	asked  map[[32]byte]*chainQuery
}

// failure is why certificates were not found.
type failure struct {
	err   error
	until time.Time
}

// chainQuery is one that the broker has not answered yet.
type chainQuery struct {
	over  chan struct{} // closed with the answer
	chain []byte
	err   error
}

const (
	// maxKnownChains bounds what is remembered, about 1.5 KiB each.
	maxKnownChains = 1024
	// chainTimeout bounds the wait for certificates.
	chainTimeout = 10 * time.Second
)

// NewChains makes a memory of certificates that the broker of c keeps. What it did not have
// is asked for again after a pause. now is the time of day.
func NewChains(c Asker, pause time.Duration, now func() time.Time) *Chains {
	return &Chains{c: c, pause: pause, now: now, known: make(map[[32]byte][]byte), failed: make(map[[32]byte]failure), asked: make(map[[32]byte]*chainQuery)}
}

// Store puts a sender's certificates where receivers find them and reports whether they
// are there. If not, because the broker cannot or will not keep them, envelopes must carry
// them.
func (k *Chains) Store(ctx context.Context, s *seal.Signer) bool {
	chain, sum := s.Chain()
	k.mu.Lock()
	known, there := k.known[sum]
	k.mu.Unlock()
	if there {
		return known != nil
	}
	reply, err := k.c.Command(ctx, "put_chain "+base64.StdEncoding.EncodeToString(chain))
	stored := err == nil && reply == "Chain stored "+hex.EncodeToString(sum[:])
	if err != nil && !definite(err) {
		return false // asked again at the next epoch
	}
	if !stored {
		chain = nil
	}
	k.remember(sum, chain)
	return stored
}

// Find returns the certificates with a hash. It is what seal.OpenerConfig.Chain wants. Many
// may ask for the same ones; the broker is asked once at a time, and not at all for a
// pause after it did not have them.
func (k *Chains) Find(ctx context.Context, sum [32]byte) ([]byte, error) {
	k.mu.Lock()
	if chain := k.known[sum]; chain != nil {
		k.mu.Unlock()
		return chain, nil
	}
	if f, ok := k.failed[sum]; ok {
		if left := f.until.Sub(k.now()); left > 0 && left <= k.pause {
			k.mu.Unlock()
			return nil, f.err
		}
		delete(k.failed, sum)
	}
	if err := ctx.Err(); err != nil {
		k.mu.Unlock()
		return nil, err
	}
	q := k.asked[sum]
	if q == nil {
		q = &chainQuery{over: make(chan struct{})}
		k.asked[sum] = q
		k.mu.Unlock()
		k.answer(ctx, sum, q)
		return q.chain, q.err
	}
	k.mu.Unlock()
	select {
	case <-q.over:
		return q.chain, q.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// answer answers a question and lets those know who wait for it.
func (k *Chains) answer(ctx context.Context, sum [32]byte, q *chainQuery) {
	q.chain, q.err = k.ask(ctx, sum)
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.asked, sum)
	switch {
	case q.err == nil:
		k.put(sum, q.chain)
	case ctx.Err() == nil: // else it says nothing about the certificates
		if len(k.failed) >= maxKnownChains {
			clear(k.failed)
		}
		k.failed[sum] = failure{q.err, k.now().Add(k.pause)}
	}
	close(q.over)
}

func (k *Chains) ask(ctx context.Context, sum [32]byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, chainTimeout)
	defer cancel()
	encoded, err := ask(ctx, k.c, "find_chain "+hex.EncodeToString(sum[:]), "Chain: ")
	if err != nil {
		return nil, err
	}
	chain, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil || sha256.Sum256(chain) != sum {
		return nil, fmt.Errorf("the broker answered with other certificates than those that were asked for")
	}
	return chain, nil
}

func (k *Chains) remember(sum [32]byte, chain []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.put(sum, chain)
}

// put remembers an answer. The caller holds mu.
func (k *Chains) put(sum [32]byte, chain []byte) {
	if len(k.known) >= maxKnownChains {
		clear(k.known) // so many senders are rare, and each is found again
	}
	k.known[sum] = chain
}

// definite reports whether the broker would refuse the same command again.
func definite(err error) bool {
	code := sealmq.CodeOf(err)
	return code != "" && !code.Info().Retry
}
