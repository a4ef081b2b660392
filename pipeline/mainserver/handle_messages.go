package mainserver

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/api/mainapi"
	"github.com/sealmq/sealmq/internal/httpkit"
	"github.com/sealmq/sealmq/pipeline"
	"github.com/sealmq/sealmq/pipeline/accounts"
	"github.com/sealmq/sealmq/pipeline/records"
)

// sight is which messages a caller may see, and whether with their texts.
type sight struct {
	all    bool
	client string // whose, if not all; empty is nobody's
	texts  bool
}

// sightOf says what the caller of a request may see: programs with an administrator's certificate
// everything, people what their role allows.
func sightOf(ctx context.Context) sight {
	c, _ := httpkit.CallerOf(ctx)
	switch {
	case c.Role == sealmq.RoleAdmin:
		return sight{all: true, texts: true}
	case c.Role == accounts.Operator:
		return sight{all: true}
	case c.Account == nil:
		return sight{}
	}
	return sight{client: c.Account.ClientID, texts: true}
}

func (s sight) sees(client string) bool { return s.all || s.client != "" && client == s.client }

// narrow limits a filter to what is seen. It is false if that is nothing.
func (s sight) narrow(f *records.Filter) bool {
	if s.all {
		return true
	}
	if f.Client == "" {
		f.Client = s.client
	}
	return s.sees(f.Client)
}

// visible returns a message with its text, if the caller may see it. Others' are not found, so
// that nobody learns which there are.
func (h *handler) visible(ctx context.Context, client, id string) (records.Record, error) {
	if !sightOf(ctx).sees(client) {
		return records.Record{}, notFound(records.ErrNotFound, "message")
	}
	m, err := h.cfg.Store.Get(ctx, client, id)
	return m, notFound(err, "message")
}

// ListMessages implements mainapi.StrictServerInterface.
func (h *handler) ListMessages(ctx context.Context, r mainapi.ListMessagesRequestObject) (mainapi.ListMessagesResponseObject, error) {
	p := r.Params
	page, err := h.messages(ctx, records.Filter{Client: p.ClientID, State: pipeline.State(p.Status), Domain: p.Domain, IDPrefix: p.MessageID, ClientKey: p.ClientKey,
		NumberToken: p.NumberToken, From: p.From, To: p.To, Limit: p.Limit, Cursor: p.Cursor})
	return mainapi.ListMessages200JSONResponse(page), err
}

// SearchMessages implements mainapi.StrictServerInterface.
func (h *handler) SearchMessages(ctx context.Context, r mainapi.SearchMessagesRequestObject) (mainapi.SearchMessagesResponseObject, error) {
	b := r.Body
	number, err := normalNumber(b.SenderNumber)
	if err != nil {
		return nil, err
	}
	page, err := h.messages(ctx, records.Filter{Client: b.ClientID, State: pipeline.State(b.Status), Domain: b.Domain, IDPrefix: b.MessageID, ClientKey: b.ClientKey,
		Number: number, From: b.From, To: b.To, Limit: b.Limit, Cursor: b.Cursor})
	return mainapi.SearchMessages200JSONResponse(page), err
}

// normalNumber is a number as people write it in the form in which it is stored.
func normalNumber(s string) (string, error) {
	if s == "" {
		return "", nil
	}
	digits := strings.NewReplacer(" ", "", "-", "").Replace(strings.TrimSpace(s))
	number := "+" + strings.TrimPrefix(digits, "+")
	if err := pipeline.CheckNumber(number, pipeline.MinNumber); err != nil {
		return "", invalid("sender_number", "A number has 2 to 15 digits after an optional plus sign; blanks and hyphens are ignored")
	}
	return number, nil
}

// messages is a page of messages. The first one has the total.
func (h *handler) messages(ctx context.Context, f records.Filter) (mainapi.MessagePage, error) {
	page := mainapi.MessagePage{Items: []mainapi.Message{}}
	if !sightOf(ctx).narrow(&f) {
		page.Total.Exact = true
		return page, nil
	}
	found, err := h.cfg.Store.List(ctx, f)
	if err != nil {
		return page, err
	}
	page.Items, page.NextCursor = mapped(found.Records, messageOf), found.Next
	if f.Number != "" {
		page.NumberToken = h.cfg.Store.NumberToken(f.Number)
	}
	if f.Cursor == "" {
		page.Total.Count, page.Total.Exact, err = h.cfg.Store.Count(ctx, f)
	}
	return page, err
}

func messageOf(r *records.Record) mainapi.Message {
	return mainapi.Message{ID: r.RowID, MessageID: r.ID, ClientID: r.Client, ClientKey: r.ClientKey, SenderNumberMasked: r.NumberMasked, Status: pipeline.State(r.State),
		AttemptCount: r.Attempts, Domain: r.Domain, ErrorMessage: r.Error, CreatedAt: r.CreatedAt.UTC(), QueuedAt: r.QueuedAt.UTC(),
		DeliveredAt: utc(r.DeliveredAt), LastAttemptAt: utc(r.LastAttemptAt), Sealed: r.Sealed}
}

// GetMessage implements mainapi.StrictServerInterface.
func (h *handler) GetMessage(ctx context.Context, r mainapi.GetMessageRequestObject) (mainapi.GetMessageResponseObject, error) {
	m, err := h.visible(ctx, r.ClientID, r.MessageID)
	if err != nil {
		return nil, err
	}
	return mainapi.GetMessage200JSONResponse(messageOf(&m)), nil
}

// GetMessageContent implements mainapi.StrictServerInterface.
func (h *handler) GetMessageContent(ctx context.Context, r mainapi.GetMessageContentRequestObject) (mainapi.GetMessageContentResponseObject, error) {
	m, err := h.visible(ctx, r.ClientID, r.MessageID)
	if err != nil {
		return nil, err
	}
	if err := h.auditView(ctx, m.Client, m.ID); err != nil {
		return nil, err
	}
	if m.Unreadable {
		return nil, httpkit.Errorf(httpkit.CodeConflict, "The text cannot be decrypted with the keys of this server")
	}
	c := messageOf(&m)
	answer := mainapi.GetMessageContent200JSONResponse{ID: c.ID, MessageID: c.MessageID, ClientID: c.ClientID, ClientKey: c.ClientKey, SenderNumberMasked: c.SenderNumberMasked,
		Status: c.Status, AttemptCount: c.AttemptCount, Domain: c.Domain, ErrorMessage: c.ErrorMessage, CreatedAt: c.CreatedAt, QueuedAt: c.QueuedAt,
		DeliveredAt: c.DeliveredAt, LastAttemptAt: c.LastAttemptAt, Sealed: c.Sealed, MessageBody: m.Body}
	if len(m.Metadata) > 0 {
		if err := json.Unmarshal(m.Metadata, &answer.Metadata); err != nil {
			h.cfg.Log.Warn("the metadata of a message is no JSON object", "client_id", m.Client, "message_id", m.ID)
		}
	}
	return answer, nil
}

// auditView puts on record who reads a text, before it is shown.
func (h *handler) auditView(ctx context.Context, client, id string) error {
	return h.tryAudit(ctx, act{event: "message_viewed", client: client, details: map[string]any{"message_id": id}})
}

// RetryMessage implements mainapi.StrictServerInterface.
func (h *handler) RetryMessage(ctx context.Context, r mainapi.RetryMessageRequestObject) (mainapi.RetryMessageResponseObject, error) {
	state, err := h.retry(ctx, r.ClientID, r.MessageID)
	return mainapi.RetryMessage200JSONResponse(state), err
}

// retry queues a failed message again. client may be empty if the id is unique.
func (h *handler) retry(ctx context.Context, client, id string) (state pipeline.MessageState, err error) {
	m, err := h.cfg.Store.Get(ctx, client, id)
	if err != nil {
		return state, notFound(err, "message")
	}
	if m.State != pipeline.Failed {
		return state, httpkit.Errorf(httpkit.CodeConflict, "Only a failed message can be queued again")
	}
	// The queue comes first: an item without a changed row is delivered, a changed row
	// without an item never is.
	n, err := h.cfg.Queue.Requeue(ctx, []string{m.ID})
	switch {
	case err != nil:
		return state, err
	case n == 0:
		return state, httpkit.Errorf(httpkit.CodeConflict, "The message is not among the queue's dead items; its client must submit it again")
	}
	if err := h.requeueRows(ctx, []pipeline.Update{requeued(m.Client, m.ID)}); err != nil {
		return state, err
	}
	h.audit(ctx, act{event: "message_retried", client: m.Client, details: map[string]any{"message_id": m.ID}})
	m, err = h.cfg.Store.Get(ctx, m.Client, m.ID)
	return stateOf(&m), notFound(err, "message")
}

func requeued(client, id string) pipeline.Update {
	return pipeline.Update{ClientID: client, MessageID: id, State: pipeline.Queued}
}

// requeueRows moves the rows of requeued items back to queued. One that is delivered
// meanwhile stays so.
func (h *handler) requeueRows(ctx context.Context, updates []pipeline.Update) error {
	for part := range slices.Chunk(updates, records.MaxBatch) {
		if _, err := h.cfg.Store.Requeue(ctx, part); err != nil {
			return err
		}
	}
	return nil
}
