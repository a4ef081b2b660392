package proxy

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"sync/atomic"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/pipeline"
	"github.com/sealmq/sealmq/seal"
)

// Times and bounds of the main server's keys.
const (
	fetchEvery    = time.Minute
	recheckEvery  = 5 * time.Second
	fetchTimeout  = 10 * time.Second
	maxCacheBytes = 1 << 20
	maxEntries    = 16
)

// keys finds the main server's keys: the one to seal for, and the one that ids are made with.
type keys struct {
	cfg     *Config
	current atomic.Pointer[sealing]
	// idKey is the key of ids, nil if there is none yet. Once it is there it stays: with
	// another one repeats would not be recognised.
	idKey atomic.Pointer[[]byte]
	// stranger is a sentence about a main server whose key of ids is another one, or nil.
	stranger atomic.Pointer[string]
}

// sealing is a key that is in use.
type sealing struct {
	*seal.Sealer
	entry *seal.KeyEntry
	raw   []byte
}

func newKeys(cfg *Config) (*keys, error) {
	k := &keys{cfg: cfg}
	if err := k.load(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		cfg.Log.Warn("the cached key of the main server cannot be used; the proxy asks for it", "file", cfg.KeyCache, "error", err)
	}
	if cfg.IDKeyFile == "" {
		return k, nil
	}
	key, err := durable.ReadPrivate(cfg.FS, cfg.IDKeyFile, 2*pipeline.IDKeyBytes)
	switch {
	case durable.IsNotExist(err):
		return k, nil
	case err == nil && len(key) != pipeline.IDKeyBytes:
		err = fmt.Errorf("%s does not have %d bytes; remove it, and the proxy asks the main server for the key", cfg.IDKeyFile, pipeline.IDKeyBytes)
	}
	if err != nil {
		return nil, fmt.Errorf("key of message ids: %w", err)
	}
	k.idKey.Store(&key)
	return k, nil
}

// takeIDKey takes the main server's key of ids into use, unless there is one.
func (k *keys) takeIDKey(key []byte) error {
	own := k.idKey.Load()
	switch {
	case len(key) != pipeline.IDKeyBytes:
		if own == nil {
			return errors.New("the main server has no key of message ids")
		}
	case own == nil:
		k.idKey.Store(&key)
		if k.cfg.IDKeyFile == "" {
			return nil
		}
		if err := durable.WriteFile(k.cfg.FS, k.cfg.IDKeyFile, key, 0o600); err != nil {
			k.cfg.Log.Warn("the key of message ids cannot be kept; a start without the main server will take no messages", "file", k.cfg.IDKeyFile, "error", err)
		}
	case subtle.ConstantTimeCompare(*own, key) == 1:
		k.stranger.Store(nil)
	case k.stranger.Load() == nil:
		text := fmt.Sprintf("this proxy's key of message ids (%s) is not the main server's (%s), so repeats at other proxies are not recognised; remove the file of the wrong one",
			fingerprint(*own), fingerprint(key))
		k.stranger.Store(&text)
		k.cfg.Log.Error(text, "file", k.cfg.IDKeyFile)
	}
	return nil
}

// fingerprint tells keys apart and says nothing about them.
func fingerprint(key []byte) string {
	sum := sha256.Sum256(append([]byte("sealmq/pipeline/ids/fingerprint/v1\x00"), key...))
	return hex.EncodeToString(sum[:8])
}

// check says whether an entry is the main server's: signed by a certificate of the role
// server of our own authority that is not revoked.
func (k *keys) check(e *seal.KeyEntry) error {
	sender, err := e.Verify(k.cfg.Verifier, e.Owner, k.cfg.Now())
	if err != nil {
		return err
	}
	if sender.Role != sealmq.RoleServer {
		return fmt.Errorf("the key of %q is signed with a certificate of the role %q; only a main server's counts", e.Owner, sender.Role)
	}
	return nil
}

// use takes the first good entry into use.
func (k *keys) use(entries [][]byte) error {
	err := errors.New("the main server has no key")
	for _, raw := range entries[:min(len(entries), maxEntries)] {
		if err = k.useOne(raw); err == nil {
			return nil
		}
	}
	return err
}

func (k *keys) useOne(raw []byte) error {
	e, err := seal.ParseKeyEntry(raw)
	if err != nil {
		return err
	}
	if err := k.check(e); err != nil {
		return err
	}
	if now := k.current.Load(); now != nil && bytes.Equal(now.raw, raw) {
		return nil
	}
	s, err := seal.NewSealer(seal.SealerConfig{Receivers: []seal.Receiver{{Name: e.Owner, Key: e.PublicKey()}}, Signer: k.cfg.Signer, Now: k.cfg.Now})
	if err != nil {
		return err
	}
	k.current.Store(&sealing{s, e, raw})
	k.cfg.Log.Info("messages are sealed for the main server's key", "owner", e.Owner, "fingerprint", e.PublicKey().Fingerprint())
	return nil
}

type keyCache struct {
	Keys [][]byte `json:"keys"`
}

func (k *keys) load() error {
	if k.cfg.KeyCache == "" {
		return nil
	}
	data, err := durable.ReadPrivate(k.cfg.FS, k.cfg.KeyCache, maxCacheBytes)
	if err != nil {
		return err
	}
	var c keyCache
	if err := json.Unmarshal(data, &c); err != nil {
		return err
	}
	return k.use(c.Keys)
}

func (k *keys) save() error {
	if k.cfg.KeyCache == "" {
		return nil
	}
	data, err := json.Marshal(keyCache{[][]byte{k.current.Load().raw}})
	if err != nil {
		return err
	}
	return durable.WriteFile(k.cfg.FS, k.cfg.KeyCache, append(data, '\n'), 0o600)
}

// fetch asks the main server.
func (k *keys) fetch(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	got, err := k.cfg.Main.Keys(ctx)
	if err != nil {
		return fmt.Errorf("ask the main server for its key: %w", err)
	}
	if err := k.takeIDKey(got.IDKey); err != nil {
		return err
	}
	before := k.current.Load()
	if err := k.use(got.Entries); err != nil {
		return fmt.Errorf("the main server's key cannot be used: %w", err)
	}
	if k.current.Load() == before {
		return nil
	}
	if err := k.save(); err != nil {
		k.cfg.Log.Warn("the main server's key cannot be kept; a start without the main server will take no messages", "file", k.cfg.KeyCache, "error", err)
	}
	return nil
}

// run keeps the key current: it asks at once, then every fetchEvery, or with growing pauses
// while it fails, and takes a key out of use whose certificate is not good any more.
func (k *keys) run(ctx context.Context) {
	var last error
	for pause, next := firstPause, time.Duration(0); ; {
		if next <= 0 {
			err := k.fetch(ctx)
			if ctx.Err() != nil {
				return
			}
			if err != nil && (last == nil || last.Error() != err.Error()) {
				k.cfg.Log.Warn("the main server's key is not current", "error", err)
			}
			last = err
			if next = fetchEvery; err != nil {
				next, pause = pause, min(2*pause, longestPause)
			} else {
				pause = firstPause
			}
		}
		wait := min(next, recheckEvery)
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		next -= wait
		if k.recheck() {
			next = 0
		}
	}
}

// recheck reports whether it has taken the key out of use. A key that was good and seems to be of
// the future stays: this machine's clock was set back.
func (k *keys) recheck() bool {
	s := k.current.Load()
	if s == nil {
		return false
	}
	if err := k.check(s.entry); err != nil && !errors.Is(err, seal.ErrUndecided) && !errors.Is(err, seal.ErrTime) {
		k.current.CompareAndSwap(s, nil)
		k.cfg.Log.Error("the main server's key is taken out of use, and no messages are taken until there is another", "error", err)
		return true
	}
	return false
}

// rotate begins a new epoch, which the proxy's present certificate signs.
func (k *keys) rotate() {
	if s := k.current.Load(); s != nil {
		s.Rotate()
	}
}
