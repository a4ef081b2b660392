package portal

import (
	"cmp"
	"errors"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/sealmq/sealmq/api/mainapi"
	"github.com/sealmq/sealmq/internal/httpkit"
)

type backupsView struct {
	mainapi.Backups
	Rows  []backupRow
	Empty empty
	Start string
	// Self is where to ask again, while one is made.
	Self string
	// Every says when backups are made by themselves, in words.
	Every  string
	Server string // the database server, if the records are in one
	// Restore is the command that puts the newest good backup back.
	Restore string
}

type backupRow struct {
	mainapi.Backup
	Label   state
	Path    string // where it can be fetched
	Running bool
}

// backups are those that were made, how to make one, and how to put it back.
func (v *visit) backups() error {
	r, err := v.api.ListBackupsWithResponse(v.ctx)
	if err != nil {
		return err
	}
	d, err := v.api.GetDatabaseWithResponse(v.ctx)
	if err != nil {
		return err
	}
	view := backupsView{Backups: *r.JSON200, Start: v.portal.url("/admin/db/backup"), Every: scheduleText(r.JSON200.Schedule),
		Empty: empty{Title: "No backup yet", Text: "Make the first one now. The node goes on with its work, and you can leave this page.", Command: "sealmq backup"}}
	data, newest := "sealmq-data", ""
	if d.JSON200.Host != "" {
		view.Server = d.JSON200.Host + ":" + d.JSON200.Port
	} else if folder, ok := strings.CutSuffix(filepath.ToSlash(d.JSON200.Path), "/pipeline/records.db"); ok {
		data = folder
	}
	for _, b := range view.Items {
		row := backupRow{Backup: b, Label: state{"bad", "Failed"}}
		switch b.State {
		case mainapi.BackupStateRunning:
			row.Label, row.Running, view.Self = state{"", "Running"}, true, v.portal.url("/admin/backups")
		case mainapi.BackupStateComplete:
			row.Label, row.Path = state{"good", "Complete"}, v.portal.url("/admin/backups", b.Filename)
			newest = cmp.Or(newest, b.Filename)
		}
		view.Rows = append(view.Rows, row)
	}
	view.Restore = "sealmq restore " + strings.TrimSuffix(view.Folder, "/") + "/" + cmp.Or(newest, "backup_20260301_020000.zip")
	if view.Keys.Configured {
		view.Restore += " --passphrase-file FILE"
	}
	view.Restore += " --replace --data " + data
	return v.render("backups", view)
}

// weekdays are the days of a schedule in words.
var weekdays = map[string]string{"daily": "every day", "sun": "every Sunday", "mon": "every Monday", "tue": "every Tuesday", "wed": "every Wednesday", "thu": "every Thursday", "fri": "every Friday", "sat": "every Saturday"}

// scheduleText is a schedule in words; empty if there is none.
func scheduleText(schedule string) string {
	day, at, _ := strings.Cut(schedule, " ")
	if weekdays[day] == "" || at == "" {
		return ""
	}
	return weekdays[day] + " at " + at
}

// startBackup makes a backup now.
func (v *visit) startBackup() error {
	_, err := v.api.StartBackupWithResponse(v.ctx)
	if hasCode(err, httpkit.CodeConflict) {
		v.flash(toast{"warn", "A backup is being made already."})
		return v.redirect("/admin/backups")
	}
	return v.doneUnless(err, "/admin/backups", "A backup is being made. It goes on if you leave this page.")
}

// fetchWrite bounds each write of a backup to a browser: a slow one may take as long as it likes,
// and one that takes nothing is left.
const fetchWrite = time.Minute

// fetchBackup passes a backup on, however large it is.
func (v *visit) fetchBackup() error {
	resp, err := v.api.GetBackup(v.ctx, v.r.PathValue("filename"))
	if hasStatus(err, http.StatusUnprocessableEntity) || hasStatus(err, http.StatusNotFound) {
		return &pageError{http.StatusNotFound, "There is no such backup", "It may have been deleted because it was old, or the address is wrong."}
	}
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	for _, name := range []string{"Content-Type", "Content-Length", "Content-Disposition", "Last-Modified"} {
		if value := resp.Header.Get(name); value != "" {
			v.w.Header().Set(name, value)
		}
	}
	v.w.Header().Set("Cache-Control", "no-store")
	if v.r.Method == http.MethodHead {
		return nil
	}
	if _, err := io.Copy(patient(v.w, fetchWrite), resp.Body); err != nil {
		panic(http.ErrAbortHandler) // the browser must not take what it has for the whole
	}
	return nil
}

// patientWriter gives each write its own time.
type patientWriter struct {
	w    io.Writer
	rc   *http.ResponseController
	each time.Duration
}

func patient(w http.ResponseWriter, each time.Duration) patientWriter {
	return patientWriter{w, http.NewResponseController(w), each}
}

func (w patientWriter) Write(p []byte) (int, error) {
	if err := w.rc.SetWriteDeadline(time.Now().Add(w.each)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return 0, err
	}
	return w.w.Write(p)
}
