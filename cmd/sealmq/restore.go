package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq/engine/local"
	"github.com/sealmq/sealmq/internal/backup"
	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/pipeline/records"
)

// restoreFlags say how to restore.
type restoreFlags struct {
	keys        string
	withoutKeys bool
	replace     bool
	pass        *passphraseFlag
}

func newRestoreCmd() *cobra.Command {
	f := &restoreFlags{}
	cmd := &cobra.Command{
		Use:   "restore FILE",
		Short: "Put a backup back into the data folder",
		Long: `Put a backup back into the data folder of a node that does not run, with the keys of the key backup. Everything is
checked before anything is changed: what the manifest names, every checksum, the keys, and the journal. What is in the
data folder is not overwritten: --replace puts it aside, and the command says where.

Certificates that were revoked since the backup stay revoked, because their record is also kept beside the data folder.
Everybody has to log in again.`,
		Example: `  sealmq restore backups/backup_20260301_020000.zip
  sealmq restore backup_20260301_020000.zip --keys backup_keys.age --replace`,
	}
	cmd.Flags().StringVar(&f.keys, "keys", "", "`file` with the key backup (default: "+backup.KeysName+" beside FILE)")
	cmd.Flags().BoolVar(&f.withoutKeys, "without-keys", false, "restore what needs no keys: nobody will read the stored texts, and certificates have no keys")
	cmd.Flags().BoolVar(&f.replace, "replace", false, "put aside what is there")
	f.pass = addPassphraseFlag(cmd)
	return standalone(checked(cmd, func() error {
		if f.keys != "" && f.withoutKeys {
			return usagef("--keys and --without-keys cannot be combined")
		}
		return nil
	}), func(a call) error { return restore(a, f) })
}

// A restoration is one run of the command.
type restoration struct {
	a        call
	cfg      Config
	f        *restoreFlags
	backup   *backup.Reader
	data     string // the data folder, behind links
	stage    string // what becomes the data folder
	database string // where the database's file goes; in stage, or beside where it belongs
	records  string // the address of the database, until everything is in place
	aside    []string
	scopes   int
}

func restore(a call, f *restoreFlags) (err error) {
	cfg, err := loadConfig(a.cmd)
	if err != nil {
		return err
	}
	r := &restoration{a: a, cfg: cfg, f: f, data: filepath.Clean(cfg.Data)}
	if behind, err := filepath.EvalSymlinks(r.data); err == nil {
		r.data = behind
	}
	unlock, err := r.check()
	if err != nil {
		return err
	}
	defer unlock()
	r.backup, err = backup.Open(a.args[0])
	if errors.Is(err, os.ErrNotExist) {
		return withHint(err, "name one of the backups in %s", cfg.backupFolder())
	}
	if err != nil {
		return err
	}
	defer r.backup.Close()
	if err := r.checkDatabase(); err != nil {
		return err
	}
	r.stage = r.data + ".restoring"
	if err := os.RemoveAll(r.stage); err != nil {
		return err
	}
	err = cmp.Or(r.fill(), a.ctx.Err())
	if err == nil {
		unlock() // a folder with open files cannot be renamed on every system
		_ = r.backup.Close()
		err = r.swap()
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(r.stage))
	}
	return r.report()
}

// check refuses while a node uses the folder, and if something would be overwritten.
func (r *restoration) check() (unlock func(), err error) {
	node, err := runningNode(r.a, r.cfg.Data)
	if err != nil {
		return nil, err
	}
	if node != nil {
		return nil, withHint(fmt.Errorf("%s runs with the data folder %s", node.Node, r.cfg.Data), "stop it, or name another folder with --data")
	}
	if len(r.occupied()) > 0 && !r.f.replace {
		return nil, withHint(fmt.Errorf("%s is not empty", r.cfg.Data), "name another folder with --data, or put aside what is there with --replace")
	}
	free, err := durable.OS().Lock(storeFolder(r.data))
	switch {
	case durable.IsNotExist(err):
		return func() {}, nil
	case err != nil:
		return nil, fmt.Errorf("lock the store: %w", err)
	}
	return func() { _ = free() }, nil
}

// occupied is what is in the data folder, without backups.
func (r *restoration) occupied() (names []string) {
	entries, _ := os.ReadDir(r.data)
	for _, e := range entries {
		if filepath.Join(r.cfg.Data, e.Name()) != filepath.Clean(r.cfg.backupFolder()) {
			names = append(names, e.Name())
		}
	}
	return names
}

// checkDatabase finds out where the database goes.
func (r *restoration) checkDatabase() error {
	r.database = filepath.Join(r.data+".restoring", "pipeline", "records.db")
	if r.backup.Has(records.BackupDump) {
		return r.checkServer()
	}
	defer func() { r.records = "sqlite:" + r.database }()
	if !r.backup.Has(records.BackupFile) || r.cfg.Main.Database == "" {
		return nil
	}
	file, ok := strings.CutPrefix(r.cfg.Main.Database, "sqlite:")
	if !ok {
		return withHint(errors.New("the backup has an SQLite database, and main.database names a server"), "leave main.database empty, or restore with the configuration of the backup")
	}
	file = strings.TrimPrefix(file, "///")
	if in, err := filepath.Rel(r.cfg.Data, file); err == nil && filepath.IsLocal(in) {
		r.database = filepath.Join(r.data+".restoring", in)
		return nil
	}
	if exists(file) && !r.f.replace {
		return withHint(fmt.Errorf("there is a database in %s", file), "name another one in main.database, or put it aside with --replace")
	}
	r.database = file + ".restoring"
	return os.RemoveAll(r.database)
}

// checkServer checks that there is an empty database on a server for the dump in the backup.
func (r *restoration) checkServer() error {
	address, err := r.cfg.Main.database()
	if err != nil {
		return err
	}
	if address == "" || strings.HasPrefix(address, "sqlite:") {
		return withHint(errors.New("the backup has a database of MySQL or MariaDB, and main.database names no server"), "make an empty database there, and name it in main.database")
	}
	r.records = address
	err = records.CheckEmpty(r.a.ctx, records.Config{URL: address})
	if errors.Is(err, records.ErrNotEmpty) {
		return withHint(fmt.Errorf("main.database: %w", err), "make an empty one beside it, and name that in main.database; nothing on a server is overwritten")
	}
	return err
}

// restoredFolder has the logs and the configuration of a backup, for a person to look at.
func restoredFolder(data string) string { return filepath.Join(data, "restored") }

// fill makes the new folder.
func (r *restoration) fill() error {
	err := r.backup.Extract(func(name string) string {
		if in, ok := strings.CutPrefix(name, backupData+"/"); ok {
			return filepath.Join(r.stage, filepath.FromSlash(in))
		}
		if name == records.BackupFile {
			return r.database
		}
		return filepath.Join(restoredFolder(r.stage), filepath.FromSlash(name))
	})
	if err != nil {
		return err
	}
	scopes, err := r.fillKeys()
	if err != nil {
		return err
	}
	if exists(storeFolder(r.stage)) {
		in, err := local.Inspect(durable.OS(), storeFolder(r.stage), nil)
		if err == nil && len(in.Report.Damage)+len(in.Problems) > 0 {
			err = errors.New("the store in the backup is damaged; take an earlier backup")
		}
		if err != nil {
			return err
		}
	}
	return r.fillDatabase(scopes)
}

// fillDatabase fills a database on a server, and adds the keys of texts to it or to the file. On a
// server it is the one thing that a failure leaves, so it comes last.
func (r *restoration) fillDatabase(scopes string) error {
	cfg := records.Config{URL: r.records}
	addKeys := func() error {
		if scopes == "" {
			return nil
		}
		return withFile(scopes, func(in *os.File) (err error) {
			r.scopes, err = records.RestoreKeys(r.a.ctx, cfg, in)
			return err
		})
	}
	if dump := filepath.Join(restoredFolder(r.stage), filepath.FromSlash(records.BackupDump)); exists(dump) {
		err := withFile(dump, func(in *os.File) error { return records.RestoreDump(r.a.ctx, cfg, in, addKeys) })
		return withHint(err, "empty the database again before the next try")
	}
	if !exists(r.database) {
		return nil
	}
	return addKeys()
}

// withFile reads a file for the last time.
func withFile(name string, read func(*os.File) error) error {
	in, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(read(in), in.Close(), os.Remove(name))
}

// fillKeys adds the keys that are files, and returns the file with those of texts, if there are any.
func (r *restoration) fillKeys() (scopes string, err error) {
	if r.f.withoutKeys {
		return "", nil
	}
	name := cmp.Or(r.f.keys, filepath.Join(filepath.Dir(r.a.args[0]), backup.KeysName))
	file, err := durable.OpenNow(name)
	if errors.Is(err, os.ErrNotExist) {
		return "", withHint(fmt.Errorf("there is no key backup %s", name), "name it with --keys, or restore with --without-keys what needs none: stored texts cannot be read then")
	}
	if err != nil {
		return "", err
	}
	defer file.Close()
	passphrase, err := r.f.pass.read(fmt.Sprintf("Passphrase of %s: ", name))
	if err != nil {
		return "", err
	}
	err = backup.ReadKeys(file, passphrase, func(name string, content io.Reader) error {
		in, ok := strings.CutPrefix(name, backupData+"/")
		to := filepath.Join(r.stage, filepath.FromSlash(in))
		if name == backupScopes {
			to = filepath.Join(r.stage, backupScopes)
			scopes = to
		} else if !ok {
			return fmt.Errorf("the key backup has %q, which this program does not know", name)
		}
		out, err := backup.Create(to)
		if err != nil {
			return err
		}
		_, err = io.Copy(out, content)
		if err == nil {
			err = out.Sync()
		}
		return errors.Join(err, out.Close())
	})
	if err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	return scopes, nil
}

// swap puts the new folder into the place of the old one. A crash in between leaves both, under
// the names that the command uses.
func (r *restoration) swap() error {
	occupied := len(r.occupied()) > 0
	aside := r.data + r.suffix()
	if exists(r.data) {
		if err := os.Rename(r.data, aside); err != nil {
			return withHint(err, "the folder itself cannot be replaced, perhaps because a disk is mounted there; restore into another one with --data")
		}
		if occupied {
			r.aside = append(r.aside, aside)
		}
	}
	if err := os.Rename(r.stage, r.data); err != nil {
		return errors.Join(err, os.Rename(aside, r.data))
	}
	if in, err := filepath.Rel(r.cfg.Data, r.cfg.backupFolder()); err == nil && filepath.IsLocal(in) && exists(filepath.Join(aside, in)) {
		if err := os.Rename(filepath.Join(aside, in), filepath.Join(r.data, in)); err != nil {
			r.a.note("the backups stay in %s: %v", aside, err)
		}
	}
	if !occupied && exists(aside) {
		_ = os.Remove(aside) // nothing but backups was in it
	}
	if file, ok := strings.CutSuffix(r.database, ".restoring"); ok && exists(r.database) {
		if exists(file) {
			kept := file + strings.TrimPrefix(aside, r.data)
			for _, suffix := range []string{"-wal", "-shm", ""} {
				if err := os.Rename(file+suffix, kept+suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
					return err
				}
			}
			r.aside = append(r.aside, kept)
		}
		if err := os.Rename(r.database, file); err != nil {
			return err
		}
	}
	return durable.OS().SyncDir(filepath.Dir(r.data))
}

// suffix is for the names of what the restore replaces, which nothing has yet.
func (r *restoration) suffix() string {
	file := strings.TrimSuffix(r.database, ".restoring")
	for at := time.Now().UTC(); ; at = at.Add(time.Second) {
		suffix := ".before-restore-" + at.Format("20060102-150405")
		if !exists(r.data+suffix) && !exists(file+suffix) {
			return suffix
		}
	}
}

// report says what was restored, and how to go on.
func (r *restoration) report() error {
	m := &r.backup.Manifest
	v := result{"backup": m, "data": r.cfg.Data, "aside": slices.Clip(r.aside), "scope_keys": r.scopes}
	if err := r.a.report(nil, v, "restored the backup of %s, %s in %d files, to %s", m.BackupDate.Local().Format("2006-01-02 15:04:05 MST"), bytesText(m.TotalSize), len(m.Files), r.cfg.Data); err != nil {
		return err
	}
	for _, c := range m.Components {
		if !c.Included && c.Name != "keys" {
			r.a.note("not in the backup: %s: %s", c.Name, c.Detail)
		}
	}
	for _, dir := range r.aside {
		r.a.note("what was there is in %s", dir)
	}
	if r.f.withoutKeys {
		r.a.note("no keys were restored: put those that you have into their places before the start")
	}
	r.a.note("compare the configuration with %s, then start the node with: sealmq serve", filepath.Join(restoredFolder(r.cfg.Data), "config", "sealmq.yaml"))
	if exists(storeFolder(r.data)) {
		r.a.note("clients that saw the key directory later than the backup refuse it until an administrator attests the restore: sealmq key attest-restore; then each of them accepts it once: sealmq key accept-restore")
	}
	return nil
}
