package mainserver

import (
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/sealmq/sealmq/api/mainapi"
	"github.com/sealmq/sealmq/internal/httpkit"
	"github.com/sealmq/sealmq/pipeline"
	"github.com/sealmq/sealmq/pipeline/records"
)

func (a *aliases) addOperations() {
	a.handle(administrators, 0, a.stats, "GET /admin/stats")
	a.handle(administrators, 0, a.auditLog, "GET /admin/audit")
	a.handle(administrators, 0, a.queue, "GET /admin/queue")
	a.handle(administrators, 0, a.requeueDead, "POST /admin/queue/dead/requeue")
	a.handle(administrators, 0, a.retry, "POST /admin/messages/{message_id}/retry")
	a.handle(administrators, 0, a.cleanUp, "POST /admin/data-retention/cleanup")
	a.handle(nil, 0, func(*http.Request) (any, error) {
		return map[string]string{"service": "Message Broker Main Server", "version": a.h.cfg.Version, "status": "running", "documentation": "/docs"}, nil
	}, "GET /{$}")
}

func (a *aliases) stats(r *http.Request) (any, error) {
	ctx, domain := r.Context(), r.URL.Query().Get("domain")
	period := r.URL.Query().Get("period")
	if period != "" && periods[period] == 0 {
		return nil, httpkit.Invalid(httpkit.Field{Type: "enum", Loc: []any{"query", "period"}, Msg: "The value must be one of hour, day, week and month"})
	}
	s, err := a.h.statistics(ctx, period, domain)
	if err != nil {
		return nil, err
	}
	all, err := a.h.cfg.Store.Stats(ctx, "", domain, time.Time{})
	if err != nil {
		return nil, err
	}
	byStatus := make(map[string]int64)
	for _, state := range []pipeline.State{pipeline.Queued, pipeline.Processing, pipeline.Delivered, pipeline.Failed} {
		byStatus[string(state)] = all.ByState[state]
	}
	answer := map[string]any{
		"total_messages": all.Total, "messages_by_status": byStatus,
		"total_clients": s.Clients.Total, "active_clients": s.Clients.Active, "revoked_clients": s.Clients.Revoked,
		"messages": s.Messages, "clients": s.Clients, "period": s.Period,
		"performance": map[string]any{"avg_delivery_time_seconds": s.Performance.AvgDeliveryTimeSeconds, "success_rate": s.Performance.SuccessRate,
			"queue_size": s.Queue.Ready + s.Queue.Processing + s.Queue.Retry},
	}
	for name, days := range map[string]int{"messages_last_24h": 1, "messages_last_7d": 7, "messages_last_30d": 30} {
		st, err := a.h.cfg.Store.Stats(ctx, "", domain, a.h.now().AddDate(0, 0, -days))
		if err != nil {
			return nil, err
		}
		answer[name] = st.Total
	}
	return answer, nil
}

// maxAuditEntries bounds how far pages by number reach into the audit log. The API's
// cursors reach everything.
const maxAuditEntries = 2000

func (a *aliases) auditLog(r *http.Request) (any, error) {
	p, err := pageOf(r)
	if err != nil {
		return nil, err
	}
	q := r.URL.Query()
	f := records.AuditFilter{Type: q.Get("event_type"), Client: q.Get("client_id"), Severity: records.Severity(q.Get("severity")), Limit: records.MaxLimit}
	if s := q.Get("user_id"); s != "" {
		if f.User, err = strconv.ParseInt(s, 10, 64); err != nil {
			return nil, httpkit.Invalid(httpkit.Field{Type: "int_parsing", Loc: []any{"query", "user_id"}, Msg: "The value must be a whole number"})
		}
	}
	for name, to := range map[string]*time.Time{"from_date": &f.From, "to_date": &f.To} {
		if s := q.Get(name); s != "" {
			if *to, err = httpkit.ParseTime(s); err != nil {
				return nil, httpkit.Invalid(httpkit.Field{Type: "value_error", Loc: []any{"query", name}, Msg: "The value must be a time as in RFC 3339"})
			}
		}
	}
	list := []mainapi.AuditEntry{}
	for len(list) < maxAuditEntries {
		page, err := a.h.auditPage(r.Context(), f, "")
		if err != nil {
			return nil, err
		}
		list = append(list, page.Items...)
		if page.NextCursor == "" {
			break
		}
		f.Before = page.Items[len(page.Items)-1].ID
	}
	p.Total, p.Pages = len(list), (len(list)+p.PerPage-1)/p.PerPage
	from := min((p.Page-1)*p.PerPage, len(list))
	return map[string]any{"events": list[from:min(from+p.PerPage, len(list))], "pagination": p}, nil
}

func (a *aliases) queue(r *http.Request) (any, error) {
	c, err := a.h.queueCounts(r.Context())
	return map[string]any{"ready": c.Ready, "processing": c.Processing, "retry": c.Retry, "dead": c.Dead, "oldest_age_seconds": c.OldestAgeSeconds, "workers": []string{}}, err
}

func (a *aliases) requeueDead(r *http.Request) (any, error) {
	o, err := object(r)
	if err != nil {
		return nil, err
	}
	var rows []pipeline.Update
	list, isList := o["message_ids"].([]any)
	for _, v := range list {
		id, ok := v.(string)
		if !ok {
			return nil, invalid("message_ids", "Each entry must be of the type string")
		}
		rows = append(rows, requeued("", id))
	}
	if o["message_ids"] != "all" && (!isList || len(rows) == 0) || len(rows) > records.MaxBatch {
		return nil, invalid("message_ids", `Give "all" or a list of 1 to 500 ids`)
	}
	n, err := a.h.requeue(r.Context(), slices.Clip(rows))
	return map[string]any{"status": "success", "requeued": n}, err
}

func (a *aliases) retry(r *http.Request) (any, error) {
	m, err := a.h.retry(r.Context(), "", r.PathValue("message_id"))
	return map[string]any{"status": "success", "message_id": m.MessageID, "current_status": m.State}, err
}

type cleanedAnswer struct {
	Status        string    `json:"status"`
	DeletedCount  int64     `json:"deleted_count"`
	RetentionDays int       `json:"retention_days"`
	CutoffDate    time.Time `json:"cutoff_date"`
}

func (a *aliases) cleanUp(r *http.Request) (any, error) {
	days, err := queryInt(r, "retention_days", records.MinRetention, records.MaxRetention, 0)
	if err != nil {
		return nil, err
	}
	o, err := optionalObject(r)
	if err != nil {
		return nil, err
	}
	f := fieldsIn(o)
	if days = f.whole("retention_days", records.MinRetention, records.MaxRetention, days); days == 0 && len(f.bad) == 0 {
		f.wrong("missing", "retention_days", "Field required")
	}
	if err := f.err(); err != nil {
		return nil, err
	}
	result, err := a.h.cleanUp(r.Context(), days)
	return cleanedAnswer{"success", result.Messages, result.RetentionDays, result.Cutoff}, err
}
