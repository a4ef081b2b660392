package mainserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/sealmq/sealmq/internal/httpkit"
	"github.com/sealmq/sealmq/pipeline"
	"github.com/sealmq/sealmq/pipeline/records"
)

func (a *aliases) addMessages() {
	a.handle(callers, 0, a.register, "POST /register", "POST /internal/messages/register")
	a.handle(callers, maxAliasBatch, a.registerBatch, "POST /internal/messages/register/batch")
	a.handle(workers, 0, a.deliver, "POST /internal/messages/deliver")
	a.handle(workers, maxAliasBatch, a.deliverBatch, "POST /internal/messages/deliver/batch")
	a.handle(workers, 0, a.status, "POST /status_update", "PUT /status_update", "PUT /internal/messages/{message_id}/status")
	a.handle(callers, 0, a.revocations, "GET /internal/revocations")
}

// maxBodyBytes bounds a text before its characters are counted.
const maxBodyBytes = 4 * pipeline.MaxBody

// itemIn reads a message of the design documents. Without its payload it has an id only.
func (a *aliases) itemIn(f *fields, payload bool) (it pipeline.Item) {
	it.MessageID = f.text("message_id", 36, true)
	if it.MessageID != "" {
		f.check("message_id", pipeline.CheckMessageID(it.MessageID))
	}
	it.ClientID = f.text("client_id", 255, payload)
	it.Domain = f.text("domain", 255, false)
	if it.Domain != "" {
		f.check("domain", pipeline.CheckDomain(it.Domain))
	}
	it.QueuedAt = f.moment("queued_at")
	it.AttemptCount = f.whole("attempt_count", 0, 1<<31-1, 0)
	if enc := f.text("enc", 16, false); enc != "" {
		it.Enc, it.ClientKey = enc, f.text("client_key", pipeline.MaxKeyBytes, false)
		it.Sealed, _ = json.Marshal(f.o["sealed"])
		return it
	}
	it.SenderNumber = f.text("sender_number", 64, payload)
	it.MessageBody = f.text("message_body", maxBodyBytes, payload)
	if it.SenderNumber != "" {
		f.check("sender_number", pipeline.CheckNumber(it.SenderNumber, a.h.cfg.Service.cfg.MinNumber))
	}
	switch m := f.o["metadata"].(type) {
	case nil:
	case map[string]any:
		it.Metadata, _ = json.Marshal(m)
		if len(it.Metadata) > pipeline.MaxMetadataBytes || len(m) > pipeline.MaxMetadataKeys {
			f.wrong("value_error", "metadata", fmt.Sprintf("Metadata has up to %d keys and %d bytes", pipeline.MaxMetadataKeys, pipeline.MaxMetadataBytes))
		}
	default:
		f.wrong("dict_type", "metadata", "The value must be of the type object")
	}
	return it
}

// check adds what a rule of the pipeline says.
func (f *fields) check(name string, err error) {
	var e *pipeline.FieldError
	if errors.As(err, &e) {
		f.wrong(e.Type, name, e.Reason)
	}
}

type registered struct {
	Status       string       `json:"status"`
	MessageID    string       `json:"message_id"`
	ID           int64        `json:"id"`
	RegisteredAt httpkit.Time `json:"registered_at"`
	Duplicate    bool         `json:"duplicate,omitempty"`
}

func (a *aliases) register(r *http.Request) (any, error) {
	f := bodyOf(r)
	it := a.itemIn(f, true)
	if f.o["enqueue"] == true {
		f.wrong("value_error", "enqueue", "A registered message is not put into the queue; submit it to a proxy")
	}
	if it.MessageBody != "" {
		f.check("message_body", pipeline.CheckBody(it.MessageBody, a.h.cfg.Service.cfg.MaxBody))
	}
	if err := f.err(); err != nil {
		return nil, err
	}
	results, err := a.h.caller(r.Context()).Register(r.Context(), []pipeline.Item{it})
	if err == nil {
		err = refusal(&results[0])
	}
	if err != nil {
		return nil, err
	}
	res := results[0]
	return registered{"success", res.MessageID, res.RowID, httpkit.Time{Time: res.At}, res.Status == pipeline.StatusDuplicate}, nil
}

// refusal is the error for an entry that was not taken.
func refusal(r *pipeline.Result) error {
	switch r.Status {
	case pipeline.StatusConflict:
		return httpkit.Errorf(httpkit.CodeConflict, "The message id is there with another content")
	case pipeline.StatusInvalid:
		return httpkit.Invalid(httpkit.Field{Type: "value_error", Loc: []any{"body"}, Msg: r.Reason})
	case pipeline.StatusRefused:
		return httpkit.Errorf(httpkit.CodeAuthorization, "The client may not send: %s", r.Reason)
	case pipeline.StatusUnavailable:
		return &httpkit.Error{Code: httpkit.CodeUnavailable, Message: "The message cannot be taken now: " + r.Reason}
	case pipeline.StatusNotFound:
		return httpkit.Errorf(httpkit.CodeNotFound, "Message not found: %s", r.MessageID)
	}
	return nil
}

type batchResult struct {
	MessageID   string                `json:"message_id"`
	Status      pipeline.ResultStatus `json:"status"`
	ID          int64                 `json:"id,omitempty"`
	DeliveredAt *httpkit.Time         `json:"delivered_at,omitempty"`
	Error       string                `json:"error,omitempty"`
}

// entries are the messages of a batch; a bad one has its result at once.
func (a *aliases) entries(r *http.Request, payload bool) (o map[string]any, items []pipeline.Item, results []batchResult, err error) {
	if o, err = object(r); err != nil {
		return nil, nil, nil, err
	}
	list, _ := o["messages"].([]any)
	if len(list) < 1 || len(list) > pipeline.MaxBatch {
		return nil, nil, nil, invalid("messages", fmt.Sprintf("The list must have 1 to %d entries", pipeline.MaxBatch))
	}
	items, results = make([]pipeline.Item, len(list)), make([]batchResult, len(list))
	for i, v := range list {
		m, _ := v.(map[string]any)
		f := fieldsIn(m, "messages", i)
		items[i] = a.itemIn(f, payload)
		if err := f.err(); err != nil {
			results[i] = batchResult{MessageID: items[i].MessageID, Status: pipeline.StatusInvalid, Error: httpkit.ErrorOf(err).Message}
		}
	}
	return o, items, results, nil
}

// fill puts the results of the good entries of a batch in their places.
func fill(results []batchResult, items []pipeline.Item, call func([]pipeline.Item) ([]pipeline.Result, error)) (any, error) {
	var good []pipeline.Item
	var places []int
	for i := range items {
		if results[i].Status == "" {
			good, places = append(good, items[i]), append(places, i)
		}
	}
	if len(good) > 0 {
		list, err := call(good)
		if err != nil {
			return nil, err
		}
		for i, r := range list {
			b := batchResult{MessageID: r.MessageID, Status: r.Status, ID: r.RowID, Error: r.Reason}
			if r.State == pipeline.Delivered && !r.At.IsZero() {
				b.DeliveredAt = &httpkit.Time{Time: r.At}
			}
			results[places[i]] = b
		}
	}
	return map[string]any{"results": results}, nil
}

func (a *aliases) registerBatch(r *http.Request) (any, error) {
	_, items, results, err := a.entries(r, true)
	if err != nil {
		return nil, err
	}
	return fill(results, items, func(list []pipeline.Item) ([]pipeline.Result, error) {
		return a.h.caller(r.Context()).Register(r.Context(), list)
	})
}

type deliveredAnswer struct {
	Status      string       `json:"status"`
	MessageID   string       `json:"message_id"`
	DeliveredAt httpkit.Time `json:"delivered_at"`
	Already     bool         `json:"already,omitempty"`
}

func (a *aliases) deliver(r *http.Request) (any, error) {
	f := bodyOf(r)
	it := a.itemIn(f, false)
	worker := f.text("worker_id", maxWorkerName, true)
	if err := f.err(); err != nil {
		return nil, err
	}
	results, err := a.h.caller(r.Context()).deliverAny(r.Context(), worker, []pipeline.Item{it}, f.o["attempt_count"] != nil)
	if err == nil {
		err = refusal(&results[0])
	}
	if err != nil {
		return nil, err
	}
	res := results[0]
	return deliveredAnswer{"success", res.MessageID, httpkit.Time{Time: res.At}, res.Status == pipeline.StatusAlready}, nil
}

func (a *aliases) deliverBatch(r *http.Request) (any, error) {
	o, items, results, err := a.entries(r, false)
	if err != nil {
		return nil, err
	}
	f := fieldsIn(o)
	worker := f.text("worker_id", maxWorkerName, true)
	if err := f.err(); err != nil {
		return nil, err
	}
	return fill(results, items, func(list []pipeline.Item) ([]pipeline.Result, error) {
		return a.h.caller(r.Context()).deliverAny(r.Context(), worker, list, true)
	})
}

// deliverAny is Deliver for items that may lack their payload: then their rows must be
// there. counted says that the items' attempts are known.
func (v *view) deliverAny(ctx context.Context, worker string, items []pipeline.Item, counted bool) ([]pipeline.Result, error) {
	return v.deliver(ctx, items, func(it *pipeline.Item) (records.Delivery, *pipeline.Result) {
		if it.Enc != "" || it.SenderNumber != "" || it.MessageBody != "" {
			return v.delivery(worker, it)
		}
		d := records.Delivery{Message: records.Message{ID: it.MessageID, Client: it.ClientID}, Worker: worker, Attempts: -1}
		if counted {
			d.Attempts = it.AttemptCount
		}
		return d, nil
	})
}

type statusAnswer struct {
	Status        string         `json:"status"`
	MessageID     string         `json:"message_id"`
	AttemptCount  int            `json:"attempt_count"`
	UpdatedAt     httpkit.Time   `json:"updated_at"`
	Applied       bool           `json:"applied"`
	CurrentStatus pipeline.State `json:"current_status,omitempty"`
}

func (a *aliases) status(r *http.Request) (any, error) {
	f, id := bodyOf(r), r.PathValue("message_id")
	if id != "" && f.failed == nil {
		f.o["message_id"] = id
	}
	u := pipeline.Update{MessageID: f.text("message_id", 36, true), ClientID: f.text("client_id", 255, false), State: pipeline.State(f.text("status", 20, true)),
		Worker: f.text("worker_id", maxWorkerName, false), Error: f.text("error_message", 64<<10, false), Attempts: f.whole("attempt_count", 0, 1<<31-1, -1)}
	if u.MessageID != "" {
		f.check("message_id", pipeline.CheckMessageID(u.MessageID))
	}
	switch u.State {
	case "", pipeline.Queued, pipeline.Processing, pipeline.Delivered, pipeline.Failed:
	default:
		f.wrong("enum", "status", "The value must be one of queued, processing, delivered and failed")
	}
	if id != "" && f.o["attempt_count"] == nil {
		f.wrong("missing", "attempt_count", "Field required")
	}
	if err := f.err(); err != nil {
		return nil, err
	}
	results, err := a.h.caller(r.Context()).Status(r.Context(), []pipeline.Update{u})
	if err == nil {
		err = refusal(&results[0])
	}
	if err != nil {
		return nil, err
	}
	res := results[0]
	answer := statusAnswer{Status: "updated", MessageID: u.MessageID, AttemptCount: max(0, u.Attempts), UpdatedAt: httpkit.Time{Time: res.At}, Applied: res.Status != pipeline.StatusKept}
	if res.At.IsZero() {
		answer.UpdatedAt = httpkit.Time{Time: a.h.now()}
	}
	if !answer.Applied {
		answer.CurrentStatus = res.State
	}
	return answer, nil
}

func (a *aliases) revocations(r *http.Request) (any, error) {
	since, err := queryInt(r, "since", 0, 1<<62, 0)
	if err != nil {
		return nil, err
	}
	return a.h.revocations(r.Context(), uint64(since), "", time.Duration(0)), nil //nolint:gosec // it is not negative
}
