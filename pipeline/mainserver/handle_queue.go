package mainserver

import (
	"cmp"
	"context"
	"time"

	"github.com/sealmq/sealmq/api/mainapi"
	"github.com/sealmq/sealmq/pipeline"
	"github.com/sealmq/sealmq/pipeline/records"
)

// GetQueue implements mainapi.StrictServerInterface.
func (h *handler) GetQueue(ctx context.Context, _ mainapi.GetQueueRequestObject) (mainapi.GetQueueResponseObject, error) {
	counts, err := h.queueCounts(ctx)
	return mainapi.GetQueue200JSONResponse(counts), err
}

func (h *handler) queueCounts(ctx context.Context) (counts mainapi.QueueCounts, err error) {
	c, err := h.cfg.Queue.Counts(ctx)
	if err != nil {
		return counts, err
	}
	return queueCountsOf(&c, h.now()), nil
}

func queueCountsOf(c *pipeline.Counts, now time.Time) mainapi.QueueCounts {
	counts := mainapi.QueueCounts{Ready: int64(c.Ready), Processing: int64(c.Processing), Retry: int64(c.Retry), Dead: int64(c.Dead)}
	if !c.Oldest.IsZero() {
		counts.OldestAgeSeconds = max(0, now.Sub(c.Oldest).Seconds())
	}
	return counts
}

// ListDead implements mainapi.StrictServerInterface.
func (h *handler) ListDead(ctx context.Context, r mainapi.ListDeadRequestObject) (mainapi.ListDeadResponseObject, error) {
	list, err := h.cfg.Queue.Dead(ctx, cmp.Or(r.Params.Limit, records.DefaultLimit))
	if err != nil {
		return nil, err
	}
	answer := mainapi.ListDead200JSONResponse{Items: make([]mainapi.DeadItem, len(list))}
	for i, d := range list {
		answer.Items[i] = mainapi.DeadItem{MessageID: d.Item.MessageID, ClientID: d.Item.ClientID, Domain: d.Item.Domain, Reason: d.Reason,
			QueuedAt: utc(d.Item.QueuedAt), AttemptCount: d.Item.AttemptCount, Malformed: d.Err != nil}
	}
	return answer, nil
}

// RequeueDead implements mainapi.StrictServerInterface.
func (h *handler) RequeueDead(ctx context.Context, r mainapi.RequeueDeadRequestObject) (mainapi.RequeueDeadResponseObject, error) {
	if r.Body.All == (len(r.Body.Items) > 0) {
		return nil, invalid("items", "Give either all or items")
	}
	var updates []pipeline.Update
	for _, it := range r.Body.Items {
		updates = append(updates, requeued(it.ClientID, it.MessageID))
	}
	n, err := h.requeue(ctx, updates)
	return mainapi.RequeueDead200JSONResponse{Requeued: n}, err
}

// requeue queues dead items again, and their rows with them. No rows means all items; then the
// rows stay failed until their messages are delivered: nobody reads millions of items for them.
func (h *handler) requeue(ctx context.Context, rows []pipeline.Update) (n int, err error) {
	if len(rows) > 0 {
		n, err = h.requeueItems(ctx, rows)
	} else {
		n, err = h.cfg.Queue.Requeue(ctx, nil)
	}
	if n > 0 {
		h.audit(ctx, act{event: "queue_requeued", details: map[string]any{"items": n}})
	}
	return n, err
}

// requeueItems moves dead items with the ids of rows, then the rows, unless an item was missing:
// the queue does not say which, and a row that is queued without an item is never delivered.
func (h *handler) requeueItems(ctx context.Context, rows []pipeline.Update) (int, error) {
	ids := make([]string, len(rows))
	for i := range rows {
		ids[i] = rows[i].MessageID
	}
	n, err := h.cfg.Queue.Requeue(ctx, ids)
	if err == nil && n >= len(rows) {
		err = h.requeueRows(ctx, rows)
	}
	return n, err
}
