package seal

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// MaxKeys bounds the keys of a Keyring, retired ones included.
const MaxKeys = 1024

// Keyring holds the keys of one receiver: the newest is what senders should seal for,
// the older ones open what is still on its way, and of the retired ones only the names
// are left, so that a late message can be told from a stranger's. It prints as
// "[redacted]". It is not safe for concurrent use while it is changed.
type Keyring struct {
	redacted
	live    []*PrivateKey // newest first
	retired []RetiredKey  // newest first
}

// RetiredKey is what is left of a key after Retire.
type RetiredKey struct {
	Suite       Suite
	Fingerprint string
	Created     time.Time // zero if it was not known
	Retired     time.Time
}

// NewKeyring makes a ring of keys that are live.
func NewKeyring(keys ...*PrivateKey) (*Keyring, error) {
	r := new(Keyring)
	for _, k := range keys {
		if err := r.Add(k); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// ParseKeyring reads all keys of a key file, in any form that ParsePrivateKey reads.
// Blocks of other kinds are skipped, but there must be at least one key, retired or not.
func ParseKeyring(data []byte, legacy ...Legacy) (*Keyring, error) {
	r := new(Keyring)
	var public bool
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if encrypted(block) {
			return nil, ErrEncryptedKey
		}
		if block.Type == pemRetired {
			if err := r.addRetired(block, legacy); err != nil {
				return nil, err
			}
			continue
		}
		public = public || strings.HasSuffix(block.Type, "PUBLIC KEY")
		key, err := privateOf(block, legacy)
		if err == errNotMine {
			continue
		}
		if err != nil {
			return nil, err
		}
		if err := r.Add(key); err != nil {
			return nil, err
		}
	}
	switch {
	case len(r.live)+len(r.retired) > 0:
		return r, nil
	case public:
		return nil, ErrPublicKey
	}
	return nil, errNoPrivateKey
}

func (r *Keyring) addRetired(b *pem.Block, legacy []Legacy) error {
	h, err := parseKeyHeader(b, legacy)
	if err != nil {
		return err
	}
	if sum, ok := sumOf(h.Fingerprint); !ok || fingerprint(sum) != h.Fingerprint {
		return errors.New("a retired key has no fingerprint")
	}
	if len(r.live)+len(r.retired) >= MaxKeys {
		return errTooManyKeys
	}
	r.addRetiredKey(RetiredKey(h))
	return nil
}

var errTooManyKeys = fmt.Errorf("a receiver has at most %d keys", MaxKeys)

// PEM is the ring as a key file, without a passphrase. ParseKeyring reads it again.
func (r *Keyring) PEM() []byte {
	var out bytes.Buffer
	for _, k := range r.live {
		out.Write(k.ownPEM())
	}
	for _, k := range r.retired {
		out.Write(pem.EncodeToMemory(keyHeader(k).block(pemRetired, nil)))
	}
	return out.Bytes()
}

// Add puts a live key in at the place that its age gives it; of two of the same age, or
// of unknown age, the one that was added first counts as newer. A key that is there
// already, live or retired, is refused.
func (r *Keyring) Add(k *PrivateKey) error {
	fingerprint := k.Public().Fingerprint()
	for _, old := range r.live {
		if old.Public().Fingerprint() == fingerprint {
			return fmt.Errorf("the key %s is there already", fingerprint)
		}
	}
	for _, old := range r.retired {
		if old.Fingerprint == fingerprint {
			return fmt.Errorf("the key %s was retired", fingerprint)
		}
	}
	if len(r.live)+len(r.retired) >= MaxKeys {
		return errTooManyKeys
	}
	r.live = append(r.live, k)
	slices.SortStableFunc(r.live, func(a, b *PrivateKey) int { return b.created.Compare(a.created) })
	return nil
}

// Rotate makes a new key of a suite and puts it before all others. The older ones stay
// live. at is the time of day.
func (r *Keyring) Rotate(name Suite, at time.Time, legacy ...Legacy) (*PrivateKey, error) {
	key, err := Generate(name, 0, legacy...)
	if err != nil {
		return nil, err
	}
	key.created = at.UTC().Truncate(time.Second)
	if len(r.live) > 0 && !r.live[0].created.Before(key.created) {
		// A clock that was set back must not make the new key an old one.
		key.created = r.live[0].created.Add(time.Second)
	}
	if err := r.Add(key); err != nil {
		return nil, err
	}
	return key, nil
}

// Retire takes a live key out of use for ever and forgets its secret: what was sealed for
// it can never be opened again by this ring. The fingerprint may be cut off, if what is
// left has eight digits or more and fits one key only.
func (r *Keyring) Retire(fingerprint string, at time.Time) (RetiredKey, error) {
	i, err := r.find(fingerprint)
	if err != nil {
		return RetiredKey{}, err
	}
	k := r.live[i]
	gone := RetiredKey{k.suite, k.Public().Fingerprint(), k.created, at.UTC().Truncate(time.Second)}
	r.live = slices.Delete(r.live, i, i+1)
	r.addRetiredKey(gone)
	return gone, nil
}

func (r *Keyring) addRetiredKey(k RetiredKey) {
	r.retired = append(r.retired, k)
	slices.SortStableFunc(r.retired, func(a, b RetiredKey) int { return b.Retired.Compare(a.Retired) })
}

func (r *Keyring) find(fingerprint string) (int, error) {
	digits := strings.TrimPrefix(fingerprint, "sha256:")
	if len(digits) < 8 {
		return 0, errors.New("a fingerprint is named by eight of its digits or more")
	}
	found := -1
	for i, k := range r.live {
		if strings.HasPrefix(k.Public().Fingerprint(), "sha256:"+digits) {
			if found >= 0 {
				return 0, fmt.Errorf("several keys begin with %s", fingerprint)
			}
			found = i
		}
	}
	if found < 0 {
		return 0, fmt.Errorf("no live key has the fingerprint %s", fingerprint)
	}
	return found, nil
}

// Newest is the key that senders should seal for, or nil if no key is live.
func (r *Keyring) Newest() *PrivateKey {
	if len(r.live) == 0 {
		return nil
	}
	return r.live[0]
}

// Live lists the keys that open messages, newest first.
func (r *Keyring) Live() []*PrivateKey { return slices.Clone(r.live) }

// Retired lists what is left of retired keys, the last retired first.
func (r *Keyring) Retired() []RetiredKey { return slices.Clone(r.retired) }
