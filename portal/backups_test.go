package portal

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq/api/mainapi"
)

func exampleBackups() mainapi.Backups {
	return mainapi.Backups{Folder: "/data/backups", Schedule: "sun 02:00", NextAt: testNow.Add(50 * time.Hour), KeepDays: 30, Items: []mainapi.Backup{
		{Filename: "backup_20261129_020000.zip", State: mainapi.BackupStateComplete, CreatedAt: testNow.Add(-34 * time.Hour), SizeBytes: 1 << 20, Sha256: strings.Repeat("0123456789abcdef", 4)}}}
}

// TestBackups: what the page says of each state, and what can be done there.
func TestBackups(t *testing.T) {
	w := newWorld(t, Config{})
	w.on("GET /api/v1/database", http.StatusOK, mainapi.Database{Kind: "sqlite", Path: "/data/pipeline/records.db"})
	show := func(change func(*mainapi.Backups)) *httptest.ResponseRecorder {
		b := exampleBackups()
		change(&b)
		w.on("GET /api/v1/backups", http.StatusOK, b)
		return w.browse(admin, "/admin/backups", nil)
	}
	for _, tc := range []struct {
		name       string
		change     func(*mainapi.Backups)
		has, lacks string
	}{
		{"a good one", func(*mainapi.Backups) {}, `href="/admin/backups/backup_20261129_020000.zip" download|Complete|1.0 MiB|0123456789ab…|Next|every Sunday at 02:00|30 days|sealmq restore /data/backups/backup_20261129_020000.zip --replace --data /data|stored messages and accounts|keys are in no backup`, "Refresh|hx-trigger"},
		{"none", func(b *mainapi.Backups) { b.Items = nil }, "No backup yet|sealmq backup|Back up now", "SHA-256"},
		{"no schedule", func(b *mainapi.Backups) { b.Schedule, b.NextAt = "off", time.Time{} }, "Only when somebody asks|backup.schedule", "Next"},
		{"every day", func(b *mainapi.Backups) { b.Schedule, b.KeepDays = "daily 23:30", 1 }, "every day at 23:30|kept for 1 day.", ""},
		{"keys", func(b *mainapi.Backups) {
			b.Keys = mainapi.KeyBackup{Configured: true, Filename: "backup_keys.age", CreatedAt: testNow}
		}, "backup_keys.age|No page gives that out|.zip --passphrase-file FILE --replace", "keys are in no backup"},
		{"keys to come", func(b *mainapi.Backups) { b.Keys.Configured = true }, "with the next backup", "keys are in no backup"},
		{"running", func(b *mainapi.Backups) { b.Items[0].State, b.Items[0].Sha256 = mainapi.BackupStateRunning, "" }, `Running|1.0 MiB so far|<progress|Refresh|hx-get="/admin/backups"`, "Back up now|download>"},
		{"failed", func(b *mainapi.Backups) { b.Items[0].State, b.Items[0].Error = mainapi.BackupStateFailed, nasty }, "Failed|&lt;script&gt;|Back up now", "download>|<script>alert"},
	} {
		rec := show(tc.change)
		want(t, rec, http.StatusOK, strings.Split(tc.has, "|")...)
		for text := range strings.SplitSeq(tc.lacks, "|") {
			if text != "" && strings.Contains(rec.Body.String(), text) {
				t.Errorf("%s: the page has %q", tc.name, text)
			}
		}
	}
	w.on("POST /api/v1/backups", http.StatusAccepted, exampleBackups().Items[0])
	wantRedirect(t, w.browse(admin, "/admin/db/backup", url.Values{}), "/admin/backups")
	w.refuse("POST /api/v1/backups", http.StatusConflict, "conflict", "A backup is being made")
	rec := w.browse(admin, "/admin/db/backup", url.Values{})
	wantRedirect(t, rec, "/admin/backups")
	if asked := fmt.Sprint(w.asked); strings.Count(asked, "POST /api/v1/backups") != 2 {
		t.Errorf("the main server was asked %s", asked)
	}
}

// TestFetchBackup: a backup comes as it is, and one that breaks off does not look whole.
func TestFetchBackup(t *testing.T) {
	const name = "backup_20261129_020000.zip"
	archive := strings.Repeat("PK and the rest", 100_000)
	breaks := false
	main := newWorld(t, Config{})
	w := newWorld(t, Config{API: InProcess(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/api/v1/backups/"+name {
			main.ServeHTTP(rw, r)
			return
		}
		rw.Header().Set("Content-Type", "application/zip")
		rw.Header().Set("Content-Length", fmt.Sprint(len(archive)))
		rw.Header().Set("Content-Disposition", `attachment; filename="`+name+`"`)
		if breaks {
			_, _ = rw.Write([]byte(archive[:1000]))
			panic(http.ErrAbortHandler)
		}
		_, _ = rw.Write([]byte(archive))
	}))})
	rec := w.browse(admin, "/admin/backups/"+name, nil)
	if h := rec.Header(); rec.Body.String() != archive || h.Get("Content-Type") != "application/zip" || h.Get("Content-Length") != fmt.Sprint(len(archive)) ||
		!strings.Contains(h.Get("Content-Disposition"), name) || h.Get("Content-Encoding") != "" || h.Get("Content-Security-Policy") == "" {
		t.Errorf("%d bytes, %v", rec.Body.Len(), rec.Header())
	}
	want(t, w.browse(operator, "/admin/backups/"+name, nil), http.StatusForbidden)
	want(t, w.browse(admin, "/admin/backups/backup_20261129_020001.zip", nil), http.StatusNotFound, "There is no such backup")
	main.refuse("GET /api/v1/backups/records.key", http.StatusUnprocessableEntity, "validation_error", "bad")
	want(t, w.browse(admin, "/admin/backups/records.key", nil), http.StatusNotFound, "There is no such backup")
	breaks = true
	defer func() {
		if recover() != http.ErrAbortHandler { //nolint:errorlint // the value itself is meant
			t.Error("what is left of a backup looks whole")
		}
	}()
	w.browse(admin, "/admin/backups/"+name, nil)
}
