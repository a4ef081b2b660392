package mainserver

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"sync"
	"time"

	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/pipeline"
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
	by    [32]byte  // the certificates of its signer
	until time.Time // when it should be signed again
}

// OpenKeys reads the sealing keys in a file, which only its owner may read. With create it makes
// the first one if the file is missing; that is for a new database only, because no other key
// opens what waits in the queue. signer returns the signer of the server's certificate.
func OpenKeys(file string, create bool, signer func() (*seal.Signer, error)) (keys *Keys, made bool, err error) {
	data, made, err := openKey(file, maxKeyBytes, create, func() ([]byte, error) {
		ring, err := seal.NewKeyring()
		if err == nil {
			_, err = ring.Rotate(seal.DefaultSuite, time.Now())
		}
		if err != nil {
			return nil, err
		}
		return ring.PEM(), nil
	})
	var ring *seal.Keyring
	if err == nil {
		if ring, err = seal.ParseKeyring(data); err != nil {
			err = &keyFileError{file, "is damaged: " + err.Error()}
		}
	}
	if err != nil {
		return nil, false, fmt.Errorf("sealing keys of the main server: %w", err)
	}
	if ring.Newest() == nil {
		return nil, false, fmt.Errorf("sealing keys of the main server: %s has no live key", file)
	}
	return &Keys{ring: ring, signer: signer}, made, nil
}

// Fingerprints are those of all keys, the newest first, and of keys that were retired.
func (k *Keys) Fingerprints() (list []string) {
	for _, key := range k.ring.Live() {
		list = append(list, key.Public().Fingerprint())
	}
	for _, key := range k.ring.Retired() {
		list = append(list, key.Fingerprint)
	}
	return list
}

// OpenIDKey reads the key in a file that all proxies make message ids and digests with. With
// create it makes one if the file is missing; that is for a new database only, because with
// another key repeats are not recognised.
func OpenIDKey(file string, create bool) (key []byte, made bool, err error) {
	key, made, err = openRandom(file, pipeline.IDKeyBytes, create, "")
	if err != nil {
		return nil, false, fmt.Errorf("key of message ids: %w", err)
	}
	return key, made, nil
}

// OpenJWTKey reads the key in a file that signs JSON Web Tokens, or makes it. Another key ends the
// logins of programs, and no more.
func OpenJWTKey(file string) (key []byte, made bool, err error) {
	return openRandom(file, jwtKeyBytes, true, "; delete it, and the next start makes another one")
}

const jwtKeyBytes = 32

// openRandom reads a key of some random bytes in a file, or makes it. hint says what to do about a
// key of another length.
func openRandom(file string, length int, create bool, hint string) (key []byte, made bool, err error) {
	key, made, err = openKey(file, 2*int64(length), create, func() ([]byte, error) {
		b := make([]byte, length)
		rand.Read(b)
		return b, nil
	})
	if err == nil && len(key) != length {
		err = &keyFileError{file, fmt.Sprintf("does not have %d bytes%s", length, hint)}
	}
	return key, made, err
}

// IDKeyFingerprint tells one key of message ids from another, and nothing about it.
func IDKeyFingerprint(key []byte) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("fingerprint of a key of message ids")) //nolint:errcheck // a hash takes everything
	return hex.EncodeToString(mac.Sum(nil)[:16])
}

// openKey reads a file of keys, or makes it if it may.
func openKey(file string, most int64, create bool, make func() ([]byte, error)) (data []byte, made bool, err error) {
	fs := durable.OS()
	data, err = durable.ReadPrivate(fs, file, most)
	if !durable.IsNotExist(err) {
		return data, false, err
	}
	if !create {
		return nil, false, &keyFileError{file, "does not exist, and the database does"}
	}
	if data, err = make(); err != nil {
		return nil, false, err
	}
	return data, true, durable.WriteFile(fs, file, data, 0o600)
}

// keyFileError says that a file of keys is missing or damaged.
type keyFileError struct{ file, what string }

// Error names the file.
func (e *keyFileError) Error() string { return fmt.Sprintf("key file %q %s", e.file, e.what) }

// Hint tells the operator what to do.
func (e *keyFileError) Hint() string {
	return "restore the file from the key backup, or copy it from another main server of the same database; a new key cannot stand in for it"
}

// resign is how often the entry is signed again, so that a proxy never sees one that is long
// out of date.
const resign = time.Hour

// Entries are the key entries for proxies, the one to seal for first.
func (k *Keys) Entries(now time.Time) ([][]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	s, err := k.signer()
	if err != nil {
		return nil, err
	}
	// The old certificate may be revoked once there is a new one.
	if _, by := s.Chain(); by != k.by || now.After(k.until) || k.until.Sub(now) > resign {
		if k.entry, err = seal.NewKeyEntry(s, seal.KeyEntry{Key: k.ring.Newest().Public(), Created: now}); err != nil {
			return nil, err
		}
		k.by, k.until = by, now.Add(resign)
	}
	return [][]byte{k.entry}, nil
}

// Opener returns an opener for the main server under its name, which proxies seal for.
func (k *Keys) Opener(name string, v seal.Verifier) (*seal.Opener, error) {
	return seal.NewOpener(seal.OpenerConfig{Name: name, Keys: k.ring, Verifier: v, Suites: []seal.Suite{seal.DefaultSuite}})
}
