package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/pipeline/records"
	"github.com/sealmq/sealmq/pipeline/records/atrest"
)

func newDatabaseCmd() *cobra.Command {
	return group("database", "Take over the database of the earlier Python system", newDatabaseAdoptCmd())
}

// adoptFlags are what the operator says about the earlier system.
type adoptFlags struct {
	key, salt      string
	noSalt         bool
	snapshot       string
	snapshotExists bool
	dryRun         bool
	keepUnreadable bool
}

func newDatabaseAdoptCmd() *cobra.Command {
	var f adoptFlags
	cmd := &cobra.Command{
		Use:   "adopt --key FILE --salt-file FILE --snapshot FILE",
		Short: "Take over the MySQL or MariaDB database of the earlier Python system, where it is",
		Long: `Turn the database that main.database names into one of SealMQ. Messages, accounts with their passwords, clients
and the audit log stay, and so do all columns of the earlier system. Its encryption key becomes a key of the data
folder, and names that are revoked in the database are revoked in the authority too.

Stop the earlier system first, and make a snapshot: nothing else leads back. --dry-run looks at every row, prints
what would be done, and changes nothing. A run that was interrupted is started again, with the same flags.

The main server brings the stored texts to a new key when it runs. Its search finds earlier messages by number
with the salt of their hashes (HASH_SALT). "Move from the Python message broker" in the documentation has every step.`,
		Example: `  sealmq database adopt --key encryption.key --salt-file salt.txt --dry-run
  sealmq database adopt --key encryption.key --salt-file salt.txt --snapshot before.sql`,
	}
	flags := cmd.Flags()
	flags.StringVar(&f.key, "key", "", "`file` with the earlier system's encryption key")
	flags.StringVar(&f.salt, "salt-file", "", "`file` with the salt of its number hashes, the value of HASH_SALT")
	flags.BoolVar(&f.noSalt, "no-salt", false, "the salt is lost: the search by number does not find earlier messages")
	flags.StringVar(&f.snapshot, "snapshot", "", "`file` that mariadb-dump or mysqldump wrote, which is looked at")
	flags.BoolVar(&f.snapshotExists, "snapshot-exists", false, "there is a snapshot of another kind")
	flags.BoolVar(&f.dryRun, "dry-run", false, "print what would be done, and change nothing")
	flags.BoolVar(&f.keepUnreadable, "keep-unreadable", false, "go on although the key does not open some messages, which stay as they are")
	return configured(checked(cmd, func() error {
		switch {
		case f.key == "":
			return usage(errors.New("--key is missing"), "name the file of the earlier system's encryption key, ENCRYPTION_KEY_PATH or AES_KEY_PATH in its environment")
		case f.salt == "" && !f.noSalt && !f.dryRun:
			return usage(errors.New("--salt-file is missing"), "write the value of HASH_SALT into a file that only you can read, or say --no-salt if it is lost")
		case f.salt != "" && f.noSalt, f.snapshot != "" && f.snapshotExists:
			return usagef("--salt-file and --no-salt, and --snapshot and --snapshot-exists, cannot be combined")
		}
		return nil
	}), func(a call, cfg Config) error { return adopt(a, cfg, f) })
}

func adopt(a call, cfg Config, f adoptFlags) error {
	database, err := cfg.Main.database()
	if err == nil && database == "" {
		err = withHint(errors.New("main.database names no database"), "set main.database, DATABASE_URL or SEALMQ_MAIN_DATABASE to the address of the earlier system's database")
	}
	if err != nil {
		return err
	}
	dir := filepath.Join(cfg.Data, "pipeline")
	keys, err := planKeys(dir, f.key)
	if err != nil {
		return err
	}
	old, err := records.OpenOld(a.ctx, records.Config{URL: database, Keys: keys})
	if errors.Is(err, records.ErrAdopted) {
		if !f.dryRun {
			if err := records.FinishAdoption(a.ctx, records.Config{URL: database}); err != nil {
				return err
			}
		}
		return a.report(nil, result{"adopted": false}, "%v; start the main server", err)
	}
	if err != nil {
		return withHint(err, "check main.database")
	}
	plan, err := old.Plan(a.ctx)
	if err := errors.Join(err, old.Close()); err != nil {
		return err
	}
	if f.dryRun || !a.asJSON {
		if err := printPlan(a, plan); err != nil {
			return err
		}
	}
	if err := refusal(plan, f); err != nil || f.dryRun {
		return err
	}
	if err := checkSnapshot(f, database); err != nil {
		return err
	}
	cfgRecords := records.Config{URL: database}
	if cfgRecords.Keys, cfgRecords.Numbers, err = takeKeys(dir, f); err != nil {
		return err
	}
	if err := revokeAll(a, plan.Revoked); err != nil {
		return err
	}
	if err := runAdoption(a, cfgRecords); err != nil {
		return err
	}
	return a.report(nil, result{"adopted": true, "plan": plan}, "the database is SealMQ's now; back up %s, and start the main server", dir)
}

func runAdoption(a call, cfg records.Config) error {
	old, err := records.OpenOld(a.ctx, cfg)
	if err != nil {
		return err
	}
	err = old.Run(a.ctx, func(step string) error {
		a.note("%s", step)
		return context.Cause(a.ctx)
	})
	if err := errors.Join(err, old.Close()); err != nil {
		return withHint(err, "nothing is lost; when the cause is gone, give the same command again")
	}
	return nil
}

func printPlan(a call, p *records.AdoptionPlan) error {
	if a.asJSON {
		return a.json(nil, p)
	}
	t := &table{head: []string{"TABLE", "ROWS", "COLUMNS TO ADD"}}
	for _, row := range p.Tables {
		adds := cmp.Or(strings.Join(row.Adds, ", "), "-")
		if row.Made {
			adds = "the whole table"
		}
		t.add(row.Name, row.Rows, adds)
	}
	if err := t.print(a.out, ""); err != nil {
		return err
	}
	t = &table{head: []string{"FOUND", "ROWS", "AND THEN"}}
	add := func(what string, n int64, then string) {
		if n > 0 {
			t.add(what, n, then)
		}
	}
	for _, f := range p.Problems {
		add(f.What, f.Rows, "you have to put it right before")
	}
	for _, f := range p.Repairs {
		add(f.What, f.Rows, "is put right")
	}
	add("messages that the key does not open", p.Unreadable, "stay as they are")
	add("accounts without a bcrypt password", p.Unhashed, "need a new password")
	add("revoked clients", int64(len(p.Revoked)), "are revoked in the authority too")
	for _, name := range p.Triggers {
		add("trigger "+name, 1, "is dropped")
	}
	fmt.Fprintln(a.out)
	return t.print(a.out, "nothing else to do")
}

// refusal says why a database cannot be taken over yet.
func refusal(p *records.AdoptionPlan, f adoptFlags) error {
	if len(p.Problems) > 0 {
		return withHint(fmt.Errorf("%d of %s", p.Problems[0].Rows, p.Problems[0].What), "put this right in the database, with the earlier system stopped, and look again with --dry-run")
	}
	if p.Unreadable > 0 && !f.keepUnreadable && !f.dryRun {
		return withHint(fmt.Errorf("the key does not open %s", plural(uint64(p.Unreadable), "message")), "see that --key names the right file; with --keep-unreadable they stay as they are, and nobody can read them")
	}
	return nil
}

// checkSnapshot demands a way back.
func checkSnapshot(f adoptFlags, database string) error {
	if f.snapshotExists {
		return nil
	}
	if f.snapshot == "" {
		return withHint(errors.New("there is no snapshot, and nothing else leads back"), "make one with: %s; then add --snapshot before.sql, or --snapshot-exists for one of another kind", dumpCommand(database))
	}
	file, err := os.Open(f.snapshot)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	end := make([]byte, min(info.Size(), 4096))
	if _, err := file.ReadAt(end, info.Size()-int64(len(end))); err != nil {
		return err
	}
	if !bytes.Contains(end, []byte("-- Dump completed")) {
		return withHint(fmt.Errorf("%s does not end as a whole dump does", f.snapshot), "make it again with: %s", dumpCommand(database))
	}
	return nil
}

// dumpCommand makes a snapshot. It has no password.
func dumpCommand(database string) string {
	at, name := "", "message_system"
	if u, err := url.Parse(database); err == nil {
		at = " --host=" + shellWord(u.Hostname()) + " --port=" + cmp.Or(u.Port(), "3306") + " --user=" + shellWord(u.User.Username())
		name = shellWord(strings.TrimPrefix(u.Path, "/"))
	}
	return "mariadb-dump" + at + " --password --single-transaction --routines --triggers --result-file=before.sql " + name
}

// oldKey reads the earlier system's key.
func oldKey(file string) (*atrest.Ring, error) {
	ring, err := atrest.Load(atrest.Files{Paths: map[uint16]string{1: file}})
	if errors.Is(err, os.ErrNotExist) {
		err = fmt.Errorf("--key: %s does not exist", file)
	}
	return ring, err
}

// madeKeys are the versions of a key that have a file.
func madeKeys(dir, name string) (map[uint16]string, error) {
	paths, err := recordKeys(dir, name)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	for version, path := range paths {
		if !exists(path) {
			delete(paths, version)
		}
	}
	return paths, err
}

// planKeys are the keys that texts are tried with. It writes nothing.
func planKeys(dir, file string) (*atrest.Ring, error) {
	old, err := oldKey(file)
	if err != nil {
		return nil, err
	}
	paths, err := madeKeys(dir, "records")
	if len(paths) == 0 || err != nil {
		return old, err
	}
	ring, err := atrest.Load(atrest.Files{Paths: paths})
	if err != nil || versionOf(ring, old) > 0 {
		return ring, err
	}
	paths[slices.Max(ring.Versions())+1] = file
	return atrest.Load(atrest.Files{Paths: paths})
}

// versionOf is the version that the earlier system's key has in a ring, or 0.
func versionOf(ring, old *atrest.Ring) uint16 {
	for _, v := range ring.Versions() {
		if ring.Fingerprint(v) == old.Fingerprint(1) {
			return v
		}
	}
	return 0
}

// takeKeys puts the earlier system's key beside those of the data folder, with a newer one for
// new messages, and keeps the salt. What an earlier run did stays.
func takeKeys(dir string, f adoptFlags) (*atrest.Ring, *atrest.Hasher, error) {
	if err := durable.MkdirAll(durable.OS(), dir, 0o700); err != nil {
		return nil, nil, err
	}
	old, err := oldKey(f.key)
	if err != nil {
		return nil, nil, err
	}
	ring, err := planKeys(dir, f.key)
	if err != nil {
		return nil, nil, err
	}
	paths, err := madeKeys(dir, "records")
	if err != nil {
		return nil, nil, err
	}
	version := versionOf(ring, old)
	if paths[version] == "" {
		data, err := durable.ReadPrivate(durable.OS(), f.key, atrest.MaxKeyFile)
		if err != nil {
			return nil, nil, err
		}
		name := "records.key"
		if version > 1 {
			name = fmt.Sprintf("records-%d.key", version)
		}
		if err := durable.WriteFile(durable.OS(), filepath.Join(dir, name), data, 0o600); err != nil {
			return nil, nil, err
		}
	}
	if version == slices.Max(ring.Versions()) {
		if _, err := addRecordKey(dir, "records"); err != nil {
			return nil, nil, err
		}
	}
	if f.salt != "" {
		salt, err := durable.ReadPrivate(durable.OS(), f.salt, maxSetting)
		if err != nil {
			return nil, nil, err
		}
		if err := durable.WriteFile(durable.OS(), filepath.Join(dir, saltFile), salt, 0o600); err != nil {
			return nil, nil, err
		}
	}
	if ring, err = loadRecordKeys(dir, "records", false); err != nil {
		return nil, nil, err
	}
	numbers, err := loadHasher(dir, true)
	return ring, numbers, err
}

// saltFile is the salt with which the earlier system hashed numbers.
const saltFile = "numbers.salt"

// loadHasher reads the keys of numbers, and the salt if there is one.
func loadHasher(dir string, create bool) (*atrest.Hasher, error) {
	numbers, err := loadRecordKeys(dir, "numbers", create)
	if err != nil {
		return nil, err
	}
	data, err := durable.ReadPrivate(durable.OS(), filepath.Join(dir, saltFile), maxSetting)
	if durable.IsNotExist(err) {
		return atrest.NewHasher(numbers, nil), nil
	}
	if err != nil {
		return nil, err
	}
	salt := strings.TrimRight(string(data), "\r\n")
	return atrest.NewHasher(numbers, &salt), nil
}

// revokeAll revokes names in the authority, which is what decides.
func revokeAll(a call, names []string) error {
	if len(names) == 0 {
		return nil
	}
	authority, cfg, err := openAuthority(a, nil)
	if err != nil {
		return withHint(err, "make the authority first: put the earlier one into %s, and run \"sealmq init\"", filepath.Join(cfg.Data, "ca"))
	}
	for _, name := range names {
		a.note("revoke %s", printable(name))
		if _, err := authority.Revoke(ca.Revocation{Name: name, Reason: "revoked in the earlier system"}); err != nil && !errors.Is(err, ca.ErrAlreadyRevoked) {
			return fmt.Errorf("revoke %s: %w", printable(name), err)
		}
	}
	if _, err := authority.CRL(); err != nil {
		a.note("the revocations are in force, but the CRL was not written: %v", err)
	}
	return nil
}
