package mainserver

import (
	"fmt"
	"sync"
	"time"

	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/seal"
)

// maxKeyBytes bounds the file of sealing keys.
const maxKeyBytes = 4 << 20

// Keys are the main server's sealing keys: proxies seal for the newest, the older ones open
// what is still in the queue. It is safe for concurrent use.
type Keys struct {
	ring   *seal.Keyring
	signer func() (*seal.Signer, error)

	mu    sync.Mutex
	entry []byte    // the newest key, signed
	until time.Time // when it should be signed again
}

// OpenKeys reads the sealing keys in a file, which only its owner may read, or makes the
// first one. signer returns the signer of the server's certificate.
func OpenKeys(file string, signer func() (*seal.Signer, error)) (keys *Keys, made bool, err error) {
	fs := durable.OS()
	data, err := durable.ReadPrivate(fs, file, maxKeyBytes)
	var ring *seal.Keyring
	switch {
	case durable.IsNotExist(err):
		made = true
		if ring, err = seal.NewKeyring(); err != nil {
			return nil, false, err
		}
		if _, err = ring.Rotate(seal.DefaultSuite, time.Now()); err != nil {
			return nil, false, err
		}
		err = durable.WriteFile(fs, file, ring.PEM(), 0o600)
	case err == nil:
		ring, err = seal.ParseKeyring(data)
	}
	if err != nil {
		return nil, false, fmt.Errorf("sealing keys of the main server: %w", err)
	}
	if ring.Newest() == nil {
		return nil, false, fmt.Errorf("sealing keys of the main server: %s has no live key", file)
	}
	return &Keys{ring: ring, signer: signer}, made, nil
}

// resign is how often the entry is signed anew, so that a renewed certificate is used and a
// proxy never sees an entry that is long out of date.
const resign = time.Hour

// Entries are the key entries for proxies, the one to seal for first.
func (k *Keys) Entries(now time.Time) ([][]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if now.After(k.until) || k.until.Sub(now) > resign {
		s, err := k.signer()
		if err != nil {
			return nil, err
		}
		if k.entry, err = seal.NewKeyEntry(s, seal.KeyEntry{Key: k.ring.Newest().Public(), Created: now}); err != nil {
			return nil, err
		}
		k.until = now.Add(resign)
	}
	return [][]byte{k.entry}, nil
}

// Opener returns an opener for the main server under its name, which proxies seal for.
func (k *Keys) Opener(name string, v seal.Verifier) (*seal.Opener, error) {
	return seal.NewOpener(seal.OpenerConfig{Name: name, Keys: k.ring, Verifier: v, Suites: []seal.Suite{seal.DefaultSuite}})
}
