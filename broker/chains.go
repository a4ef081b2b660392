package broker

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"sync"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
	"github.com/sealmq/sealmq/seal"
)

// MaxChains bounds the certificate chains that one identity can store. They are kept for
// ever, because a message that names one may be opened at any time; a certificate that is
// renewed every month fills this in five years.
const MaxChains = 64

// chains keeps senders' certificates by their hash, so that not every message has to
// carry them. Whoever reads one checks the hash and whom to trust by himself: nothing
// depends on the broker's word.
type chains struct {
	mu    sync.Mutex // a leaf; done functions take it
	bySum map[[32]byte]storedChain
	count map[string]int // by who stored it
}

type storedChain struct {
	chain []byte
	by    string
}

func newChains(list map[[32]byte]storedChain) *chains {
	c := &chains{bySum: list, count: make(map[string]int)}
	for _, s := range list {
		c.count[s.by]++
	}
	return c
}

// reserve makes room for a chain, or reports that it is there.
func (c *chains) reserve(sum [32]byte, s storedChain, most int) (there bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch _, there := c.bySum[sum]; {
	case there:
		return true, nil
	case len(c.bySum) >= most:
		return false, errLimit("certificate chains", most)
	case c.count[s.by] >= MaxChains:
		return false, errLimit("certificate chains of one client", MaxChains)
	}
	c.bySum[sum] = s
	c.count[s.by]++
	return false, nil
}

func (c *chains) remove(sum [32]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s, ok := c.bySum[sum]; ok {
		delete(c.bySum, sum)
		c.count[s.by]--
	}
}

func (c *chains) get(sum [32]byte) ([]byte, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, ok := c.bySum[sum]
	return s.chain, ok
}

func (c *chains) len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.bySum)
}

// PutChain stores the caller's certificates, laid out as an envelope carries them
// (docs/sealing.md, the JSON form), under their SHA-256. They must be the caller's: of its
// name and authority and valid now. Storing them again is a success without effect.
func (b *Broker) PutChain(id Caller, chain []byte, done func(sum [32]byte, err error)) {
	if b.directory == nil {
		done([32]byte{}, errNoDirectory)
		return
	}
	if err := b.allow(id, actPutChain, id.ID); err != nil {
		done([32]byte{}, err)
		return
	}
	if err := b.checkChain(id, chain); err != nil {
		done([32]byte{}, err)
		return
	}
	sum := sha256.Sum256(chain)
	s := storedChain{append([]byte(nil), chain...), id.ID}
	definition := []engine.Definition{defineChain(sum, s)}
	b.lock()
	defer b.unlock()
	there, err := b.chains.reserve(sum, s, b.limits.Chains)
	switch {
	case err != nil:
		done([32]byte{}, err)
	case there:
		b.defined(definition, func(err error) { done(sum, err) })
	default:
		b.define(definition, func(err error) {
			if err != nil {
				b.chains.remove(sum)
			}
			done(sum, err)
		})
	}
}

func (b *Broker) checkChain(id Caller, chain []byte) error {
	bad := func(why string) error {
		return &sealmq.Error{Code: sealmq.BadArgument, Message: "the certificates are refused: " + why}
	}
	certs, err := seal.ParseChain(chain)
	if err != nil {
		return bad(err.Error())
	}
	owner, err := b.directory.verifier.Verify(certs, b.clock.Now())
	switch {
	case err != nil:
		return bad(err.Error())
	case owner.ID != id.ID || owner.Issuer != id.Issuer:
		return &sealmq.Error{Code: sealmq.Denied, Message: "not allowed to store the certificates of another client"}
	}
	return nil
}

// Chain returns the certificates with a hash. The slice must not be changed.
func (b *Broker) Chain(id Caller, sum [32]byte) ([]byte, error) {
	if err := b.allow(id, actReadKey, ""); err != nil {
		return nil, err
	}
	chain, ok := b.chains.get(sum)
	if !ok {
		return nil, &sealmq.Error{Code: sealmq.NoKey, Message: "no certificates are stored under this hash"}
	}
	return chain, nil
}

// chainDefinition is what is stored of a chain. Its key is the hash.
type chainDefinition struct {
	Version int    `json:"v"`
	Chain   []byte `json:"chain"`
	By      string `json:"by"`
}

func defineChain(sum [32]byte, s storedChain) engine.Definition {
	return engine.Definition{Key: chainPrefix + hex.EncodeToString(sum[:]), Value: encode(chainDefinition{definitionVersion, s.chain, s.by})}
}

func readChain(rest string, d engine.Definition) (sum [32]byte, s storedChain, err error) {
	var v chainDefinition
	if err := decode(d, &v); err != nil {
		return sum, s, err
	}
	sum = sha256.Sum256(v.Chain)
	if rest != hex.EncodeToString(sum[:]) {
		return sum, s, errDamaged(d, fmt.Sprintf("its hash is %x", sum))
	}
	return sum, storedChain{v.Chain, v.By}, nil
}
