package mainserver

import (
	"context"
	"time"

	"github.com/sealmq/sealmq/api/mainapi"
	"github.com/sealmq/sealmq/internal/httpkit"
	"github.com/sealmq/sealmq/trust"
)

// maxWorkerName is the length of the longest name of a worker.
const maxWorkerName = 100

// RegisterMessages implements mainapi.StrictServerInterface.
func (h *handler) RegisterMessages(ctx context.Context, r mainapi.RegisterMessagesRequestObject) (mainapi.RegisterMessagesResponseObject, error) {
	results, err := h.caller(ctx).Register(ctx, r.Body.Messages)
	return mainapi.RegisterMessages200JSONResponse{ResultsJSONResponse: mainapi.ResultsJSONResponse{Results: results}}, err
}

// DeliverMessages implements mainapi.StrictServerInterface.
func (h *handler) DeliverMessages(ctx context.Context, r mainapi.DeliverMessagesRequestObject) (mainapi.DeliverMessagesResponseObject, error) {
	if n := len(r.Body.WorkerID); n < 1 || n > maxWorkerName {
		return nil, invalid("worker_id", "The value must have 1 to 100 characters")
	}
	results, err := h.caller(ctx).Deliver(ctx, r.Body.WorkerID, r.Body.Messages)
	if err == nil {
		caller, _ := httpkit.CallerOf(ctx)
		h.cfg.Service.presence.saw(componentsOf(caller.ID, string(caller.Role), exchangeOf(ctx).r.RemoteAddr, &mainapi.GetRevocationsParams{Node: r.Body.WorkerID}), false, h.now())
	}
	return mainapi.DeliverMessages200JSONResponse{ResultsJSONResponse: mainapi.ResultsJSONResponse{Results: results}}, err
}

// UpdateMessages implements mainapi.StrictServerInterface.
func (h *handler) UpdateMessages(ctx context.Context, r mainapi.UpdateMessagesRequestObject) (mainapi.UpdateMessagesResponseObject, error) {
	results, err := h.caller(ctx).Status(ctx, r.Body.Updates)
	return mainapi.UpdateMessages200JSONResponse{ResultsJSONResponse: mainapi.ResultsJSONResponse{Results: results}}, err
}

// FindMessage implements mainapi.StrictServerInterface.
func (h *handler) FindMessage(ctx context.Context, r mainapi.FindMessageRequestObject) (mainapi.FindMessageResponseObject, error) {
	m, found, err := h.caller(ctx).Find(ctx, r.ClientID, r.MessageID)
	if err == nil && !found {
		err = httpkit.Errorf(httpkit.CodeNotFound, "There is no such message")
	}
	return mainapi.FindMessage200JSONResponse(m), err
}

// GetKeys implements mainapi.StrictServerInterface.
func (h *handler) GetKeys(ctx context.Context, _ mainapi.GetKeysRequestObject) (mainapi.GetKeysResponseObject, error) {
	keys, err := h.caller(ctx).Keys(ctx)
	return mainapi.GetKeys200JSONResponse{Keys: keys.Entries, IDKey: keys.IDKey}, err
}

// GetRevocations implements mainapi.StrictServerInterface.
func (h *handler) GetRevocations(ctx context.Context, r mainapi.GetRevocationsRequestObject) (mainapi.GetRevocationsResponseObject, error) {
	since := uint64(max(0, r.Params.Since))
	caller, _ := httpkit.CallerOf(ctx)
	who, presence := componentsOf(caller.ID, string(caller.Role), exchangeOf(ctx).r.RemoteAddr, &r.Params), &h.cfg.Service.presence
	if r.Params.Leaving {
		presence.left(who)
	} else {
		h.followers.note(caller, since, h.now())
		presence.saw(who, true, h.now())
		defer func() { presence.answered(who, ctx.Err() != nil, h.now()) }()
	}
	return mainapi.GetRevocations200JSONResponse(h.revocations(ctx, since, r.Params.Origin, time.Duration(r.Params.Wait)*time.Second)), nil
}

// revocations are what came after a version. If nothing did, it waits for a change.
func (h *handler) revocations(ctx context.Context, since uint64, origin string, wait time.Duration) trust.Feed {
	changed := make(chan struct{}, 1)
	stop := h.cfg.Revocations.OnChange(func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	})
	defer stop()
	feed := h.cfg.Revocations.Since(since, origin)
	if wait > 0 && (origin == "" || origin == feed.Origin) && feed.Version == since && len(feed.Entries) == 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-changed:
		case <-timer.C:
		case <-httpkit.Stopping(ctx).Done():
		case <-ctx.Done():
		}
		feed = h.cfg.Revocations.Since(since, origin)
	}
	if feed.Entries == nil {
		feed.Entries = []trust.Entry{}
	}
	return feed
}
