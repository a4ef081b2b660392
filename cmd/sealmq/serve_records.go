package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/pipeline/mainserver"
	"github.com/sealmq/sealmq/pipeline/records"
)

// openRecords opens the database and what the main server needs of keys.
func (n *node) openRecords() error {
	dir := n.pipelineFolder()
	if err := durable.MkdirAll(durable.OS(), dir, 0o700); err != nil {
		return err
	}
	database, err := n.cfg.Main.database()
	if err != nil {
		return err
	}
	cfg := records.Config{URL: cmp.Or(database, "sqlite:"+filepath.Join(dir, "records.db")),
		AuditMessages: n.cfg.Main.Audit == "messages", Log: n.logOf("main")}
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
		if n.cfg.Main.Database == "" || errors.Is(err, records.ErrOldSystem) {
			return err
		}
		return withHint(err, "check main.database")
	}
	seen := seenDatabase{file: filepath.Join(dir, "database.seen"), name: databaseName(n.cfg.Main.Database)}
	if create {
		if err := seen.check(); err != nil {
			return err
		}
	}
	note := func(made bool, file string) {
		if made {
			n.logOf("main").Info("made", "file", file)
		}
	}
	var made bool
	if n.pipeline.keys, made, err = mainserver.OpenKeys(sealing, create, n.signerOf(sealmq.RoleServer)); err != nil {
		return err
	}
	note(made, sealing)
	if create && !made {
		n.logOf("main").Warn("the database is new, but its keys are not; if messages were stored before, stop this process, and correct main.database or restore the database")
	}
	cfg.SealingKeys = n.pipeline.keys.Fingerprints()
	if n.pipeline.idKey, made, err = mainserver.OpenIDKey(ids, create); err != nil {
		return err
	}
	note(made, ids)
	cfg.IDKey = mainserver.IDKeyFingerprint(n.pipeline.idKey)
	if cfg.Keys, err = loadRecordKeys(dir, "records", create); err != nil {
		return err
	}
	if cfg.Numbers, err = loadHasher(dir, create); err != nil {
		return err
	}
	n.pipeline.newKeys = make(chan struct{}, 1)
	if n.pipeline.store, err = records.Open(context.Background(), cfg); err != nil {
		return nameKey(err, dir)
	}
	if is, err := records.IsNew(context.Background(), cfg); is || err != nil {
		return nil // it is away
	}
	if err := seen.note(); err != nil {
		n.logOf("main").Warn("a database that goes missing will not be noticed", "error", err)
	}
	return nil
}

// passwordFits reports whether the address of a database has a user without a password.
func passwordFits(address string) bool {
	_, rest, ok := strings.Cut(address, "://")
	at := strings.LastIndex(rest, "@")
	return ok && at > 0 && !strings.Contains(rest[:at], ":")
}

var errPasswordFile = errors.New("main.password_file: main.database must be mysql://USER@HOST:PORT/NAME, without a password of its own")

// database is main.database with the password of main.password_file.
func (c *MainConfig) database() (string, error) {
	if c.PasswordFile == "" {
		return c.Database, nil
	}
	if !passwordFits(c.Database) {
		return "", errPasswordFile
	}
	password, err := readPassword(c.PasswordFile)
	if err != nil {
		return "", fmt.Errorf("main.password_file: %w", err)
	}
	at := strings.LastIndex(c.Database, "@")
	return c.Database[:at] + ":" + url.PathEscape(password) + c.Database[at:], nil
}

// checkDatabase reports why the database cannot be used as it is.
func (c *MainConfig) checkDatabase(ctx context.Context) error {
	database, err := c.database()
	if err != nil {
		return err
	}
	cfg := records.Config{URL: database}
	if _, err := records.IsNew(ctx, cfg); err != nil {
		return err
	}
	why, err := records.RiskAt(ctx, cfg)
	if why != "" {
		return errors.New(why)
	}
	return err
}

// seenDatabase is a file that says which database the main server had, so that another one
// is not begun in its place in silence when it has gone.
type seenDatabase struct{ file, name string }

// databaseName is main.database without password.
func databaseName(setting string) string {
	u, err := url.Parse(setting)
	if err != nil || setting == "" {
		return "pipeline/records.db"
	}
	u.User, u.RawQuery = nil, ""
	return u.String()
}

// check refuses a database that is empty and was not.
func (s seenDatabase) check() error {
	seen, err := durable.ReadFile(durable.OS(), s.file, maxSetting)
	if durable.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if strings.TrimSpace(string(seen)) != s.name {
		return nil // the setting was changed
	}
	return withHint(fmt.Errorf("the database %s is missing or empty, and %s shows that there was one", s.name, s.file),
		"mount or restore it, or remove %s to begin with an empty database", s.file)
}

// maxSetting bounds the file.
const maxSetting = 4096

// note writes the file, unless it says this already.
func (s seenDatabase) note() error {
	if seen, err := durable.ReadFile(durable.OS(), s.file, maxSetting); err == nil && strings.TrimSpace(string(seen)) == s.name {
		return nil
	}
	return durable.WriteFile(durable.OS(), s.file, []byte(s.name+"\n"), 0o600)
}

// nameKey names the file of a key that is not the database's.
func nameKey(err error, dir string) error {
	other, ok := errors.AsType[*records.OtherKeyError](err)
	if !ok {
		return err
	}
	switch {
	case other.Missing:
		return err
	case other.Key == "ids":
		return withHint(fmt.Errorf("%s: %w", filepath.Join(dir, "ids.key"), err), "with another key, a message that is submitted again would be stored twice")
	case other.Key == "sealing":
		return withHint(fmt.Errorf("%s: %w", filepath.Join(dir, "sealing.key"), err), "messages in the queue are sealed for that key, and no other key opens them; "+
			"if it is lost, so are they: delete the row sealing_key_fingerprint of the table settings, and start again")
	}
	paths, errDir := recordKeys(dir, other.Key)
	if errDir != nil {
		return errors.Join(err, errDir)
	}
	return withHint(fmt.Errorf("%s: %w", paths[other.Version], err), `no other key reads what is stored; "sealmq key rotate-records" makes a new one beside it`)
}

const recordsFailedHint = "no message that was answered is lost; check the disk and the system's log, then start again"

// watchRecords fails when the database does: after a failed sync nobody knows what is in its
// file.
func (n *node) watchRecords(ctx context.Context) error {
	select {
	case <-ctx.Done():
	case <-n.pipeline.store.Failed():
	}
	if ctx.Err() != nil || !n.recordsReported.CompareAndSwap(false, true) { // closeRecords reports what fails from now on
		return nil
	}
	return withHint(n.pipeline.store.Failure(), recordsFailedHint)
}

func (n *node) closeRecords(context.Context) error {
	err := n.pipeline.store.Close()
	if failure := n.pipeline.store.Failure(); failure != nil && n.recordsReported.CompareAndSwap(false, true) {
		err = errors.Join(withHint(failure, recordsFailedHint), err)
	}
	return err
}
