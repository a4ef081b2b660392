package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/pipeline/mainserver"
	"github.com/sealmq/sealmq/pipeline/records"
	"github.com/sealmq/sealmq/pipeline/records/atrest"
)

// openRecords opens the database and what the main server needs of keys.
func (n *node) openRecords() error {
	dir := n.pipelineFolder()
	if err := durable.MkdirAll(durable.OS(), dir, 0o700); err != nil {
		return err
	}
	cfg := records.Config{URL: cmp.Or(n.cfg.Main.Database, "sqlite:"+filepath.Join(dir, "records.db")), AutoRegister: true,
		AuditMessages: n.cfg.Main.Audit == "messages", Log: n.log}
	// The keys are made together with the database, and before it: a crash in between leaves no
	// database without keys. Later a missing key is an error, because no other one can stand in.
	sealing, ids := filepath.Join(dir, "sealing.key"), filepath.Join(dir, "ids.key")
	create, err := records.IsNew(context.Background(), cfg)
	if records.IsAway(err) {
		if _, errKey := os.Stat(sealing); errKey != nil {
			return withHint(err, "the first start needs the database, to make the keys together with it")
		}
		err = nil // Open waits for it
	}
	if err != nil {
		if n.cfg.Main.Database == "" {
			return err
		}
		return withHint(err, "check main.database")
	}
	note := func(made bool, file string) {
		if made {
			n.log.Info("made", "file", file)
		}
	}
	var made bool
	if n.pipeline.keys, made, err = mainserver.OpenKeys(sealing, create, n.signerOf(sealmq.RoleServer)); err != nil {
		return err
	}
	note(made, sealing)
	if create && !made {
		n.log.Warn("the database is new, but its keys are not; if messages were stored before, stop this process, and correct main.database or restore the database")
	}
	if n.pipeline.idKey, made, err = mainserver.OpenIDKey(ids, create); err != nil {
		return err
	}
	note(made, ids)
	if cfg.Keys, err = loadRecordKeys(dir, "records", create); err != nil {
		return err
	}
	numbers, err := loadRecordKeys(dir, "numbers", create)
	if err != nil {
		return err
	}
	cfg.Numbers = atrest.NewHasher(numbers, nil)
	n.pipeline.store, err = records.Open(context.Background(), cfg)
	return nameKey(err, dir)
}

// nameKey names the file of a key that is not the database's.
func nameKey(err error, dir string) error {
	other, ok := errors.AsType[*records.OtherKeyError](err)
	if !ok {
		return err
	}
	name := "records"
	if other.Numbers {
		name = "numbers"
	}
	paths, errDir := recordKeys(dir, name)
	if errDir != nil {
		return errors.Join(err, errDir)
	}
	return withHint(fmt.Errorf("%s: %w", paths[other.Version], err), `no other key reads what is stored; "sealmq key rotate-records" makes a new one beside it`)
}

// watchRecords fails when the database does: after a failed sync nobody knows what is in its
// file.
func (n *node) watchRecords(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-n.pipeline.store.Failed():
		return withHint(n.pipeline.store.Failure(), "no message that was answered is lost; check the disk and the system's log, then start again")
	}
}
