package mainserver

import (
	"context"
	"net/http"
	"time"

	"github.com/sealmq/sealmq/api/mainapi"
	"github.com/sealmq/sealmq/internal/httpkit"
	"github.com/sealmq/sealmq/pipeline/records"
)

// retentionTime bounds one run. A further run goes on where it ended.
const retentionTime = 10 * time.Minute

// PreviewRetention implements mainapi.StrictServerInterface.
func (h *handler) PreviewRetention(ctx context.Context, r mainapi.PreviewRetentionRequestObject) (mainapi.PreviewRetentionResponseObject, error) {
	cutoff, n, err := h.cfg.Store.PreviewCleanup(ctx, r.Body.RetentionDays)
	return mainapi.PreviewRetention200JSONResponse{RetentionDays: r.Body.RetentionDays, Cutoff: cutoff.UTC(), Messages: n}, err
}

// RunRetention implements mainapi.StrictServerInterface.
func (h *handler) RunRetention(ctx context.Context, r mainapi.RunRetentionRequestObject) (mainapi.RunRetentionResponseObject, error) {
	result, err := h.cleanUp(ctx, r.Body.RetentionDays)
	return mainapi.RunRetention200JSONResponse(result), err
}

// cleanUp deletes what is older than a number of days. One run at a time is enough.
func (h *handler) cleanUp(ctx context.Context, days int) (result mainapi.RetentionResult, err error) {
	if !h.retention.TryLock() {
		return result, httpkit.Errorf(httpkit.CodeConflict, "A clean-up is running; wait for its end")
	}
	defer h.retention.Unlock()
	// It may last longer than the listener lets an answer take.
	_ = http.NewResponseController(exchangeOf(ctx).w).SetWriteDeadline(time.Now().Add(retentionTime + time.Minute))
	limited, cancel := context.WithTimeout(ctx, retentionTime)
	defer cancel()
	cutoff, n, err := h.cfg.Store.Cleanup(limited, days)
	if n > 0 || err == nil {
		h.audit(context.WithoutCancel(ctx), act{event: "data_cleanup", severity: records.Warning, details: map[string]any{"retention_days": days, "messages": n}})
	}
	return mainapi.RetentionResult{RetentionDays: days, Cutoff: cutoff.UTC(), Messages: n}, err
}
