package broker

import (
	"log/slog"
	"strings"

	"github.com/sealmq/sealmq/engine"
	"github.com/sealmq/sealmq/internal/clock"
	"github.com/sealmq/sealmq/keydir/keylog"
	"github.com/sealmq/sealmq/seal"
)

// The key directory is package keylog's. The broker decides who may ask, keeps its
// definitions among the engine's, and tells the audit.

// DirectoryConfig switches the proven key directory on: entries that their owners have
// signed, and a log of everything that was ever put into the directory.
type DirectoryConfig struct {
	// Signer signs the log's checkpoints. It must stay the same for the life of the store:
	// clients take a log with another signer for another log.
	Signer *keylog.Signer
	// Verifier says whose the certificates of an entry are.
	Verifier seal.Verifier
}

// openKeys reads the key directory from the definitions of an engine.
func openKeys(e engine.Engine, stored []engine.Definition, d *DirectoryConfig, limits Limits, log *slog.Logger, c clock.Clock) (*keylog.Log, error) {
	cfg := keylog.Config{
		Define: func(batch []keylog.Definition, done func(error)) {
			list := make([]engine.Definition, len(batch))
			for i, d := range batch {
				list[i] = engine.Definition(d)
			}
			e.Define(list, done)
		},
		Limits: keylog.Limits{Keys: limits.Keys, Records: limits.KeyLog, Changes: limits.KeyChanges, Chains: limits.Chains},
		Log:    log,
		Now:    c.Now,
	}
	if d != nil {
		cfg.Signer, cfg.Verifier = d.Signer, d.Verifier
	}
	var keys []keylog.Definition
	for _, d := range stored {
		if keylog.Owns(d.Key) {
			keys = append(keys, keylog.Definition(d))
		}
	}
	return keylog.Open(cfg, keys)
}

// PutKey registers the bare public key of a client. A client may write the key of its own
// common name, administrators every one. The key that is there already is a success that
// changes nothing.
func (b *Broker) PutKey(id Caller, client string, key []byte, done func(changed bool, err error)) {
	err := keylog.CheckClient(client)
	if err == nil {
		err = b.allow(id, actWriteKey, client)
	}
	if err != nil {
		done(false, err)
		return
	}
	name := strings.Clone(client)
	b.keys.PutKey(id.Identity, name, key, func(changed bool, err error) {
		b.keyChanged(id, actWriteKey, name, changed)
		done(changed, err)
	})
}

// keyChanged tells the audit of a changed key.
func (b *Broker) keyChanged(id Caller, act action, name string, changed bool) {
	if changed {
		b.audit(id, string(act), name, nil)
		b.metrics.setKeys(b.keys.Counts())
	}
}

// Key returns the bare public key of a client. The slice must not be changed.
func (b *Broker) Key(id Caller, client string) ([]byte, bool) {
	if b.allow(id, actReadKey, client) != nil {
		return nil, false
	}
	return b.keys.Key(client)
}

// PutKeyEntry stores the caller's next entry of a suite, see keylog.Log.PutEntry. done gets
// the entry's place in the log.
func (b *Broker) PutKeyEntry(id Caller, suite string, entry []byte, done func(index int64, err error)) {
	e, err := b.keys.ParseEntry(suite, entry)
	if err == nil {
		err = b.allow(id, actPutEntry, e.Owner)
	}
	if err != nil {
		done(0, err)
		return
	}
	b.keys.PutEntry(id.Identity, e, func(index int64, changed bool, err error) {
		b.keyChanged(id, actPutEntry, e.Owner, changed)
		done(index, err)
	})
}

// ResetKey takes the keys of a client out of the directory, see keylog.Log.Reset. Only
// administrators may. done gets the places of the resets in the log.
func (b *Broker) ResetKey(id Caller, client, suite string, done func(indexes []int64, err error)) {
	err := keylog.CheckClient(client)
	if err == nil {
		err = b.allow(id, actResetKey, client)
	}
	if err != nil {
		done(nil, err)
		return
	}
	name := strings.Clone(client)
	b.keys.Reset(id.Identity, name, suite, func(indexes []int64, err error) {
		b.audit(id, string(actResetKey), name, err)
		b.metrics.setKeys(b.keys.Counts())
		done(indexes, err)
	})
}

// FindKey returns the key of a client with its proof, see keylog.Log.Find.
func (b *Broker) FindKey(id Caller, client, suite string) (keylog.Found, error) {
	if err := b.allow(id, actReadKey, client); err != nil {
		return keylog.Found{}, err
	}
	return b.keys.Find(client, suite)
}

// FindReset returns the latest reset of a client's key with its proof, see
// keylog.Log.FindReset.
func (b *Broker) FindReset(id Caller, client, suite string) (keylog.FoundReset, error) {
	if err := b.allow(id, actReadKey, client); err != nil {
		return keylog.FoundReset{}, err
	}
	return b.keys.FindReset(client, suite)
}

// KeyLog returns up to n leaves of the key directory's log, see keylog.Log.Page.
func (b *Broker) KeyLog(id Caller, from int64, n int) (keylog.Page, error) {
	if err := b.allow(id, actReadKey, ""); err != nil {
		return keylog.Page{}, err
	}
	return b.keys.Page(from, n)
}

// KeyProof proves that the log as it was with to leaves continues what it was with from.
func (b *Broker) KeyProof(id Caller, from, to int64) (keylog.Consistency, error) {
	if err := b.allow(id, actReadKey, ""); err != nil {
		return keylog.Consistency{}, err
	}
	return b.keys.Consistency(from, to)
}

// PutChain stores the caller's certificates under their SHA-256, see keylog.Log.PutChain.
func (b *Broker) PutChain(id Caller, chain []byte, done func(sum [32]byte, err error)) {
	if err := b.allow(id, actPutChain, id.ID); err != nil {
		done([32]byte{}, err)
		return
	}
	b.keys.PutChain(id.Identity, chain, func(sum [32]byte, err error) {
		b.metrics.setKeys(b.keys.Counts())
		done(sum, err)
	})
}

// Chain returns the certificates with a hash. The slice must not be changed.
func (b *Broker) Chain(id Caller, sum [32]byte) ([]byte, error) {
	if err := b.allow(id, actReadKey, ""); err != nil {
		return nil, err
	}
	return b.keys.Chain(sum)
}
