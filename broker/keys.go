package broker

import (
	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
	"github.com/sealmq/sealmq/keydir/keylog"
	"github.com/sealmq/sealmq/seal"
)

// The key directory is package keylog's. The broker decides what callers may do, keeps the
// directory's definitions among the engine's, and tells the audit of changes.

// DirectoryConfig switches the proven key directory on: entries that their owners have
// signed, and a log of everything that was ever put into the directory.
type DirectoryConfig struct {
	// Signer signs the log's checkpoints. It must stay the same for the life of the store:
	// clients take a log with another signer for another log.
	Signer *keylog.Signer
	// Verifier says whose the certificates of an entry are.
	Verifier seal.Verifier
}

// Keys is the key directory. Its methods ask the broker what a caller may do.
func (b *Broker) Keys() *keylog.Log { return b.keys }

// openKeys reads the key directory from the definitions of the engine.
func (b *Broker) openKeys(stored []engine.Definition, d *DirectoryConfig) (*keylog.Log, error) {
	cfg := keylog.Config{
		Define: func(batch []keylog.Definition, done func(error)) {
			list := make([]engine.Definition, len(batch))
			for i, d := range batch {
				list[i] = engine.Definition(d)
			}
			b.engine.Define(list, done)
		},
		Allow: func(by sealmq.Identity, act keylog.Action, name string) error {
			return b.allow(Caller{Identity: by}, action(act), name)
		},
		Changed: b.keyChanged,
		Limits:  keylog.Limits{Keys: b.limits.Keys, Records: b.limits.KeyLog, Changes: b.limits.KeyChanges, Chains: b.limits.Chains},
		Log:     b.log,
		Now:     b.clock.Now,
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

func (b *Broker) keyChanged(by sealmq.Identity, act keylog.Action, name string, err error) {
	if act != keylog.StoreChain {
		b.Audit(Caller{Identity: by}, string(act), name, err)
	}
	b.metrics.setKeys(b.keys.Counts())
}
