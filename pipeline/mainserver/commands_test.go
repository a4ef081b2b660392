package mainserver_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/audit"
	"github.com/sealmq/sealmq/pipeline/mainserver"
)

var admin1 = sealmq.Identity{ID: "admin-1", Role: sealmq.RoleAdmin}

// storeCommands runs c as at the end of a process: it stores what waits.
func (s *server) storeCommands(c *mainserver.Commands) {
	ctx, cancel := context.WithCancel(s.Context())
	cancel()
	c.Run(ctx, s.store, slog.New(slog.DiscardHandler))
}

// commands are the rows of commands at the broker, the first first.
func (s *server) commands() (list []string) {
	for _, e := range s.want(200, "GET", "/api/v1/audit?limit=500", "").items() {
		details, _ := e["details"].(map[string]any)
		list = append(list, fmt.Sprint(e["event_type"], " ", e["actor"], " ", details["name"], " ", details["left_out_before"]))
	}
	slices.Reverse(list)
	return list
}

// TestCommandsAreFound: what an administrator did at the broker is found in the audit, also if the
// process stops meanwhile. What others did, or what was refused, is not there.
func TestCommandsAreFound(t *testing.T) {
	s := newServer(t, nil)
	c := mainserver.NewCommands()
	for _, r := range []audit.Record{
		{Identity: admin1, Command: "pause", Object: "results"},
		{Identity: admin1, Command: "peek", Object: "results"},
		{Identity: admin1, Command: "purge", Object: "results", Outcome: sealmq.ErrUnavailable},
		{Identity: sealmq.Identity{ID: "server", Role: sealmq.RoleServer}, Command: "purge", Object: "results"},
		{Identity: admin1, Command: "pause", Object: "results resumed"},
		{Identity: admin1, Command: "close_connection", Object: "5 alice"},
		{Identity: admin1, Command: "close_connection ban", Object: "6 eve"},
		{Identity: admin1, Command: "put_key", Object: "admin-1"},
	} {
		r.Time = time.Now()
		c.Write(r)
	}
	s.storeCommands(c)
	want := []string{"broker_queue_paused admin-1 results <nil>", "broker_queue_resumed admin-1 results <nil>", "broker_connection_closed admin-1 5 alice <nil>",
		"broker_client_banned admin-1 6 eve <nil>", "broker_key_written admin-1 admin-1 <nil>"}
	if got := s.commands(); !slices.Equal(got, want) {
		t.Errorf("in the table: %q, want %q", got, want)
	}
}

// TestCommandsAreStoredAtOnce: nothing waits for the end of the process.
func TestCommandsAreStoredAtOnce(t *testing.T) {
	s := newServer(t, nil)
	c := mainserver.NewCommands()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		c.Run(ctx, s.store, slog.New(slog.DiscardHandler))
	}()
	defer func() { cancel(); <-ended }()
	c.Write(audit.Record{Time: time.Now(), Identity: admin1, Command: "purge", Object: "results"})
	s.until("/api/v1/audit", func(a answer) bool { return len(a.items()) == 1 })
}

// TestCommandsLeftOutAreCounted: those for which there is no room, and those that the database has
// refused, are in the figure of the next row.
func TestCommandsLeftOutAreCounted(t *testing.T) {
	s := newServer(t, nil)
	c := mainserver.NewCommands()
	first := time.Now().Add(-time.Hour)
	write := func(object string, at time.Time) {
		c.Write(audit.Record{Time: at, Identity: admin1, Command: "purge", Object: object})
	}
	for range 1000 { // more than wait, and more than a minute has room for: nothing blocks
		write("many", first)
	}
	s.storeCommands(c)
	write("next", first.Add(time.Minute))
	write("refused", time.Date(20_000, 1, 1, 0, 0, 0, 0, time.UTC))
	write("last", first.Add(2*time.Minute))
	s.storeCommands(c)
	got := s.commands()
	want := []string{"broker_queue_purged admin-1 many 936", "broker_queue_purged admin-1 many <nil>", "broker_queue_purged admin-1 next 4", "broker_queue_purged admin-1 last 1"}
	if len(got) != 62 || !slices.Equal(slices.Compact(got), want) {
		t.Errorf("%d rows in the table: %q, want %q", len(got), slices.Compact(got), want)
	}
}

// TestEveryCommandIsDecidedUpon: each command of the broker's audit has a row in the table, or is
// named here as one without.
func TestEveryCommandIsDecidedUpon(t *testing.T) {
	without := []string{
		"publish", "consume", "declare", "bind", "dead_letter", "admin", "put_chain", // on record only if they are refused
		"inspect", "read_key", "peek", "find", // they change nothing
		"copy", // many records for one copy
	}
	commands := []string{"close_connection", "close_connection ban", "reset_stats", "copy"}
	for file, pattern := range map[string]string{
		"../../broker/permissions.go": `(?m)^\tact\w+ +action = "(\w+)"`,
		"../../keydir/keylog/log.go":  `(?m)^\t\w+ +Action = "(\w+)"`,
	} {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		found := regexp.MustCompile(pattern).FindAllSubmatch(source, -1)
		if len(found) < 6 {
			t.Fatalf("%d commands in %s", len(found), file)
		}
		for _, f := range found {
			commands = append(commands, string(f[1]))
		}
	}
	s := newServer(t, nil)
	c := mainserver.NewCommands()
	for _, command := range commands {
		c.Write(audit.Record{Time: time.Now(), Identity: admin1, Command: command, Object: command})
	}
	s.storeCommands(c)
	var stored []string
	for _, e := range s.want(200, "GET", "/api/v1/audit?limit=500", "").items() {
		details, _ := e["details"].(map[string]any)
		stored = append(stored, fmt.Sprint(details["name"]))
	}
	for _, command := range commands {
		if slices.Contains(stored, command) == slices.Contains(without, command) {
			t.Errorf("%s: has a row: %v; named as one without: %v", command, slices.Contains(stored, command), slices.Contains(without, command))
		}
	}
}
