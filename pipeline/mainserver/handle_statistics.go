package mainserver

import (
	"cmp"
	"context"
	"time"

	"github.com/sealmq/sealmq/api/mainapi"
	"github.com/sealmq/sealmq/pipeline"
	"github.com/sealmq/sealmq/pipeline/records"
)

// periods are how far statistics reach back.
var periods = map[string]time.Duration{"hour": time.Hour, "day": 24 * time.Hour, "week": 7 * 24 * time.Hour, "month": 30 * 24 * time.Hour}

// GetStatistics implements mainapi.StrictServerInterface.
func (h *handler) GetStatistics(ctx context.Context, r mainapi.GetStatisticsRequestObject) (mainapi.GetStatisticsResponseObject, error) {
	s, err := h.statistics(ctx, string(r.Params.Period), r.Params.Domain)
	return mainapi.GetStatistics200JSONResponse(s), err
}

// statistics are those of a period, hours counted as a whole.
func (h *handler) statistics(ctx context.Context, period, domain string) (s mainapi.Statistics, err error) {
	period = cmp.Or(period, "day")
	now := h.now().UTC()
	s.Period, s.Since = mainapi.StatisticsPeriod(period), now.Add(-periods[period]).Truncate(time.Hour)
	st, err := h.cfg.Store.Stats(ctx, "", domain, s.Since)
	if err != nil {
		return s, err
	}
	s.Messages.Total, s.Messages.Queued, s.Messages.Processing = st.Total, st.ByState[pipeline.Queued], st.ByState[pipeline.Processing]
	s.Messages.Delivered, s.Messages.Failed = st.ByState[pipeline.Delivered], st.ByState[pipeline.Failed]
	s.Performance.AvgDeliveryTimeSeconds, s.Performance.SuccessRate = st.AverageDelivery.Seconds(), st.SuccessRate
	clients, err := h.cfg.Store.CountClients(ctx, now)
	if err != nil {
		return s, err
	}
	for _, n := range clients {
		s.Clients.Total += n
	}
	s.Clients.Active, s.Clients.Revoked = clients[records.Active], clients[records.Revoked]
	points, err := h.cfg.Store.Series(ctx, "", domain, s.Since, now)
	if err != nil {
		return s, err
	}
	for _, p := range points {
		registered := int64(0)
		for _, n := range p.ByState {
			registered += n
		}
		s.Series = append(s.Series, struct {
			Delivered  int64     `json:"delivered"`
			Failed     int64     `json:"failed"`
			From       time.Time `json:"from"`
			Registered int64     `json:"registered"`
		}{p.ByState[pipeline.Delivered], p.ByState[pipeline.Failed], p.Hour, registered})
	}
	// The rest is right without the queue.
	s.Queue, err = h.queueCounts(ctx)
	if err != nil {
		h.cfg.Log.Warn("statistics lack the queue, which cannot be reached", "error", err)
	}
	return s, nil
}
