package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/engine/local"
	"github.com/sealmq/sealmq/internal/backup"
	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/pipeline/records"
)

// This file has what goes into a backup, and under which name.
//
// The store comes first, and the database after it: a message is taken out of the queue when it
// is in the database, so that in this order it is in the backup at least once. The keys come last.

// Names in a backup.
const (
	backupData   = "data" // the data folder
	backupLogs   = "logs"
	backupConfig = "config/sealmq.yaml"
	backupScopes = "scope_keys.jsonl" // in the key backup
)

// backupLogDays is how old a log can be that is backed up.
const backupLogDays = 7

// maxSecret bounds a file with keys.
const maxSecret = 16 << 20

// backupContent is the content of a node's backups.
type backupContent struct {
	cfg    Config
	engine *local.Engine // nil: nobody has the store open
	store  bool          // the store is part of it
	main   bool          // the database is part of it
}

// fill writes everything but keys.
func (b *backupContent) fill(ctx context.Context, c backup.Content) error {
	if err := b.addStore(ctx, c); err != nil {
		return err
	}
	if err := b.addRecords(ctx, c); err != nil {
		return err
	}
	if b.cfg.Redis.set() {
		c.Note(backup.Component{Name: "redis", Detail: "the queue is in Redis elsewhere; back up its appendonly file or dump.rdb with its own tools, before the database"})
	}
	if err := b.addFiles(c); err != nil {
		return err
	}
	if err := b.addLogs(c); err != nil {
		return err
	}
	c.Note(backup.Component{Name: "configuration", Included: true, Detail: "without passwords; files that it names outside the data folder are not included"})
	return c.Add(backupConfig, strings.NewReader(b.cfg.withoutSecrets()))
}

func (b *backupContent) addStore(ctx context.Context, c backup.Content) error {
	if !b.store {
		c.Note(backup.Component{Name: "store", Detail: "this node is no broker"})
		return nil
	}
	c.Note(backup.Component{Name: "store", Included: true, Detail: "queues, messages, key directory"})
	add := func(name string, _ int64, content io.Reader) error {
		return c.Add(path.Join(backupData, "store", name), content)
	}
	if b.engine != nil {
		return b.engine.Copy(ctx, add)
	}
	dir := storeFolder(b.cfg.Data)
	unlock, err := durable.OS().Lock(dir)
	if err != nil {
		return fmt.Errorf("lock the store: %w", err)
	}
	defer unlock() //nolint:errcheck // it ends with the process at the latest
	return walkFiles(dir, func(name, file string, _ os.FileInfo) error {
		if name == "ballast" {
			return nil
		}
		return addFile(c, path.Join(backupData, "store", name), file)
	})
}

func (b *backupContent) addRecords(ctx context.Context, c backup.Content) error {
	if !b.main {
		c.Note(backup.Component{Name: "records", Detail: "this node is no main server"})
		return nil
	}
	cfg, err := b.records()
	if err != nil {
		return err
	}
	c.Note(backup.Component{Name: "records", Included: true, Detail: "without the keys of texts, logins and links for passwords"})
	return records.Backup(ctx, cfg, b.cfg.backupFolder(), func(bytes int64) error {
		return backup.CheckSpace(b.cfg.backupFolder(), bytes+int64(b.cfg.Storage.MinFreeBytes))
	}, c.Add)
}

// records is the configuration of the database.
func (b *backupContent) records() (records.Config, error) {
	database, err := b.cfg.Main.database()
	return records.Config{URL: cmp.Or(database, "sqlite:"+b.cfg.recordsFile())}, err
}

// recordsFile is the database if the configuration names none.
func (c *Config) recordsFile() string { return filepath.Join(c.Data, "pipeline", "records.db") }

// backupFolder is where backups are.
func (c *Config) backupFolder() string {
	return cmp.Or(c.Backup.Folder, filepath.Join(c.Data, "backups"))
}

// addFiles adds the files of the data folder that are not secret.
func (b *backupContent) addFiles(c backup.Content) error {
	c.Note(backup.Component{Name: "certificates", Included: true, Detail: "without private keys"})
	return b.walk(func(name, file string) error {
		if isSecret(name, file) {
			return nil
		}
		return addFile(c, path.Join(backupData, name), file)
	})
}

// keys writes the key backup: what is secret in the data folder, and the keys of texts.
func (b *backupContent) keys(ctx context.Context, k *backup.Keys) error {
	if b.main {
		cfg, err := b.records()
		var text bytes.Buffer
		if err == nil {
			err = records.BackupKeys(ctx, cfg, &text)
		}
		if err == nil {
			err = k.Add(backupScopes, text.Bytes())
		}
		if err != nil {
			return err
		}
	}
	return b.walk(func(name, file string) error {
		if !isSecret(name, file) {
			return nil
		}
		content, err := durable.ReadFile(durable.OS(), file, maxSecret)
		if durable.IsNotExist(err) { // removed meanwhile
			return nil
		}
		if err != nil {
			return err
		}
		return k.Add(path.Join(backupData, name), content)
	})
}

// walk visits the files of the data folder that outlive a run, without store and database, and
// without what a restore has put there: the next restore writes files of these names. The
// authority's files fit each other: it changes nothing meanwhile.
func (b *backupContent) walk(f func(name, file string) error) error {
	database := strings.TrimPrefix(cmp.Or(b.cfg.Main.Database, "sqlite:"+b.cfg.recordsFile()), "sqlite:")
	skip := []string{storeFolder(b.cfg.Data), nodesFolder(b.cfg.Data), restoredFolder(b.cfg.Data), b.cfg.backupFolder(), b.cfg.logFolder()}
	for _, suffix := range []string{"", "-wal", "-shm", "-journal"} {
		skip = append(skip, database+suffix)
	}
	visit := func(authority bool) error {
		return walkFiles(b.cfg.Data, func(name, file string, _ os.FileInfo) error {
			top, _, _ := strings.Cut(name, "/")
			if slices.Contains([]string{"ca", "certs", "crl"}, top) != authority {
				return nil
			}
			return f(name, file)
		}, skip...)
	}
	if exists(filepath.Join(b.cfg.Data, "ca")) {
		unlock, err := ca.Lock(b.cfg.Data)
		if err == nil {
			err = errors.Join(visit(true), unlock())
		}
		if err != nil {
			return err
		}
	}
	return visit(false)
}

// isPublic are the files of a data folder that anybody may read; what is not known is secret.
var isPublic = []string{"*.crt", "audit/*.jsonl", "ca/issued.jsonl", "ca/issued.count", "ca/revocations.jsonl", "crl/*", "revoked.txt",
	"pipeline/database.seen", "pipeline/revocations-*.json"}

func isSecret(name, file string) bool {
	public := slices.ContainsFunc(isPublic, func(pattern string) bool {
		ok, _ := path.Match(pattern, name)
		base, _ := path.Match(pattern, path.Base(name))
		return ok || base
	})
	if !public || !strings.HasSuffix(name, ".crt") {
		return !public
	}
	b, err := durable.ReadFile(durable.OS(), file, maxSecret)
	return err != nil || bytes.Contains(b, []byte("PRIVATE KEY"))
}

func (b *backupContent) addLogs(c backup.Content) error {
	dir := b.cfg.logFolder()
	if dir == "" {
		c.Note(backup.Component{Name: "logs", Detail: "no log files are written"})
		return nil
	}
	c.Note(backup.Component{Name: "logs", Included: true, Detail: fmt.Sprintf("of the last %d days", backupLogDays)})
	oldest := time.Now().AddDate(0, 0, -backupLogDays)
	return walkFiles(dir, func(name, file string, info os.FileInfo) error {
		if info.ModTime().Before(oldest) {
			return nil
		}
		return addFile(c, path.Join(backupLogs, name), file)
	})
}

// withoutSecrets is the configuration that is in effect, as a file.
func (c *Config) withoutSecrets() string {
	var b strings.Builder
	b.WriteString("# The configuration of the node whose backup this is. \"***\" stands for what is secret.\n")
	section := ""
	for _, f := range c.fields() {
		name, key, ok := strings.Cut(f.key, ".")
		if !ok {
			name, key = "", name
		}
		if name != section {
			fmt.Fprintf(&b, "%s:\n", name)
			section = name
		}
		if ok {
			b.WriteString("  ")
		}
		fmt.Fprintf(&b, "%s: %q\n", key, f.shown())
	}
	return b.String()
}

// addFile adds a file that may be gone, and may grow meanwhile.
func addFile(c backup.Content, name, file string) error {
	f, err := durable.OpenNow(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	return c.Add(name, io.LimitReader(f, info.Size()))
}

// maxDepth bounds how deep folders are looked into, also if a link leads back.
const maxDepth = 8

// walkFiles visits the regular files below a folder, also behind links, but not those that are
// only for the moment.
func walkFiles(dir string, f func(name, file string, info os.FileInfo) error, skip ...string) error {
	for i := range skip {
		skip[i] = filepath.Clean(skip[i])
	}
	var walk func(name string) error
	walk = func(name string) error {
		entries, err := os.ReadDir(filepath.Join(dir, filepath.FromSlash(name)))
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, e := range entries {
			name := path.Join(name, e.Name())
			file := filepath.Join(dir, filepath.FromSlash(name))
			info, err := os.Stat(file)
			switch {
			case e.Name() == "LOCK", strings.HasSuffix(e.Name(), ".tmp"), slices.Contains(skip, file), errors.Is(err, os.ErrNotExist):
			case err != nil:
				return err
			case info.IsDir() && strings.Count(name, "/") < maxDepth:
				err = walk(name)
			case info.Mode().IsRegular():
				err = f(name, file, info)
			}
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
		return nil
	}
	return walk("")
}
