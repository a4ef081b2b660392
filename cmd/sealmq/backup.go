package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq/api/mainapi"
	"github.com/sealmq/sealmq/internal/backup"
	"github.com/sealmq/sealmq/internal/clock"
	"github.com/sealmq/sealmq/internal/durable"
)

func newBackupCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "backup",
		Short: "Make a backup of the data folder and the database now",
		Long: `Make a backup of the data folder and the database. A node that runs makes it itself, without a pause, and this
command waits for it; for one that does not run the command makes it. The configuration's section "backup" says where
backups are, and how long they are kept.

The backup has no keys. They are in the file backup_keys.age beside it, encrypted with the passphrase in
backup.passphrase_file; without that setting they are in no backup. "sealmq restore" puts a backup back.`,
	}
	configFlag(cmd.Flags(), "passphrase-file", "backup.passphrase_file", "`file` whose first line encrypts the backup of the keys, if no node runs")
	f := addIdentityFlags(cmd, "ask a node that runs")
	mainURL := cmd.Flags().String("main-url", "", "`address` of the node's main server, https://host:port (default: main.addr of the configuration)")
	return standalone(cmd, func(a call) error {
		cfg, err := loadConfig(cmd)
		if err != nil {
			return err
		}
		node, err := awaitNode(a, cfg.Data)
		if err != nil {
			return err
		}
		if node == nil {
			return backupStopped(a, &cfg)
		}
		if !slices.Contains(node.Roles, "main") {
			return withHint(fmt.Errorf("%s runs without the role main, and makes backups by its schedule only", node.Node), "stop it and give the command again, or set backup.schedule")
		}
		return backupRunning(a, f, *mainURL)
	})
}

// startTime is how long a node that has the store open may take to be ready.
const startTime = 15 * time.Second

// awaitNode is runningNode, and waits for one that is starting.
func awaitNode(a call, data string) (node *nodeAnswer, err error) {
	for end := time.Now().Add(startTime); ; {
		if node, err = runningNode(a, data); node != nil || err != nil {
			return node, err
		}
		unlock, err := durable.OS().Lock(storeFolder(data))
		if err == nil {
			return nil, unlock()
		}
		if !errors.Is(err, durable.ErrLocked) || time.Now().After(end) {
			return nil, nil // who reads the store says what is wrong
		}
		if err := clock.Sleep(a.ctx, clock.System, lookAge/10); err != nil {
			return nil, err
		}
	}
}

// runningNode is a node that runs with a data folder on this machine, or nil. One that has the
// database comes first.
func runningNode(a call, data string) (*nodeAnswer, error) {
	if files, err := filepath.Glob(filepath.Join(nodesFolder(data), "*.json")); err != nil || len(files) == 0 {
		return nil, err
	}
	list, err := askNodes(a, data)
	if len(list) == 0 { // their files were left by a crash
		return nil, a.ctx.Err()
	}
	for i := range list {
		if slices.Contains(list[i].Roles, "main") {
			return &list[i], err
		}
	}
	return &list[0], err
}

// backupStopped makes a backup of a node that does not run.
func backupStopped(a call, cfg *Config) error {
	store := exists(storeFolder(cfg.Data))
	main := cfg.Main.Database != "" || exists(cfg.recordsFile())
	if !store && !main {
		return withHint(fmt.Errorf("there is nothing to back up in %s", cfg.Data), "name the data folder with --data")
	}
	c, err := cfg.backupManager(nil, store, main)
	if err != nil {
		return err
	}
	item, err := backup.New(c).Make(a.ctx)
	if err != nil {
		return err
	}
	if c.Passphrase == nil {
		a.note("the keys are in no backup, and without them nobody reads the stored texts of one; set backup.passphrase_file")
	}
	return a.report(nil, item, "%s is complete, %s", filepath.Join(c.Folder, item.Name), bytesText(item.Size))
}

// backupRunning has a node make its backup, and waits for it.
func backupRunning(a call, f *connectFlags, mainURL string) error {
	c, err := f.mainClient(mainURL)
	if err != nil {
		return err
	}
	begun, err := c.StartBackupWithResponse(a.ctx)
	if err != nil {
		return err
	}
	for {
		r, err := c.ListBackupsWithResponse(a.ctx)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(r.JSON200.Items, func(b mainapi.Backup) bool { return b.Filename == begun.JSON202.Filename })
		if i < 0 {
			return errors.New("the backup has gone")
		}
		switch b := r.JSON200.Items[i]; b.State {
		case mainapi.BackupStateFailed:
			return fmt.Errorf("the backup has failed: %s", b.Error)
		case mainapi.BackupStateComplete:
			if !r.JSON200.Keys.Configured {
				a.note("the keys are in no backup, and without them nobody reads the stored texts of one; set backup.passphrase_file")
			}
			return a.report(nil, b, "%s is complete, %s", filepath.Join(r.JSON200.Folder, b.Filename), bytesText(b.SizeBytes))
		}
		if err := clock.Sleep(a.ctx, clock.System, time.Second/4); err != nil {
			return err
		}
	}
}
