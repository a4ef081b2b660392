package mainserver

import (
	"context"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/api/mainapi"
	"github.com/sealmq/sealmq/internal/cached"
	"github.com/sealmq/sealmq/internal/httpkit"
	"github.com/sealmq/sealmq/pipeline"
	"github.com/sealmq/sealmq/pipeline/accounts"
	"github.com/sealmq/sealmq/pipeline/brokerview"
	"github.com/sealmq/sealmq/pipeline/records"
)

const (
	// overviewAge is how old an overview may be that is shown again: less than streamEvery, so
	// that each event has a new one.
	overviewAge = streamEvery * 9 / 10
	// overviewTimeout bounds a look at everything.
	overviewTimeout = 2 * time.Second
	// refusalsAge, diskAge and endingAge are how long the parts that cost more are kept.
	refusalsAge, queuesAge, diskAge, endingAge = 5 * time.Second, 5 * time.Second, 10 * time.Second, time.Minute
	maxRefusals, maxCertificates               = 5, 10
)

// overview makes one overview for all who ask.
type overview struct {
	h *handler

	last cached.Value[mainapi.Overview]
	// The rest is for look, which runs once at a time.
	since    map[problemKey]time.Time
	started  mainapi.Started
	refusals cached.Value[[]mainapi.AuditEntry]
	disk     cached.Value[*mainapi.Disk]
	ending   cached.Value[[]mainapi.EndingCertificate]
	growing  cached.Value[[]brokerview.Queue]
	idle     cached.Value[[]brokerview.Queue]
	paused   cached.Value[[]brokerview.Queue]
	dead     cached.Value[[]brokerview.Queue]
}

type problemKey struct{ code, subject string }

// get is the overview, at most overviewAge old.
func (o *overview) get(ctx context.Context) mainapi.Overview {
	return o.last.Get(overviewAge, func() (mainapi.Overview, error) { return o.look(context.WithoutCancel(ctx)), nil })
}

// look makes a new overview.
func (o *overview) look(ctx context.Context) mainapi.Overview {
	ctx, cancel := context.WithTimeout(ctx, overviewTimeout)
	defer cancel()
	h := o.h
	now := h.now()
	h.cfg.History.take(ctx)
	v := mainapi.Overview{At: now.UTC(), Components: h.cfg.Service.presence.all(now), Minutes: []mainapi.Minute{}}
	asked := time.Now()
	minutes, err := h.cfg.History.Minutes(ctx, now.Add(-time.Hour+time.Minute), now)
	if err == nil {
		v.Database = &mainapi.DatabaseAnswer{AnswerSeconds: time.Since(asked).Round(100 * time.Microsecond).Seconds()}
	}
	for i := range minutes {
		m := &minutes[i]
		v.LastHour.Accepted, v.LastHour.Delivered, v.LastHour.Failed = v.LastHour.Accepted+m.Accepted, v.LastHour.Delivered+m.Delivered, v.LastHour.Failed+m.Failed
		if now.Sub(m.At) < 2*time.Minute {
			v.Minutes = append(v.Minutes, minuteOf(m))
		}
	}
	counts := h.cfg.History.queueCounts()
	if counts != nil {
		q := queueCountsOf(counts, now)
		v.Queue = &q
	}
	v.Refusals = o.refusals.Get(refusalsAge, func() ([]mainapi.AuditEntry, error) { return h.lastRefusals(ctx) })
	v.Certificates = o.ending.Get(endingAge, h.endingCertificates)
	if h.cfg.Disk != nil {
		v.Disk = o.disk.Get(diskAge, func() (*mainapi.Disk, error) {
			free, total, err := h.cfg.Disk()
			return &mainapi.Disk{FreeBytes: free, TotalBytes: total}, err
		})
	}
	v.Started = o.begun(ctx)
	f := facts{now: now, faults: h.health.Faults(), counts: counts, minutes: minutes, components: v.Components, ending: v.Certificates, disk: v.Disk,
		growing: o.growing.Get(queuesAge, func() ([]brokerview.Queue, error) { return h.queuesOf(ctx, brokerview.Growing, "ready") }),
		idle:    o.idle.Get(queuesAge, func() ([]brokerview.Queue, error) { return h.queuesOf(ctx, brokerview.Idle, "oldest") }),
		paused:  o.paused.Get(queuesAge, func() ([]brokerview.Queue, error) { return h.queuesOf(ctx, brokerview.Paused, "ready") }),
		dead:    o.dead.Get(queuesAge, func() ([]brokerview.Queue, error) { return h.queuesOf(ctx, brokerview.Dead, "ready") })}
	v.Attention = o.noteSince(f.judge(), now)
	v.State, v.Summary = summarise(v.Attention, v.Started)
	if v.State != mainapi.LevelHealthy {
		v.Since = v.Attention[0].Since
	}
	if v.Refusals == nil {
		v.Refusals = []mainapi.AuditEntry{}
	}
	if v.Certificates == nil {
		v.Certificates = []mainapi.EndingCertificate{}
	}
	return v
}

// noteSince fills in since when each thing is so: since the first look that found it.
func (o *overview) noteSince(list []mainapi.Attention, now time.Time) []mainapi.Attention {
	since := make(map[problemKey]time.Time)
	for i := range list {
		key := problemKey{list[i].Code, list[i].Subject}
		first, ok := o.since[key]
		if !ok || first.After(now) { // the clock was set back
			first = now.Truncate(time.Second)
		}
		since[key], list[i].Since = first, first.UTC()
	}
	o.since = since
	if list == nil {
		list = []mainapi.Attention{}
	}
	return list
}

// begun is what was done at least once. It does not look any more once all was.
func (o *overview) begun(ctx context.Context) mainapi.Started {
	s := &o.started
	if !s.Certificate {
		list, err := o.h.certificates(certificateFilter{role: sealmq.RoleClient})
		s.Certificate = err == nil && len(list) > 0
	}
	if !s.Accepted || !s.Delivered {
		if st, err := o.h.cfg.Store.Stats(ctx, "", "", time.Time{}); err == nil {
			s.Accepted, s.Delivered = st.Total > 0, st.ByState[pipeline.Delivered] > 0
		}
	}
	return *s
}

func (h *handler) lastRefusals(ctx context.Context) ([]mainapi.AuditEntry, error) {
	page, err := h.auditPage(ctx, records.AuditFilter{Type: eventDenied, Limit: maxRefusals}, "")
	return page.Items, err
}

// queuesOf are the first queues of a kind in an order; none if the broker is away, which the health says.
func (h *handler) queuesOf(ctx context.Context, kind brokerview.Kind, sort string) ([]brokerview.Queue, error) {
	if h.cfg.Broker == nil {
		return nil, nil
	}
	list, err := h.cfg.Broker.Queues(ctx, brokerview.Filter{Kind: kind, Sort: sort, Desc: true, Page: brokerview.Page{Limit: maxQueues}})
	if err != nil {
		return nil, nil
	}
	return list.Items, nil
}

func (h *handler) endingCertificates() ([]mainapi.EndingCertificate, error) {
	list, err := h.certificates(certificateFilter{status: certActive, current: true, due: true})
	ending := []mainapi.EndingCertificate{}
	for i := range min(len(list), maxCertificates) {
		c := &list[i]
		ending = append(ending, mainapi.EndingCertificate{Name: c.ClientID, Role: c.Role, Fingerprint: c.Fingerprint, ExpiresAt: c.ExpiresAt})
	}
	return ending, err
}

func minuteOf(m *records.Minute) mainapi.Minute {
	return mainapi.Minute{At: m.At, Accepted: m.Accepted, Delivered: m.Delivered, Failed: m.Failed, Waiting: m.Waiting, Dead: m.Dead}
}

// GetOverview implements mainapi.StrictServerInterface.
func (h *handler) GetOverview(ctx context.Context, _ mainapi.GetOverviewRequestObject) (mainapi.GetOverviewResponseObject, error) {
	return mainapi.GetOverview200JSONResponse(h.overview.get(ctx)), nil
}

// GetState implements mainapi.StrictServerInterface.
func (h *handler) GetState(ctx context.Context, _ mainapi.GetStateRequestObject) (mainapi.GetStateResponseObject, error) {
	o := h.overview.get(ctx)
	answer := mainapi.GetState200JSONResponse{State: o.State}
	if c, _ := httpkit.CallerOf(ctx); c.Role == sealmq.RoleAdmin || c.Role == accounts.Operator {
		answer.Summary = o.Summary
	}
	return answer, nil
}

// GetOverviewHistory implements mainapi.StrictServerInterface.
func (h *handler) GetOverviewHistory(ctx context.Context, r mainapi.GetOverviewHistoryRequestObject) (mainapi.GetOverviewHistoryResponseObject, error) {
	now := h.now().UTC()
	answer := mainapi.GetOverviewHistory200JSONResponse{From: records.MinuteOf(now.Add(time.Minute - time.Duration(max(1, r.Params.Hours))*time.Hour)), To: now}
	minutes, err := h.cfg.History.Minutes(ctx, answer.From, now)
	answer.Minutes = mapped(minutes, minuteOf)
	return answer, err
}
