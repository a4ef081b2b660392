package mainserver

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/api/mainapi"
	"github.com/sealmq/sealmq/audit"
	"github.com/sealmq/sealmq/pipeline/records"
)

// Refused puts on record whom the listeners of all roles did not let in. Together they have as
// much room in the audit log as the main server's own listener.
type Refused struct {
	store *records.Store
	sink  audit.Sink
	now   func() time.Time
	room  denials
}

// NewRefused returns a Refused. now must be the clock of the service. sink may be nil.
func NewRefused(store *records.Store, sink audit.Sink, now func() time.Time) *Refused {
	return &Refused{store: store, sink: sink, now: now}
}

// Add puts a report on record, all of it or nothing. Who reports has checked the names.
func (f *Refused) Add(ctx context.Context, report mainapi.RefusedReport) error {
	now := f.now()
	var events []records.AuditEvent
	var lines []audit.Record
	f.room.leave(report.LeftOut)
	for i := range report.Items {
		a := &report.Items[i]
		leftOut, ok := f.room.take(now)
		if !ok {
			continue
		}
		details := map[string]any{"endpoint": string(a.Component), "reason": a.Reason, attemptsKey: a.Attempts, "reported_by": plain(report.Node)}
		message := fmt.Sprintf("%s (attempts: %d)", a.Reason, a.Attempts)
		if leftOut > 0 {
			details[leftOutKey] = leftOut
			message = fmt.Sprintf("%s (%s: %d)", message, leftOutKey, leftOut)
		}
		data, err := json.Marshal(details)
		if err != nil {
			return err
		}
		at := now
		if a.Last.Before(now) && now.Sub(a.Last) < maxRefusedAge {
			at = a.Last
		}
		events = append(events, records.AuditEvent{Type: eventDenied, Client: a.ClientID, IP: a.Address, Data: data, Severity: records.Warning, At: at})
		lines = append(lines, audit.Record{Time: now, Identity: sealmq.Identity{ID: a.ClientID}, Command: eventDenied, Object: string(a.Component),
			Outcome: &sealmq.Error{Code: sealmq.Denied, Message: message}})
	}
	if len(events) == 0 {
		return nil
	}
	if err := f.store.AddAudit(ctx, events); err != nil {
		return err
	}
	for _, line := range lines {
		if f.sink != nil {
			f.sink.Write(line)
		}
	}
	return nil
}

const (
	attemptsKey = "attempts"
	// maxRefusedAge is how old an attempt may be that is reported: another machine's clock may
	// be wrong.
	maxRefusedAge = 24 * time.Hour
)

// ReportRefused implements mainapi.StrictServerInterface.
func (h *handler) ReportRefused(ctx context.Context, r mainapi.ReportRefusedRequestObject) (mainapi.ReportRefusedResponseObject, error) {
	return mainapi.ReportRefused204Response{}, h.cfg.Refused.Add(ctx, *r.Body)
}
