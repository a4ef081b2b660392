package mainserver

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/httpkit"
	"github.com/sealmq/sealmq/pipeline"
	"github.com/sealmq/sealmq/pipeline/accounts"
	"github.com/sealmq/sealmq/pipeline/records"
)

// The aliases for people who look at messages.

var viewers = []sealmq.Role{sealmq.RoleAdmin, accounts.Operator, accounts.UserManager, accounts.Plain}

func (a *aliases) addPortalMessages() {
	a.handle(viewers, 0, a.portalMessage, "GET /portal/messages/{message_id}")
	o := httpkit.Options{Roles: viewers, Style: httpkit.Plain}
	a.rt.Handle("GET /portal/messages", o, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v, total, err := a.portalMessages(r.WithContext(withRequest(r.Context(), w, r)))
		if err != nil {
			httpkit.WriteError(w, r, err)
			return
		}
		w.Header().Set("X-Total-Count", strconv.FormatInt(total, 10))
		httpkit.WriteJSON(w, http.StatusOK, v)
	}))
}

// maxSkip bounds how far pages by number reach. The API's cursors reach everything.
const maxSkip = 10_000

type portalMessage struct {
	ID          int64          `json:"id"`
	MessageID   string         `json:"message_id"`
	ClientID    string         `json:"client_id"`
	Number      string         `json:"sender_number_masked"`
	Body        *string        `json:"message_body"`
	Status      pipeline.State `json:"status"`
	Attempts    int            `json:"attempt_count"`
	Domain      string         `json:"domain"`
	Error       *string        `json:"error_message"`
	CreatedAt   *httpkit.Time  `json:"created_at"`
	QueuedAt    *httpkit.Time  `json:"queued_at"`
	DeliveredAt *httpkit.Time  `json:"delivered_at"`
}

func portalMessageOf(r *records.Record, text bool) portalMessage {
	m := portalMessage{ID: r.RowID, MessageID: r.ID, ClientID: r.Client, Number: r.NumberMasked, Status: r.State, Attempts: r.Attempts, Domain: r.Domain,
		CreatedAt: timeOrNull(r.CreatedAt), QueuedAt: timeOrNull(r.QueuedAt), DeliveredAt: timeOrNull(r.DeliveredAt)}
	if r.Error != "" {
		m.Error = &r.Error
	}
	if text && !r.Unreadable {
		m.Body = &r.Body
	}
	return m
}

func timeOrNull(t time.Time) *httpkit.Time {
	if t.IsZero() {
		return nil
	}
	return &httpkit.Time{Time: t}
}

// portalFilter reads the filters of a list.
func portalFilter(r *http.Request) (f records.Filter, err error) {
	q := r.URL.Query()
	f = records.Filter{Client: q.Get("client_id"), Domain: q.Get("domain"), IDPrefix: q.Get("message_id"), State: pipeline.State(q.Get("status"))}
	if q.Has("status_filter") {
		f.State = pipeline.State(q.Get("status_filter"))
	}
	if f.State == "all" {
		f.State = ""
	}
	bad := func(name, msg string) error {
		return httpkit.Invalid(httpkit.Field{Type: "value_error", Loc: []any{"query", name}, Msg: msg})
	}
	if !slices.Contains([]pipeline.State{"", pipeline.Queued, pipeline.Processing, pipeline.Delivered, pipeline.Failed}, f.State) {
		return f, bad("status", "The value must be one of queued, processing, delivered, failed and all")
	}
	if f.IDPrefix != "" && len(f.IDPrefix) < records.MinPrefix {
		return f, bad("message_id", fmt.Sprintf("The beginning of an id has at least %d characters", records.MinPrefix))
	}
	for name, to := range map[string]*time.Time{"from_date": &f.From, "to_date": &f.To} {
		if s := q.Get(name); s != "" {
			if *to, err = time.Parse(time.DateOnly, s); err != nil {
				*to, err = httpkit.ParseTime(s)
			}
			if err != nil {
				return f, bad(name, "The value must be a day, or a time as in RFC 3339")
			}
		}
	}
	if f.Number, err = normalNumber(q.Get("search")); err != nil {
		return f, bad("search", "A number has 2 to 15 digits after an optional plus sign; blanks and hyphens are ignored")
	}
	return f, nil
}

func (a *aliases) portalMessages(r *http.Request) (v any, total int64, err error) {
	ctx, q := r.Context(), r.URL.Query()
	f, err := portalFilter(r)
	if err != nil {
		return nil, 0, err
	}
	numbered := q.Has("page") || q.Has("per_page")
	skip, limit, p := 0, 0, pagination{}
	if numbered {
		p, err = pageOf(r)
		skip, limit = (p.Page-1)*p.PerPage, p.PerPage
	} else if skip, err = queryInt(r, "skip", 0, maxSkip, 0); err == nil {
		limit, err = queryInt(r, "limit", 1, records.MaxLimit, records.DefaultLimit)
	}
	switch {
	case err != nil:
		return nil, 0, err
	case skip > maxSkip:
		return nil, 0, httpkit.Invalid(httpkit.Field{Type: "less_than_equal", Loc: []any{"query", "page"}, Msg: fmt.Sprintf("Pages reach %d messages; use filters, or the cursors of /api/v1/messages", maxSkip)})
	}
	list := []portalMessage{}
	if may := sightOf(ctx); may.narrow(&f) {
		if total, _, err = a.h.cfg.Store.Count(ctx, f); err != nil {
			return nil, 0, err
		}
		if list, err = a.portalRows(r, f, skip, limit); err != nil {
			return nil, 0, err
		}
	}
	if !numbered {
		return list, total, nil
	}
	p.Total, p.Pages = int(total), (int(total)+p.PerPage-1)/p.PerPage
	return map[string]any{"messages": list, "pagination": p}, total, nil
}

// portalRows are the rows behind the first ones. Administrators see the texts, which is on record.
func (a *aliases) portalRows(r *http.Request, f records.Filter, skip, limit int) ([]portalMessage, error) {
	ctx := r.Context()
	list := []portalMessage{}
	for {
		f.Limit = min(cmp.Or(skip, limit-len(list)), records.MaxLimit)
		f.Bodies = skip == 0 && sightOf(ctx).all && sightOf(ctx).texts
		page, err := a.h.cfg.Store.List(ctx, f)
		if err != nil {
			return nil, err
		}
		for i := range page.Records {
			if skip > 0 {
				skip--
				continue
			}
			m := &page.Records[i]
			if f.Bodies {
				if err := a.h.auditView(ctx, m.Client, m.ID); err != nil {
					return nil, err
				}
			}
			list = append(list, portalMessageOf(m, f.Bodies))
		}
		if f.Cursor = page.Next; f.Cursor == "" || len(list) >= limit {
			return list, nil
		}
	}
}

type portalDetail struct {
	portalMessage
	LastAttemptAt *httpkit.Time   `json:"last_attempt_at"`
	Metadata      json.RawMessage `json:"metadata"`
}

func (a *aliases) portalMessage(r *http.Request) (any, error) {
	ctx := r.Context()
	may := sightOf(ctx)
	client := may.client
	if may.all {
		client = r.URL.Query().Get("client_id")
	} else if client == "" {
		return nil, notFound(records.ErrNotFound, "message")
	}
	m, err := a.h.cfg.Store.Get(ctx, client, r.PathValue("message_id"))
	if err != nil {
		return nil, notFound(err, "message")
	}
	if may.texts {
		if err := a.h.auditView(ctx, m.Client, m.ID); err != nil {
			return nil, err
		}
	}
	d := portalDetail{portalMessage: portalMessageOf(&m, may.texts), LastAttemptAt: timeOrNull(m.LastAttemptAt)}
	if may.texts && len(m.Metadata) > 0 {
		d.Metadata = m.Metadata
	}
	return d, nil
}
