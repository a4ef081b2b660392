package mainserver

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"time"

	"github.com/sealmq/sealmq/api/mainapi"
	"github.com/sealmq/sealmq/internal/backup"
	"github.com/sealmq/sealmq/internal/httpkit"
	"github.com/sealmq/sealmq/pipeline/records"
)

// backupSendTime bounds how long one backup takes to be fetched.
const backupSendTime = 6 * time.Hour

var errNoBackups = httpkit.Errorf(httpkit.CodeUnavailable, "This main server makes no backups")

// ListBackups implements mainapi.StrictServerInterface.
func (h *handler) ListBackups(context.Context, mainapi.ListBackupsRequestObject) (mainapi.ListBackupsResponseObject, error) {
	m := h.cfg.Backups
	if m == nil {
		return nil, errNoBackups
	}
	items, err := m.List()
	if err != nil {
		return nil, err
	}
	folder, schedule, keep := m.Settings()
	answer := mainapi.Backups{Items: mapped(items, backupOf), Folder: folder, Schedule: schedule.String(), NextAt: m.Next().UTC(), KeepDays: int(keep / (24 * time.Hour))}
	at, configured := m.Keys()
	answer.Keys = mainapi.KeyBackup{Configured: configured, CreatedAt: at.UTC()}
	if !at.IsZero() {
		answer.Keys.Filename = backup.KeysName
	}
	return mainapi.ListBackups200JSONResponse(answer), nil
}

func backupOf(item *backup.Item) mainapi.Backup {
	return mainapi.Backup{Filename: item.Name, State: mainapi.BackupState(item.State), CreatedAt: item.Created.UTC(), SizeBytes: item.Size, Sha256: item.SHA256, Error: item.Err}
}

// StartBackup implements mainapi.StrictServerInterface.
func (h *handler) StartBackup(ctx context.Context, _ mainapi.StartBackupRequestObject) (mainapi.StartBackupResponseObject, error) {
	item, err := h.startBackup(ctx)
	return mainapi.StartBackup202JSONResponse(backupOf(&item)), err
}

// startBackup begins a backup in the name of the caller.
func (h *handler) startBackup(ctx context.Context) (backup.Item, error) {
	if h.cfg.Backups == nil {
		return backup.Item{}, errNoBackups
	}
	ctx = context.WithoutCancel(ctx)
	item, err := h.cfg.Backups.Start(
		func(name string) {
			h.audit(ctx, act{event: "backup_started", severity: records.Info, details: map[string]any{"file": name}})
		},
		func(item backup.Item) {
			severity, details := BackupOutcome(item)
			h.audit(ctx, act{event: "backup_finished", severity: severity, details: details})
		})
	if errors.Is(err, backup.ErrRunning) {
		return item, httpkit.Errorf(httpkit.CodeConflict, "A backup is being made; wait for its end")
	}
	return item, err
}

// BackupOutcome is what the audit log says of a backup that has ended.
func BackupOutcome(item backup.Item) (severity records.Severity, details map[string]any) {
	severity, details = records.Info, map[string]any{"file": item.Name, "state": item.State, "bytes": item.Size}
	if item.State == backup.Failed {
		severity, details["error"] = records.Error, item.Err
	}
	return severity, details
}

// GetBackup implements mainapi.StrictServerInterface.
func (h *handler) GetBackup(ctx context.Context, r mainapi.GetBackupRequestObject) (mainapi.GetBackupResponseObject, error) {
	return h.openBackup(ctx, r.Filename)
}

func (h *handler) openBackup(ctx context.Context, name string) (*backupAnswer, error) {
	if h.cfg.Backups == nil {
		return nil, errNoBackups
	}
	f, err := h.cfg.Backups.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, httpkit.Errorf(httpkit.CodeNotFound, "There is no such backup")
	}
	if err != nil {
		return nil, err
	}
	h.audit(ctx, act{event: "backup_fetched", severity: records.Warning, details: map[string]any{"file": name}})
	return &backupAnswer{name, f, exchangeOf(ctx).r}, nil
}

// backupAnswer is a backup that is sent.
type backupAnswer struct {
	name string
	file *os.File
	r    *http.Request
}

// VisitGetBackupResponse implements mainapi.GetBackupResponseObject.
func (a *backupAnswer) VisitGetBackupResponse(w http.ResponseWriter) error {
	defer a.file.Close()
	info, err := a.file.Stat()
	if err != nil {
		return err
	}
	// It may last longer than the listener lets an answer take.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(backupSendTime))
	w.Header().Set("Content-Type", "application/zip")
	w.Header().Set("Content-Disposition", `attachment; filename="`+a.name+`"`)
	http.ServeContent(w, a.r, "", info.ModTime(), a.file)
	return nil
}

// The design documents' form of the same.

func (a *aliases) addBackups() {
	a.handle(administrators, 0, func(r *http.Request) (any, error) {
		item, err := a.h.startBackup(r.Context())
		return map[string]any{"status": "started", "message": "Backup process has been started in the background.", "id": item.Name}, err
	}, "POST /admin/db/backup")
	a.handle(administrators, 0, a.listBackups, "GET /admin/db/backups")
	a.rt.Handle("GET /admin/db/backups/{filename}", httpkit.Options{Roles: administrators, Style: httpkit.Plain, Endpoint: "/admin/db/backups/{filename}"},
		http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ctx := withRequest(r.Context(), w, r)
			answer, err := a.h.openBackup(ctx, r.PathValue("filename"))
			if err == nil {
				err = answer.VisitGetBackupResponse(w)
			}
			if err != nil {
				writeError(w, r, err)
			}
		}))
}

type backupEntry struct {
	Filename  string       `json:"filename"`
	SizeMB    float64      `json:"size_mb"`
	CreatedAt httpkit.Time `json:"created_at"`
	State     backup.State `json:"state"`
	SHA256    string       `json:"sha256,omitempty"`
	Error     string       `json:"error,omitempty"`
}

func (a *aliases) listBackups(*http.Request) (any, error) {
	if a.h.cfg.Backups == nil {
		return nil, errNoBackups
	}
	items, err := a.h.cfg.Backups.List()
	list := []backupEntry{}
	for _, item := range items {
		list = append(list, backupEntry{item.Name, float64(item.Size) / (1 << 20), httpkit.Time{Time: item.Created}, item.State, item.SHA256, item.Err})
	}
	return list, err
}
