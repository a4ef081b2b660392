package proxy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"sync/atomic"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/mtls"
	"github.com/sealmq/sealmq/seal"
	"github.com/sealmq/sealmq/trust"
)

// Times and bounds of the main server's keys.
const (
	fetchEvery    = time.Minute
	recheckEvery  = 5 * time.Second
	fetchTimeout  = 10 * time.Second
	maxCacheBytes = 1 << 20
	maxEntries    = 16
)

// keys finds the main server's key and seals for it.
type keys struct {
	cfg      *Config
	verifier *trust.Verifier
	current  atomic.Pointer[sealing]
}

// sealing is a key that is in use.
type sealing struct {
	*seal.Sealer
	entry *seal.KeyEntry
	raw   []byte
}

func newKeys(cfg *Config) *keys {
	v := trust.NewVerifier(cfg.Authority...)
	v.Identifier = mtls.NewIdentifier(cfg.Authority...)
	v.Revocation = cfg.revocation()
	v.Now = cfg.Now
	k := &keys{cfg: cfg, verifier: v}
	if err := k.load(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		cfg.Log.Warn("the cached key of the main server cannot be used; the proxy asks for it", "file", cfg.KeyCache, "error", err)
	}
	return k
}

// check says whether an entry is the main server's: signed by a certificate of the role
// server of our own authority that is not revoked.
func (k *keys) check(e *seal.KeyEntry) error {
	sender, err := e.Verify(k.verifier, e.Owner, k.cfg.Now())
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
	entries, err := k.cfg.Main.Keys(ctx)
	if err != nil {
		return fmt.Errorf("ask the main server for its key: %w", err)
	}
	before := k.current.Load()
	if err := k.use(entries); err != nil {
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
		k.recheck()
	}
}

func (k *keys) recheck() {
	s := k.current.Load()
	if s == nil {
		return
	}
	if err := k.check(s.entry); err != nil && !errors.Is(err, seal.ErrUndecided) {
		k.current.CompareAndSwap(s, nil)
		k.cfg.Log.Error("the main server's key is taken out of use, and no messages are taken until there is another", "error", err)
	}
}
