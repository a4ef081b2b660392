package mainserver

import (
	"context"
	"encoding/json"
	"log/slog"
	"strings"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/audit"
	"github.com/sealmq/sealmq/pipeline/records"
)

// maxCommands bounds the commands that wait for the database.
const maxCommands = 64

// Commands puts on record what administrators do at a broker of this process, past the main
// server. The audit table, in which people search, has what they do over the API by itself.
// It takes deniedPerMinute of them, and can miss those that come while the process stops. The
// audit file has all.
type Commands struct {
	waiting chan audit.Record
	room    denials
}

// NewCommands returns a Commands.
func NewCommands() *Commands { return &Commands{waiting: make(chan audit.Record, maxCommands)} }

// commandEvents are the commands that the table has. Commands that change nothing are not among
// them, nor is copy: one copy of a long queue is many records, which would crowd out the others.
var commandEvents = map[string]string{
	"pause":                "broker_queue_paused",
	"purge":                "broker_queue_purged",
	"delete":               "broker_deleted",
	"change":               "broker_queue_changed",
	"move":                 "broker_messages_moved",
	"close_connection":     "broker_connection_closed",
	"close_connection ban": "broker_client_banned",
	"reset_stats":          "broker_statistics_reset",
	"write_key":            "broker_key_written", // a bare key
	"put_key":              "broker_key_written", // a signed entry
	"reset_key":            "broker_key_reset",
	"attest_restore":       "broker_restore_attested",
}

// resumed is how the broker's record of a pause ends if it was the end of one.
const resumed = " resumed"

// Write implements audit.Sink.
func (c *Commands) Write(r audit.Record) {
	if r.Outcome != nil || r.Identity.Role != sealmq.RoleAdmin || commandEvents[r.Command] == "" {
		return
	}
	select {
	case c.waiting <- r:
	default:
		c.room.leave(1)
	}
}

// Run stores commands until ctx ends, and then those that wait.
func (c *Commands) Run(ctx context.Context, store *records.Store, log *slog.Logger) {
	after := context.WithoutCancel(ctx)
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case r := <-c.waiting:
			c.store(after, store, log, r)
		}
	}
	after, cancel := context.WithTimeout(after, deniedTimeout)
	defer cancel()
	for len(c.waiting) > 0 {
		c.store(after, store, log, <-c.waiting)
	}
}

// store stores a command if there is room, or counts it among those that are left out.
func (c *Commands) store(ctx context.Context, store *records.Store, log *slog.Logger, r audit.Record) {
	leftOut, ok := c.room.take(r.Time)
	if !ok {
		return
	}
	if err := addCommand(ctx, store, r, leftOut); err != nil {
		c.room.leave(leftOut + 1)
		log.Warn("a command of an administrator is not in the database's audit table", "command", r.Command, "object", r.Object, "error", err)
	}
}

func addCommand(ctx context.Context, store *records.Store, r audit.Record, leftOut int) error {
	event, object := commandEvents[r.Command], r.Object
	if name, ends := strings.CutSuffix(object, resumed); ends && r.Command == "pause" {
		event, object = "broker_queue_resumed", name
	}
	details := map[string]any{actorKey: r.Identity.ID, "endpoint": "broker"}
	if object != "" {
		details["name"] = object
	}
	if leftOut > 0 {
		details[leftOutKey] = leftOut
	}
	data, err := json.Marshal(details)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, deniedTimeout)
	defer cancel()
	return store.AddAudit(ctx, []records.AuditEvent{{Type: event, Data: data, At: r.Time}})
}
