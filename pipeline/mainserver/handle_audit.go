package mainserver

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/api/mainapi"
	"github.com/sealmq/sealmq/audit"
	"github.com/sealmq/sealmq/internal/httpkit"
	"github.com/sealmq/sealmq/pipeline/records"
)

// act is something that an administrator did.
type act struct {
	event  string
	client string // whom it is about, or empty
	// user and actor are who did it, if the caller does not say.
	user     int64
	actor    string
	severity records.Severity
	details  map[string]any
}

// noteTimeout bounds what is written about an act that is done. An act writes up to four times,
// and its answer, which may have the only copy of a key, must leave within httpkit.Limits.
const noteTimeout = 10 * time.Second

// afterAct is the context for what is written about an act that is done: it outlives a caller
// who has gone.
func afterAct(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), noteTimeout)
}

// audit puts an act that is done on record.
func (h *handler) audit(ctx context.Context, a act) {
	ctx, cancel := afterAct(ctx)
	defer cancel()
	if slices.Contains(endsLogins, a.event) {
		h.streams.recheck()
	}
	if err := h.tryAudit(ctx, a); err != nil {
		h.cfg.Log.Error("an administrative act is not in the database's audit table", "event", a.event, "client", a.client, "error", err)
	}
}

// tryAudit is audit for what must not be done without a record.
func (h *handler) tryAudit(ctx context.Context, a act) error {
	caller, _ := httpkit.CallerOf(ctx)
	if caller.Account != nil {
		a.user = caller.Account.ID
	}
	if a.actor != "" {
		caller.Identity = sealmq.Identity{ID: a.actor, CommonName: a.actor}
	}
	if h.cfg.Audit != nil {
		object, _ := a.details["message_id"].(string)
		if a.client != "" && object != "" {
			object = a.client + "/" + object
		}
		h.cfg.Audit.Write(audit.Record{Time: h.now(), Identity: caller.Identity, Command: a.event, Object: cmp.Or(object, a.client)})
	}
	details := maps.Clone(a.details)
	if details == nil {
		details = make(map[string]any)
	}
	details[actorKey], details[requestIDKey] = caller.ID, httpkit.RequestID(ctx)
	data, err := json.Marshal(details)
	if err != nil {
		return err
	}
	ip := ""
	if r := exchangeOf(ctx).r; r != nil {
		ip = httpkit.ClientAddress(r)
	}
	return h.cfg.Store.AddAudit(ctx, []records.AuditEvent{{Type: a.event, User: a.user, Client: a.client, IP: ip, Data: data, Severity: a.severity, At: h.now()}})
}

// Keys of an event's data that are fields of an entry.
const (
	actorKey     = "actor"
	requestIDKey = "request_id"
	// maxAuditPages bounds what is looked at for one page that only some events belong to.
	maxAuditPages = 20
)

// ListAudit implements mainapi.StrictServerInterface.
func (h *handler) ListAudit(ctx context.Context, r mainapi.ListAuditRequestObject) (mainapi.ListAuditResponseObject, error) {
	p := r.Params
	f := records.AuditFilter{Type: p.EventType, Client: p.ClientID, Severity: records.Severity(p.Severity), From: p.From, To: p.To, Limit: cmp.Or(p.Limit, records.DefaultLimit)}
	if p.Cursor != "" {
		n, err := strconv.ParseInt(p.Cursor, 10, 64)
		if err != nil || n < 1 {
			return nil, errCursor
		}
		f.Before = n
	}
	page, err := h.auditPage(ctx, f, p.Actor)
	return mainapi.ListAudit200JSONResponse(page), err
}

// auditPage is a page of the log. The database does not know actors, so that a page for one
// may be short, or empty, and still have a next one.
func (h *handler) auditPage(ctx context.Context, f records.AuditFilter, actor string) (mainapi.AuditPage, error) {
	page := mainapi.AuditPage{Items: []mainapi.AuditEntry{}}
	limit := f.Limit
	if actor != "" {
		f.Limit = records.MaxLimit
	}
	for range maxAuditPages {
		list, err := h.cfg.Store.Audit(ctx, f)
		if err != nil {
			return page, err
		}
		page.NextCursor = ""
		for i := range list {
			e := auditEntry(&list[i])
			f.Before = e.ID
			if actor == "" || e.Actor == actor {
				page.Items = append(page.Items, e)
			}
			if len(page.Items) == limit {
				page.NextCursor = strconv.FormatInt(e.ID, 10)
				return page, nil
			}
		}
		if len(list) < f.Limit {
			return page, nil
		}
		page.NextCursor = strconv.FormatInt(f.Before, 10)
	}
	return page, nil
}

func auditEntry(e *records.AuditEvent) mainapi.AuditEntry {
	entry := mainapi.AuditEntry{ID: e.ID, At: e.At.UTC(), EventType: e.Type, Severity: mainapi.AuditEntrySeverity(e.Severity), ClientID: e.Client, IPAddress: e.IP}
	if json.Unmarshal(e.Data, &entry.Details) == nil {
		entry.Actor, _ = entry.Details[actorKey].(string)
		entry.RequestID, _ = entry.Details[requestIDKey].(string)
		delete(entry.Details, actorKey)
		delete(entry.Details, requestIDKey)
	}
	return entry
}

// chainAge is how long what was found out about the audit file is taken for true: it is read as
// a whole for that. An error is kept for a shorter time.
const (
	chainAge      = 30 * time.Second
	chainErrorAge = 5 * time.Second
)

// chainCache is what was found out about the audit file.
type chainCache struct {
	mu    sync.Mutex
	until time.Time // when it is looked at again
	chain mainapi.AuditChain
	err   error
	// busy is closed at the end of the check that is under way, if one is.
	busy chan struct{}
}

// GetAuditChain implements mainapi.StrictServerInterface.
func (h *handler) GetAuditChain(ctx context.Context, _ mainapi.GetAuditChainRequestObject) (mainapi.GetAuditChainResponseObject, error) {
	if h.cfg.AuditChain == nil {
		return nil, httpkit.Errorf(httpkit.CodeNotFound, "This main server keeps no audit file")
	}
	c := &h.chain
	c.mu.Lock()
	now := h.now()
	if c.busy == nil && (now.After(c.until) || c.until.Sub(now) > chainAge) {
		c.busy = make(chan struct{})
		go h.checkChain()
	}
	busy := c.busy
	c.mu.Unlock()
	if busy != nil {
		select {
		case <-busy:
		case <-ctx.Done():
			return nil, &httpkit.Error{Code: httpkit.CodeUnavailable, Message: "The audit file is still being checked; try again", Err: ctx.Err()}
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return mainapi.GetAuditChain200JSONResponse(c.chain), c.err
}

// checkChain reads the audit file. One check at a time runs, for all who wait for it.
func (h *handler) checkChain() {
	found, err := h.cfg.AuditChain()
	c := &h.chain
	c.mu.Lock()
	defer c.mu.Unlock()
	now := h.now()
	c.until, c.err = now.Add(chainAge), nil
	c.chain = mainapi.AuditChain{CheckedAt: now.UTC(), Records: found.Records, Until: utc(found.Until), LastHash: found.Last, Whole: found.Broken == "", Broken: found.Broken}
	if err != nil {
		c.until, c.err = now.Add(chainErrorAge), &httpkit.Error{Code: httpkit.CodeUnavailable, Message: "The audit file cannot be read", Err: err}
	}
	close(c.busy)
	c.busy = nil
}
