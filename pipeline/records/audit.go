package records

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/sealmq/sealmq/pipeline"
)

// Severity says how much an event matters.
type Severity string

// The severities.
const (
	Info     Severity = "info"
	Warning  Severity = "warning"
	Error    Severity = "error"
	Critical Severity = "critical"
)

// AuditEvent is a row of audit_log. The table is for searching; the record that counts is the
// audit log's file.
type AuditEvent struct {
	ID       int64 // set when read
	Type     string
	User     int64 // 0: none
	Client   string
	IP       string
	Data     json.RawMessage // or nil
	Severity Severity        // empty is Info
	At       time.Time       // zero is now
}

func (e *AuditEvent) check(now time.Time) reason {
	e.Severity = cmp.Or(e.Severity, Info)
	if e.At.IsZero() {
		e.At = now
	}
	why := cmp.Or(checkName("event type", e.Type, 50), checkOptional("client id", e.Client, maxName))
	switch {
	case why != "":
		return why
	case len(e.IP) > 45 || !isASCII(e.IP):
		return "IP address is not valid"
	case len(e.Data) > MaxMetadata || e.Data != nil && (!json.Valid(e.Data) || !utf8.Valid(e.Data)):
		return "event data is not valid JSON, or too long"
	case e.Severity != Info && e.Severity != Warning && e.Severity != Error && e.Severity != Critical:
		return "severity is none of info, warning, error and critical"
	case !storable(e.At):
		return "time is out of range"
	}
	return ""
}

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r >= utf8.RuneSelf })
}

// AddAudit stores events, all or none.
func (s *Store) AddAudit(ctx context.Context, events []AuditEvent) error {
	if len(events) > MaxBatch {
		return invalid("too many events in one call")
	}
	return s.transact(ctx, "store audit events", func(tx *sql.Tx) error {
		for _, e := range events {
			if err := s.addAudit(ctx, tx, e); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *Store) addAudit(ctx context.Context, tx *sql.Tx, e AuditEvent) error {
	if why := e.check(s.now()); why != "" {
		return invalid(why)
	}
	user := any(nil)
	if e.User != 0 {
		user = e.User
	}
	_, err := tx.ExecContext(ctx, "INSERT INTO audit_log (event_type, user_id, client_id, ip_address, event_data, severity, created_at) VALUES (?, ?, ?, ?, ?, ?, ?)",
		e.Type, user, null(e.Client), null(e.IP), null(string(e.Data)), string(e.Severity), s.d.stamp(e.At))
	return err
}

// messageEvents are the events of messages, if they are audited.
var messageEvents = map[pipeline.ResultStatus]string{pipeline.StatusRegistered: "message_registered", pipeline.StatusDelivered: "message_delivered"}

// auditMessages puts what a group has done into the audit log.
func (g *group) auditMessages(entries []*entry) error {
	if !g.s.cfg.AuditMessages {
		return nil
	}
	for _, e := range entries {
		event := messageEvents[e.result.Status]
		if event == "" {
			continue
		}
		data, err := json.Marshal(map[string]string{"message_id": e.key.id})
		if err != nil {
			return err
		}
		if err := g.s.addAudit(g.ctx, g.tx, AuditEvent{Type: event, Client: e.key.client, Data: data, At: g.now}); err != nil {
			return err
		}
	}
	return nil
}

// AuditFilter chooses events. Empty fields choose all.
type AuditFilter struct {
	Type     string
	Except   string // a type to leave out
	User     int64
	Client   string
	Severity Severity
	From, To time.Time // To is not included
	Limit    int       // 0 is DefaultLimit
	Before   int64     // continue behind the event with this id; 0 begins with the newest
}

// Audit lists events, the last stored first. The list goes on behind the last id if it has
// as many entries as the limit.
func (s *Store) Audit(ctx context.Context, f AuditFilter) ([]AuditEvent, error) {
	f.Limit = cmp.Or(f.Limit, DefaultLimit)
	if f.Limit < 1 || f.Limit > MaxLimit {
		return nil, invalid("limit is not between 1 and 500")
	}
	f.From, f.To = bound(f.From), bound(f.To)
	var w scan
	for _, c := range []struct{ column, value string }{{"event_type", f.Type}, {"client_id", f.Client}, {"severity", string(f.Severity)}} {
		if c.value != "" {
			if checkName("", c.value, maxName) != "" {
				return nil, nil
			}
			w.and(c.column+" = ?", c.value)
		}
	}
	if f.Except != "" {
		w.and("event_type <> ?", f.Except)
	}
	if f.User != 0 {
		w.and("user_id = ?", f.User)
	}
	if !f.From.IsZero() {
		w.and("created_at >= ?", s.d.stamp(f.From))
	}
	if !f.To.IsZero() {
		w.and("created_at < ?", s.d.stamp(f.To))
	}
	w.and("id < ?", cmp.Or(f.Before, 1<<62))
	list, err := all(ctx, s.read, func(e *AuditEvent) []any {
		return []any{&e.ID, &e.Type, &e.User, text{&e.Client}, text{&e.IP}, (*[]byte)(&e.Data), &e.Severity, moment{&e.At}}
	}, "SELECT id, event_type, COALESCE(user_id, 0), client_id, ip_address, event_data, severity, created_at FROM audit_log WHERE "+
		strings.Join(w.where, " AND ")+" ORDER BY id DESC LIMIT ?", append(w.args, f.Limit)...)
	return list, s.d.coded("read the audit log", err)
}
