package mainserver

import (
	"context"

	"github.com/sealmq/sealmq/api/mainapi"
	"github.com/sealmq/sealmq/pipeline"
	"github.com/sealmq/sealmq/pipeline/records"
)

// GetMessageTimeline implements mainapi.StrictServerInterface.
func (h *handler) GetMessageTimeline(ctx context.Context, r mainapi.GetMessageTimelineRequestObject) (mainapi.GetMessageTimelineResponseObject, error) {
	m, err := h.visible(ctx, r.ClientID, r.MessageID)
	if err != nil {
		return nil, err
	}
	attempts, err := h.cfg.Store.Attempts(ctx, m.RowID)
	answer := mainapi.GetMessageTimeline200JSONResponse{Events: timelineOf(&m, attempts)}
	for _, c := range h.cfg.Service.presence.all(h.now()) {
		if c.Role == mainapi.ComponentRoleWorker && c.State == mainapi.ComponentStateOnline {
			answer.Workers++
		}
	}
	return answer, err
}

// timelineOf is the history of a message: its row has the beginning and the end, and the
// attempts are what happened in between.
func timelineOf(m *records.Record, attempts []records.Attempt) []mainapi.TimelineEvent {
	events := []mainapi.TimelineEvent{{Event: mainapi.TimelineEventEventAccepted, At: m.QueuedAt.UTC(), ProxyID: m.Proxy}}
	last := 0 // number of the attempt before
	for _, a := range attempts {
		e := mainapi.TimelineEvent{Event: mainapi.TimelineEventEvent(a.Event), At: a.At.UTC(), Attempt: a.Number, WorkerID: a.Worker, ErrorMessage: a.Error}
		if a.Event == records.Requeued {
			e.Attempt, last = 0, 0 // attempts are counted from zero again
		} else {
			e.Omitted, last = max(0, a.Number-last-1), max(a.Number, last)
		}
		events = append(events, e)
	}
	if m.State == pipeline.Delivered {
		events = append(events, mainapi.TimelineEvent{Event: mainapi.TimelineEventEventDelivered, At: m.DeliveredAt.UTC(), Attempt: m.Attempts, WorkerID: m.Worker,
			Omitted: max(0, m.Attempts-last-1)})
	}
	return events
}
