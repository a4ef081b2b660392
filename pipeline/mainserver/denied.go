package mainserver

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/audit"
	"github.com/sealmq/sealmq/internal/httpkit"
	"github.com/sealmq/sealmq/mtls"
	"github.com/sealmq/sealmq/pipeline/records"
)

const (
	// deniedPerMinute bounds the records of requests that were not let in: strangers must not
	// fill the table, nor the audit file.
	deniedPerMinute = 60
	deniedTimeout   = 2 * time.Second
	leftOutKey      = "left_out_before"
)

// denials counts them in a minute.
type denials struct {
	mu      sync.Mutex
	since   time.Time
	count   int
	leftOut int
}

// take reports whether there is room for a record, and how many were left out before it.
func (d *denials) take(now time.Time) (leftOut int, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if now.Sub(d.since) >= time.Minute || now.Before(d.since) {
		d.since, d.count = now, 0
	}
	if d.count >= deniedPerMinute {
		d.leftOut++
		return 0, false
	}
	d.count++
	leftOut, d.leftOut = d.leftOut, 0
	return leftOut, true
}

// leave counts records that somebody else has left out.
func (d *denials) leave(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.leftOut += n
}

// denied puts a request that was not let in on record. The name in a certificate that is not
// accepted is part of it, because it says whose certificate was stolen or has ended.
func (h *handler) denied(r *http.Request, endpoint string, c httpkit.Caller, e *httpkit.Error) {
	name := c.ID
	if name == "" && r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		if names := mtls.Names(r.TLS.PeerCertificates[0]); len(names) > 0 && mtls.CheckCommonName(names[0]) == nil {
			name = names[0]
		}
	}
	now := h.now()
	leftOut, ok := h.denials.take(now)
	if !ok {
		return
	}
	if h.cfg.Audit != nil {
		who, message := c.Identity, e.Message
		who.ID = name
		if leftOut > 0 {
			message = fmt.Sprintf("%s (%s: %d)", message, leftOutKey, leftOut)
		}
		h.cfg.Audit.Write(audit.Record{Time: now, Identity: who, Command: eventDenied, Object: endpoint, Outcome: &sealmq.Error{Code: sealmq.Denied, Message: message}})
	}
	details := map[string]any{"endpoint": endpoint, "reason": e.Message, requestIDKey: httpkit.RequestID(r.Context())}
	if leftOut > 0 {
		details[leftOutKey] = leftOut
	}
	data, err := json.Marshal(details)
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), deniedTimeout)
	defer cancel()
	if err := h.cfg.Store.AddAudit(ctx, []records.AuditEvent{{Type: eventDenied, Client: name, IP: httpkit.ClientAddress(r), Data: data, Severity: records.Warning, At: now}}); err != nil {
		h.cfg.Log.Warn("a request that was not let in is not in the database's audit table", "endpoint", endpoint, "error", err)
	}
}

const eventDenied = "auth_denied"
