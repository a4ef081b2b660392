package main

import (
	"context"
	"encoding/json"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/audit"
	"github.com/sealmq/sealmq/engine/local"
	"github.com/sealmq/sealmq/internal/backup"
	"github.com/sealmq/sealmq/pipeline/mainserver"
	"github.com/sealmq/sealmq/pipeline/records"
)

// backupAfterBroker is how much later than the schedule a main server without the broker makes its
// backup. The broker's comes first, so that a message that is delivered meanwhile is in one of them.
const backupAfterBroker = 5 * time.Minute

// backupManager makes backups of a node, or of one that does not run.
func (c *Config) backupManager(engine *local.Engine, broker, main bool) (backup.Config, error) {
	schedule, err := backup.ParseSchedule(c.Backup.Schedule)
	content := &backupContent{cfg: *c, engine: engine, store: broker, main: main}
	cfg := backup.Config{Folder: c.backupFolder(), Fill: content.fill, Keys: content.keys, Schedule: schedule, Keep: time.Duration(c.Backup.KeepDays) * 24 * time.Hour,
		MinFree: int64(c.Storage.MinFreeBytes), Program: buildVersion().Version}
	if main && !broker {
		cfg.Delay = backupAfterBroker
	}
	if file := c.Backup.PassphraseFile; file != "" {
		cfg.Passphrase = func() ([]byte, error) {
			text, err := readPassword(file)
			return []byte(text), err
		}
	}
	return cfg, err
}

func (n *node) openBackups() error {
	role := "broker"
	if n.has("main") {
		role = "main"
	}
	cfg, err := n.cfg.backupManager(n.engine, n.has("broker"), n.has("main"))
	if err != nil {
		return err
	}
	cfg.Log = n.logOf(role)
	cfg.Began = func(name string) { n.auditBackup("backup_started", records.Info, map[string]any{"file": name}) }
	cfg.Ended = func(item backup.Item) {
		severity, details := mainserver.BackupOutcome(item)
		n.auditBackup("backup_finished", severity, details)
	}
	n.backups = backup.New(cfg)
	n.registryOf(role).MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "sealmq_backup_last_success_timestamp_seconds",
		Help: "When the last good backup of this node was made; 0 if there is none."}, func() float64 {
		if at := n.backups.LastGood(); !at.IsZero() {
			return float64(at.Unix())
		}
		return 0
	}))
	return nil
}

func (n *node) makeBackups(ctx context.Context) error {
	n.backups.Run(ctx)
	return nil
}

// auditBackup puts a backup of the schedule on record.
func (n *node) auditBackup(event string, severity records.Severity, details map[string]any) {
	const actor = "schedule"
	n.auditFile.Write(audit.Record{Time: time.Now(), Identity: sealmq.Identity{ID: actor, CommonName: actor}, Command: event, Object: details["file"].(string)})
	if n.pipeline.store == nil {
		return
	}
	details["actor"] = actor
	data, err := json.Marshal(details)
	if err == nil {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		err = n.pipeline.store.AddAudit(ctx, []records.AuditEvent{{Type: event, Data: data, Severity: severity}})
	}
	if err != nil {
		n.logOf("main").Error("a backup is not in the database's audit table", "event", event, "error", err)
	}
}
