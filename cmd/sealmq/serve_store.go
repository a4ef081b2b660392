package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/cmd/sealmq/internal/bench"
	"github.com/sealmq/sealmq/engine/local"
	"github.com/sealmq/sealmq/internal/metrics"
	"github.com/sealmq/sealmq/journal"
)

func (n *node) openStore() error {
	if err := n.checkStoreIsThere(); err != nil {
		return err
	}
	counts := local.NewMetrics()
	began := time.Now()
	s := n.cfg.Storage
	e, err := local.Open(local.Config{
		Dir: storeFolder(n.cfg.Data), SegmentBytes: int(s.SegmentBytes), CacheBytes: int(s.CacheBytes),
		MaxPendingBytes: int(s.MaxPendingBytes), MinFreeBytes: int64(s.MinFreeBytes),
		Quarantine: s.Damage == "quarantine", DedupWindow: n.cfg.Dedup.Window, DedupIDs: n.cfg.Dedup.MaxIDs,
		MaxMessages: n.cfg.Limits.Messages,
		Committed:   counts.Committed, Log: n.logOf("broker"),
	})
	if err != nil {
		return storeHint(err)
	}
	n.engine = e
	if name, inMemory, err := bench.FileSystem(storeFolder(n.cfg.Data)); err == nil && inMemory {
		n.logOf("broker").Warn("the data folder is in memory: all messages are gone when the machine stops; name another folder with --data", "file_system", name, "data", n.cfg.Data)
	}
	queues, err := e.Queues()
	if err != nil {
		return err
	}
	messages := 0
	for _, q := range queues {
		messages += q.Ready
	}
	n.logOf("broker").Info("store opened", "queues", len(queues), "messages", messages, "took", time.Since(began))
	n.registryOf("broker").MustRegister(counts, local.NewCollector(e))
	return nil
}

// checkStoreIsThere refuses to begin an empty store beside the key of a directory that was in
// one: a volume may not be mounted.
func (n *node) checkStoreIsThere() error {
	if n.cfg.Storage.Damage == "quarantine" {
		return nil
	}
	dir := storeFolder(n.cfg.Data)
	if names, err := os.ReadDir(dir); err == nil && len(names) > 0 {
		return nil
	} else if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("read store folder: %w", err)
	}
	key := n.logKeyFile()
	if _, err := os.Stat(key); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return withHint(fmt.Errorf("the store %s is missing, and %s shows that there was one", dir, key),
		"mount or restore it, or start once with SEALMQ_STORAGE_DAMAGE=quarantine to begin with an empty store")
}

func (n *node) logKeyFile() string { return filepath.Join(n.cfg.Data, "directory", "log.key") }

const storeFailedHint = "no confirmed message is lost; check the disk and the system's log, then start the broker again"

// watchStore fails when the store does: nothing can be confirmed any more.
func (n *node) watchStore(ctx context.Context) error {
	select {
	case <-ctx.Done():
	case <-n.engine.Failed():
	}
	if ctx.Err() != nil || !n.storeReported.CompareAndSwap(false, true) { // closeStore reports what fails from now on
		return nil
	}
	return withHint(n.engine.Health(), storeFailedHint)
}

func (n *node) closeStore(context.Context) error {
	err := n.engine.Close()
	select {
	case <-n.engine.Failed():
		if !n.storeReported.CompareAndSwap(false, true) {
			return nil
		}
		return withHint(err, storeFailedHint)
	default:
		return err
	}
}

func storeHint(err error) error {
	var damage *journal.DamageError
	switch {
	case errors.As(err, &damage):
		return withHint(err, `"sealmq journal check" shows all damage; restore a backup, or start once with SEALMQ_STORAGE_DAMAGE=quarantine to set the damaged records aside`)
	case errors.Is(err, journal.ErrNewer):
		return withHint(err, "run the version of sealmq that wrote this folder, or a newer one")
	}
	return err
}

// storeReady fails also while the store hangs: clients had to wait here.
func (n *node) storeReady() (metrics.Status, string) {
	status, reason := n.storeStatus()
	if sealmq.CodeOf(n.engine.Health()) == sealmq.Unavailable {
		status = metrics.Failing
	}
	return status, reason
}

func (n *node) storeStatus() (metrics.Status, string) {
	err := n.engine.Health()
	if err == nil {
		return metrics.OK, ""
	}
	select {
	case <-n.engine.Failed():
		return metrics.Failing, err.Error()
	default:
		return metrics.Degraded, err.Error()
	}
}
