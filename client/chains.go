package client

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/sealmq/sealmq/seal"
)

// chains keeps messages small: a sender's certificates are half of an envelope and the
// same in each, so the broker keeps them and envelopes name them by their hash. Nothing
// rests on the broker's word: the hash is signed, and certificates are judged as if they
// had come in the envelope. It is safe for concurrent use.
type chains struct {
	c *Client

	mu    sync.Mutex
	known map[[32]byte][]byte // found or stored; nil if the broker does not keep it
}

const (
	// maxKnownChains bounds what is remembered, about 1.5 KiB each.
	maxKnownChains = 1024
	// chainTimeout bounds the wait for certificates.
	chainTimeout = 10 * time.Second
)

func newChains(c *Client) *chains {
	return &chains{c: c, known: make(map[[32]byte][]byte)}
}

// store puts a sender's certificates where receivers find them and reports whether they
// are there. If not, because the broker cannot or will not keep them, envelopes must carry
// them.
func (k *chains) store(ctx context.Context, s *seal.Signer) bool {
	chain, sum := s.Chain()
	k.mu.Lock()
	known, there := k.known[sum]
	k.mu.Unlock()
	if there {
		return known != nil
	}
	reply, err := k.c.Command(ctx, "put_chain "+base64.StdEncoding.EncodeToString(chain))
	stored := err == nil && reply == "Chain stored "+hex.EncodeToString(sum[:])
	if err != nil && !permanent(err) {
		return false // asked again at the next epoch
	}
	if !stored {
		chain = nil
	}
	k.remember(sum, chain)
	return stored
}

// find returns the certificates with a hash. It is what seal.OpenerConfig.Chain wants.
func (k *chains) find(sum [32]byte) ([]byte, error) {
	k.mu.Lock()
	chain := k.known[sum]
	k.mu.Unlock()
	if chain != nil {
		return chain, nil
	}
	ctx, cancel := context.WithTimeout(k.c.life, chainTimeout)
	defer cancel()
	reply, err := k.c.Command(ctx, "find_chain "+hex.EncodeToString(sum[:]))
	if err != nil {
		return nil, err
	}
	encoded, ok := strings.CutPrefix(reply, "Chain: ")
	if !ok {
		return nil, fmt.Errorf("the broker answered find_chain with %q", firstWord([]byte(reply)))
	}
	chain, err = base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil || sha256.Sum256(chain) != sum {
		return nil, fmt.Errorf("the broker answered with other certificates than those that were asked for")
	}
	k.remember(sum, chain)
	return chain, nil
}

func (k *chains) remember(sum [32]byte, chain []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.known) >= maxKnownChains {
		clear(k.known) // so many senders are rare, and each is found again
	}
	k.known[sum] = chain
}
