package mainserver_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/backup"
	"github.com/sealmq/sealmq/internal/testing/testnode"
	"github.com/sealmq/sealmq/pipeline/mainserver"
)

// withBackups gives a server backups that have one file, and wait for a word how to end.
func withBackups(t *testing.T, end <-chan error) func(*server, *mainserver.HandlerConfig) {
	return func(s *server, cfg *mainserver.HandlerConfig) {
		schedule, err := backup.ParseSchedule("sun 02:00")
		s.must(err)
		m := backup.New(backup.Config{Folder: filepath.Join(t.TempDir(), "backups"), Schedule: schedule, Keep: 30 * 24 * time.Hour, Now: s.now,
			Fill: func(ctx context.Context, c backup.Content) error {
				if err := c.Add("data/file", strings.NewReader("content")); err != nil {
					return err
				}
				return <-end
			}})
		ctx, cancel := context.WithCancel(t.Context())
		var run sync.WaitGroup
		run.Go(func() { m.Run(ctx) })
		t.Cleanup(func() { cancel(); run.Wait() })
		cfg.Backups = m
	}
}

// withBrokerAndBackups is withBroker with backups that end at once.
func withBrokerAndBackups(node **testnode.Node) func(*server, *mainserver.HandlerConfig) {
	end := make(chan error)
	close(end)
	return func(s *server, cfg *mainserver.HandlerConfig) {
		withBroker(node)(s, cfg)
		withBackups(s.T, end)(s, cfg)
	}
}

// TestBackups: one is made at a time, the list shows its states, and a complete one can be
// fetched. The design documents' paths do the same (TestAliasesOfBackups).
func TestBackups(t *testing.T) {
	end := make(chan error, 1)
	s := newServer(t, withBackups(t, end))
	first := s.begin("POST", "/api/v1/backups", 202)
	name := first.str("filename")
	if first.str("state") != "running" || !backup.IsName(name) {
		t.Fatalf("%s", first.body)
	}
	s.want(409, "POST", "/api/v1/backups", "")
	if list := s.want(200, "GET", "/api/v1/backups", ""); list.items()[0]["state"] != "running" || list.str("schedule") != "sun 02:00" || list.str("next_at") == "" {
		t.Errorf("%s", list.body)
	}
	s.want(404, "GET", "/api/v1/backups/"+name, "")
	end <- nil
	done := s.until("/api/v1/backups", func(a answer) bool { return a.items()[0]["state"] == "complete" })
	file := s.want(200, "GET", "/api/v1/backups/"+name, "")
	sum := sha256.Sum256([]byte(file.body))
	if done.items()[0]["sha256"] != hex.EncodeToString(sum[:]) || file.Header.Get("Content-Type") != "application/zip" {
		t.Errorf("%s, the file has %x", done.body, sum)
	}
	if part := s.want(206, "GET", "/api/v1/backups/"+name, "", "Range", "bytes=0-3"); part.body != "PK\x03\x04" {
		t.Errorf("%q", part.body)
	}

	end <- errors.New("no room")
	s.begin("POST", "/api/v1/backups", 202)
	if a := s.until("/api/v1/backups", func(a answer) bool { return a.items()[0]["state"] == "failed" }); a.items()[0]["error"] != "no room" || len(a.items()) != 2 {
		t.Errorf("%s", a.body)
	}
	for _, bad := range []string{"backup_20000101_000000.zip", "backup_20000101_000000.zip.part", "..%2Fserver.key", "backup_keys.age", "LOCK"} {
		if a := s.ask(s.as(sealmq.RoleAdmin), "GET", "/api/v1/backups/"+bad, ""); a.StatusCode != 404 && a.StatusCode != 422 {
			t.Errorf("%s: %d %s", bad, a.StatusCode, a.body)
		}
		if a := s.ask(s.as(sealmq.RoleAdmin), "GET", "/admin/db/backups/"+bad, ""); a.StatusCode != 404 {
			t.Errorf("%s: %d %s", bad, a.StatusCode, a.body)
		}
	}
	for _, path := range []string{"/api/v1/backups", "/api/v1/backups/" + name, "/admin/db/backups", "/admin/db/backups/" + name} {
		if a := s.ask(s.as(sealmq.RoleProxy), "GET", path, ""); a.StatusCode != 403 {
			t.Errorf("%s as a proxy: %d", path, a.StatusCode)
		}
	}
	var events []string
	for _, e := range s.until("/api/v1/audit?limit=50", func(a answer) bool { return strings.Count(a.body, "backup_finished") == 2 }).items() {
		events = append(events, e["event_type"].(string))
	}
	for _, want := range []string{"backup_started", "backup_finished", "backup_fetched"} {
		if !slices.Contains(events, want) {
			t.Errorf("no %s in %v", want, events)
		}
	}
}

func TestAliasesOfBackups(t *testing.T) {
	end := make(chan error, 1)
	s := newServer(t, withBackups(t, end))
	a := s.begin("POST", "/admin/db/backup", 200)
	if a.str("status") != "started" || a.str("message") != "Backup process has been started in the background." || a.str("id") == "" {
		t.Errorf("%s", a.body)
	}
	s.want(409, "POST", "/admin/db/backup", "")
	end <- nil
	s.until("/admin/db/backups", func(a answer) bool {
		return strings.Contains(a.body, `[{"filename":"backup_`) && strings.Contains(a.body, `"state":"complete","sha256":"`)
	})
	if file := s.want(200, "GET", "/admin/db/backups/"+a.str("id"), ""); !strings.HasPrefix(file.body, "PK") {
		t.Errorf("%q", file.body)
	}
}

// TestNoBackups: a server that makes none says so.
func TestNoBackups(t *testing.T) {
	s := newServer(t, nil)
	for _, path := range []string{"/api/v1/backups", "/admin/db/backups", "/admin/db/backups/backup_20000101_000000.zip"} {
		s.want(503, "GET", path, "")
	}
	if _, err := os.Stat("backups"); err == nil {
		t.Error("there is a folder")
	}
}

// begin asks until the server has begun to run its backups.
func (s *server) begin(method, path string, status int) (a answer) {
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		if a = s.ask(s.as(sealmq.RoleAdmin), method, path, ""); a.StatusCode == status {
			return a
		}
	}
	s.must(errors.New(a.body))
	return a
}

// until asks until an answer is as it should be.
func (s *server) until(path string, ok func(answer) bool) (a answer) {
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		if a = s.want(200, "GET", path, ""); ok(a) {
			return a
		}
	}
	s.must(errors.New(path + ": " + a.body))
	return a
}
