package seal

import (
	"bytes"
	"container/list"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"
)

// opened is an epoch from a receiver's side: authentic, meant for us, its secret known.
type opened struct {
	*epoch
	suite             Suite
	sender            string
	receivers         []string
	alone             bool // there is one receiver
	created, notAfter int64
	certs             []*x509.Certificate
	info              *Epoch
	vouched           atomic.Pointer[voucher]
}

// openEpoch checks the epoch of an envelope and finds out its secret. Cheap checks come
// before costly ones, and nothing is calculated with the private key for a sender that
// the Verifier does not know.
func (o *Opener) openEpoch(set *keySet, p *parts, at int64, now time.Time) (*opened, error) {
	part, h, body, err := p.header()
	if err != nil {
		return nil, err
	}
	if !o.accepts(h.kem.suite) {
		return nil, refuse(ErrSuite, "ask the sender to take a key of another suite", "suite %s is not accepted here", h.kem.suite)
	}
	key, mine, err := o.slotOf(set, h)
	if err != nil {
		return nil, err
	}
	certs, err := o.chainOf(h, part.chain)
	if err != nil {
		return nil, err
	}
	v, err := o.verify(certs, h.sender, at, now)
	if err != nil {
		return nil, err
	}
	if scheme, err := schemeOf(certs[0].PublicKey); err != nil || scheme != h.scheme {
		return nil, refuse(ErrSignature, "", "the certificate's key is of another kind than the signature")
	}
	if err := CheckSignature(certs[0], LabelEpoch, part.content, part.signature); err != nil {
		return nil, err
	}
	secret, err := openSecret(h, mine, key, body)
	if err != nil {
		return nil, err
	}
	e := &opened{epoch: newEpoch(h, part.content, secret), suite: h.kem.suite, sender: h.sender, alone: len(h.slots) == 1,
		created: h.created, notAfter: h.notAfter, certs: certs}
	for _, s := range h.slots {
		e.receivers = append(e.receivers, s.name)
	}
	e.info = &Epoch{Hash: e.hash, Created: time.UnixMilli(h.created), NotAfter: time.UnixMilli(h.notAfter), MaxMessages: h.maxMessages,
		Previous: h.previous, PreviousMessages: h.previousCount}
	for _, x := range h.extensions {
		e.info.Extensions = append(e.info.Extensions, Extension{x.Type, bytes.Clone(x.Value)})
	}
	e.vouched.Store(v)
	return e, nil
}

// slotOf finds our part of a header and the key that it was made for.
func (o *Opener) slotOf(set *keySet, h *header) (kemPrivate, *slot, error) {
	for i := range h.slots {
		s := &h.slots[i]
		if s.name != o.cfg.Name {
			continue
		}
		// A key of another suite has another id.
		if k := set.byID[s.key]; k != nil && k.suite == h.kem.suite {
			return k.alg.(kemPrivate), s, nil
		}
	}
	return kemPrivate{}, nil, o.errNoKey(h, set)
}

// chainOf returns the certificates that the header names.
func (o *Opener) chainOf(h *header, chain []byte) ([]*x509.Certificate, error) {
	if len(chain) == 0 {
		if o.cfg.Chain != nil {
			var err error
			chain, err = o.cfg.Chain(h.chain)
			if errors.Is(err, ErrNoCertificates) {
				return nil, &Error{Kind: ErrUntrusted, Err: err}
			}
			if err != nil {
				return nil, &Error{Kind: ErrUndecided, Detail: "the sender's certificates cannot be found", Err: err}
			}
		}
		if len(chain) == 0 {
			return nil, refuse(ErrUntrusted, "ask the sender to put its certificates into the envelope", "the sender's certificates are left out and not known here")
		}
	}
	if sha256.Sum256(chain) != h.chain {
		return nil, refuse(ErrSignature, "", "the certificates are not the ones that the epoch names")
	}
	certs, err := ParseChain(chain)
	if err != nil {
		return nil, err
	}
	if err := maySign(certs[0]); err != nil {
		return nil, &Error{Kind: ErrUntrusted, Err: err}
	}
	return certs, nil
}

// openSecret finds out the epoch's secret. The header's signature has been checked, so
// what fails here is the sender's doing or a damaged key.
func openSecret(h *header, mine *slot, key kemPrivate, body [32]byte) (secret [32]byte, err error) {
	e, err := key.kem.decapsulate(mine.enc, key.key)
	if err != nil {
		return secret, refuse(ErrChanged, "", "the encapsulation cannot be used")
	}
	if mine.masked == nil {
		secret, err = export(e, secretLabel, body)
	} else {
		var mask [32]byte
		mask, err = export(e, maskLabel, body)
		secret = xor([32]byte(mine.masked), mask)
	}
	if err != nil {
		return [32]byte{}, &Error{Kind: ErrChanged, Err: err}
	}
	commitment := commit(secret, body)
	if subtle.ConstantTimeCompare(commitment[:], h.commitment[:]) != 1 {
		return [32]byte{}, refuse(ErrChanged, "", "the epoch's secret is not the one that the sender committed to")
	}
	return secret, nil
}

// epochCache keeps the epochs that were used last, by their bytes as they are in an
// envelope. Only epochs that opened get in, so nobody can push out good ones with bad.
type epochCache struct {
	mu      sync.Mutex
	max     int
	byPart  map[string]*list.Element
	recent  list.List // of *cached, the last used first
	opening singleflight.Group
}

type cached struct {
	part  string
	epoch *opened
}

// get returns the epoch of the given bytes, which open makes if it is not there.
func (c *epochCache) get(part []byte, open func() (*opened, error)) (*opened, error) {
	if e := c.find(part); e != nil {
		return e, nil
	}
	key, mine := string(part), false
	v, err, _ := c.opening.Do(key, func() (any, error) {
		mine = true
		if e := c.find(part); e != nil { // somebody else has opened it in between
			return e, nil
		}
		e, err := open()
		if err == nil {
			c.insert(key, e)
		}
		return e, err
	})
	if err != nil && !mine {
		return open() // what the other met may not hold for this message
	}
	return v.(*opened), err
}

// find returns the epoch of the given bytes, or nil.
func (c *epochCache) find(part []byte) *opened {
	c.mu.Lock()
	defer c.mu.Unlock()
	at := c.byPart[string(part)]
	if at == nil {
		return nil
	}
	c.recent.MoveToFront(at)
	return at.Value.(*cached).epoch
}

func (c *epochCache) insert(part string, e *opened) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byPart[part] != nil {
		return
	}
	c.byPart[part] = c.recent.PushFront(&cached{part, e})
	for len(c.byPart) > c.max {
		last := c.recent.Back()
		delete(c.byPart, c.recent.Remove(last).(*cached).part)
	}
}
