package mainserver

import (
	"cmp"
	"context"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/api/mainapi"
	"github.com/sealmq/sealmq/pipeline/brokerview"
	"github.com/sealmq/sealmq/pipeline/records"
)

func partOf(limit int, cursor string) brokerview.Page {
	return brokerview.Page{Limit: cmp.Or(limit, records.DefaultLimit), Cursor: cursor}
}

// ListBrokerQueues implements mainapi.StrictServerInterface.
func (h *handler) ListBrokerQueues(ctx context.Context, r mainapi.ListBrokerQueuesRequestObject) (mainapi.ListBrokerQueuesResponseObject, error) {
	p := r.Params
	desc := p.Order == mainapi.ListBrokerQueuesParamsOrderDesc || p.Order == "" && p.Sort != "" && p.Sort != mainapi.ListBrokerQueuesParamsSortName
	list, err := h.cfg.Broker.Queues(ctx, brokerview.Filter{Search: p.Search, Kind: brokerview.Kind(p.Kind), Sort: string(p.Sort), Desc: desc, Page: partOf(p.Limit, p.Cursor)})
	if err != nil {
		return nil, err
	}
	page := mainapi.BrokerQueuePage{Items: mapped(list.Items, brokerQueue), AsOf: utc(list.AsOf), Total: list.Total, NextCursor: list.Next}
	return mainapi.ListBrokerQueues200JSONResponse(page), nil
}

func brokerQueue(q *brokerview.Queue) mainapi.BrokerQueue {
	b := mainapi.BrokerQueue{Name: q.Name, Owner: q.Owner, Ready: int64(q.Ready), Delayed: int64(q.Delayed), Unacked: int64(q.Unacked), Bytes: q.Bytes, Consumers: q.Consumers,
		InPerSecond: q.In, OutPerSecond: q.Out, ReturnedPerSecond: q.Returns, Oldest: utc(q.Oldest), Paused: q.Paused, Private: q.Options.Private, MaxMessages: q.Options.MaxMessages, MaxBytes: q.Options.MaxBytes,
		DeadLettersOf: brokerview.DeadLettersOf(q.Name)}
	if b.DeadLettersOf == "" {
		b.DeadLetters = q.Name + sealmq.DeadSuffix
	}
	return b
}

// GetBrokerQueue implements mainapi.StrictServerInterface.
func (h *handler) GetBrokerQueue(ctx context.Context, r mainapi.GetBrokerQueueRequestObject) (mainapi.GetBrokerQueueResponseObject, error) {
	d, err := h.queueDetail(ctx, r.Params.Name)
	return mainapi.GetBrokerQueue200JSONResponse(d), err
}

func (h *handler) queueDetail(ctx context.Context, name string) (d mainapi.BrokerQueueDetail, err error) {
	q, err := h.cfg.Broker.Queue(ctx, name)
	if err != nil {
		return d, err
	}
	d = mainapi.BrokerQueueDetail{Queue: brokerQueue(&q.Queue), Options: queueOptions(q.Options), Bindings: brokerBindings(q.Bindings), MoreBindings: q.MoreBindings,
		Consumers: mapped(q.Consumers, brokerConnection), DeadReady: int64(q.Dead),
		Totals: mainapi.BrokerQueueTotals{Published: int64(q.Published), Delivered: int64(q.Delivered), Acked: int64(q.Acked), Returned: int64(q.Returned),
			Expired: int64(q.Expired), Dropped: int64(q.Dropped), DeadLettered: int64(q.DeadLettered), Refused: int64(q.Refused)}}
	return d, nil
}

func brokerBindings(list []sealmq.BindingInfo) []mainapi.BrokerBinding {
	return mapped(list, func(b *sealmq.BindingInfo) mainapi.BrokerBinding {
		return mainapi.BrokerBinding{Queue: b.Queue, Exchange: b.Exchange, Key: b.Key}
	})
}

func queueOptions(o sealmq.QueueOptions) mainapi.BrokerQueueOptions {
	o = o.Normalize()
	out := mainapi.BrokerQueueOptions{MaxMessages: o.MaxMessages, MaxBytes: o.MaxBytes, DeliveryLimit: int64(o.DeliveryLimit), AckTimeout: o.AckTimeout.String(),
		Prefetch: o.Prefetch, MaxLineBytes: o.MaxLineBytes, DropOldest: o.DropOldest, Sealed: o.Suites(), Private: o.Private}
	if o.TTL > 0 {
		out.TTL = o.TTL.String()
	}
	return out
}

// optionsOf reads options. The broker checks their ranges.
func optionsOf(o *mainapi.BrokerQueueOptions) (q sealmq.QueueOptions, err error) {
	q = sealmq.QueueOptions{MaxMessages: o.MaxMessages, MaxBytes: o.MaxBytes, DeliveryLimit: uint32(o.DeliveryLimit), Prefetch: o.Prefetch,
		MaxLineBytes: o.MaxLineBytes, DropOldest: o.DropOldest, Sealed: sealmq.SealedSuites(o.Sealed...), Private: o.Private}
	read := func(name, text string, to *time.Duration) (err error) {
		if text == "" {
			return nil
		}
		if *to, err = time.ParseDuration(text); err != nil {
			err = invalid(name, `The value must be a duration such as "30s" or "24h"`)
		}
		return err
	}
	err = together(read("ttl", o.TTL, &q.TTL), read("ack_timeout", o.AckTimeout, &q.AckTimeout))
	return q, err
}

// DeclareBrokerQueue implements mainapi.StrictServerInterface.
func (h *handler) DeclareBrokerQueue(ctx context.Context, r mainapi.DeclareBrokerQueueRequestObject) (mainapi.DeclareBrokerQueueResponseObject, error) {
	d, err := h.changeQueue(ctx, "broker_queue_declared", r.Body.Name, &r.Body.Options, func(o sealmq.QueueOptions) error {
		return h.cfg.Broker.Declare(ctx, r.Body.Name, &o)
	})
	return mainapi.DeclareBrokerQueue201JSONResponse(d), err
}

// ChangeBrokerQueue implements mainapi.StrictServerInterface.
func (h *handler) ChangeBrokerQueue(ctx context.Context, r mainapi.ChangeBrokerQueueRequestObject) (mainapi.ChangeBrokerQueueResponseObject, error) {
	d, err := h.changeQueue(ctx, "broker_queue_changed", r.Params.Name, r.Body, func(o sealmq.QueueOptions) error {
		return h.cfg.Broker.Change(ctx, r.Params.Name, o)
	})
	return mainapi.ChangeBrokerQueue200JSONResponse(d), err
}

func (h *handler) changeQueue(ctx context.Context, event, name string, options *mainapi.BrokerQueueOptions, change func(sealmq.QueueOptions) error) (d mainapi.BrokerQueueDetail, err error) {
	o, err := optionsOf(options)
	if err == nil {
		err = change(o)
	}
	if err != nil {
		return d, err
	}
	h.audit(ctx, act{event: event, details: map[string]any{"queue": name, "options": o}})
	return h.queueDetail(ctx, name)
}

// PauseBrokerQueue implements mainapi.StrictServerInterface.
func (h *handler) PauseBrokerQueue(ctx context.Context, r mainapi.PauseBrokerQueueRequestObject) (mainapi.PauseBrokerQueueResponseObject, error) {
	d, err := h.pauseQueue(ctx, "broker_queue_paused", r.Params.Name, true)
	return mainapi.PauseBrokerQueue200JSONResponse(d), err
}

// ResumeBrokerQueue implements mainapi.StrictServerInterface.
func (h *handler) ResumeBrokerQueue(ctx context.Context, r mainapi.ResumeBrokerQueueRequestObject) (mainapi.ResumeBrokerQueueResponseObject, error) {
	d, err := h.pauseQueue(ctx, "broker_queue_resumed", r.Params.Name, false)
	return mainapi.ResumeBrokerQueue200JSONResponse(d), err
}

func (h *handler) pauseQueue(ctx context.Context, event, name string, paused bool) (d mainapi.BrokerQueueDetail, err error) {
	if err := h.cfg.Broker.Pause(ctx, name, paused); err != nil {
		return d, err
	}
	h.audit(ctx, act{event: event, details: map[string]any{"queue": name}})
	return h.queueDetail(ctx, name)
}

// PurgeBrokerQueue implements mainapi.StrictServerInterface.
func (h *handler) PurgeBrokerQueue(ctx context.Context, r mainapi.PurgeBrokerQueueRequestObject) (mainapi.PurgeBrokerQueueResponseObject, error) {
	n, err := h.removeMessages(ctx, "broker_queue_purged", r.Params.Name, r.Body.Name, h.cfg.Broker.Purge)
	return mainapi.PurgeBrokerQueue200JSONResponse{QueueRemovalJSONResponse: mainapi.QueueRemovalJSONResponse{Removed: int64(n)}}, err
}

// DeleteBrokerQueue implements mainapi.StrictServerInterface.
func (h *handler) DeleteBrokerQueue(ctx context.Context, r mainapi.DeleteBrokerQueueRequestObject) (mainapi.DeleteBrokerQueueResponseObject, error) {
	n, err := h.removeMessages(ctx, "broker_queue_deleted", r.Params.Name, r.Body.Name, h.cfg.Broker.Delete)
	return mainapi.DeleteBrokerQueue200JSONResponse{QueueRemovalJSONResponse: mainapi.QueueRemovalJSONResponse{Removed: int64(n)}}, err
}

func (h *handler) removeMessages(ctx context.Context, event, name, again string, remove func(context.Context, string) (int, error)) (int, error) {
	if name != again {
		return 0, invalid("name", "The name is not that of the queue")
	}
	n, err := remove(ctx, name)
	if err == nil || n > 0 {
		h.audit(ctx, act{event: event, severity: records.Warning, details: map[string]any{"queue": name, "messages": n}})
	}
	return n, err
}

// PeekBrokerQueue implements mainapi.StrictServerInterface.
func (h *handler) PeekBrokerQueue(ctx context.Context, r mainapi.PeekBrokerQueueRequestObject) (mainapi.PeekBrokerQueueResponseObject, error) {
	const usual = 20
	list, next, err := h.cfg.Broker.Peek(ctx, r.Params.Name, r.Params.Cursor, cmp.Or(r.Params.Limit, usual))
	page := mainapi.BrokerMessagePage{Items: make([]mainapi.BrokerMessage, len(list)), NextCursor: next}
	for i := range list {
		m := &list[i]
		page.Items[i] = mainapi.BrokerMessage{ID: m.ID, Seq: int64(m.Seq), Publisher: m.Publisher, Exchange: m.Exchange, Key: m.Key, Published: utc(m.Time),
			Attempts: int64(m.Attempts), Size: m.Size, DeathReason: m.DeathReason, DeathQueue: m.DeathQueue}
	}
	return mainapi.PeekBrokerQueue200JSONResponse(page), err
}

// ReturnDeadLetters implements mainapi.StrictServerInterface.
func (h *handler) ReturnDeadLetters(ctx context.Context, r mainapi.ReturnDeadLettersRequestObject) (mainapi.ReturnDeadLettersResponseObject, error) {
	if r.Body.All == (len(r.Body.Items) > 0) {
		return nil, invalid("items", "Give either all or items")
	}
	var done brokerview.Returned
	var err error
	if r.Body.All {
		done, err = h.cfg.Broker.ReturnAll(ctx, r.Body.Queue, r.Body.Cursor)
	} else {
		letters := make([]brokerview.Letter, len(r.Body.Items))
		for i, it := range r.Body.Items {
			letters[i] = brokerview.Letter{ID: it.ID, Seq: uint64(it.Seq)}
		}
		done, err = h.cfg.Broker.ReturnSome(ctx, r.Body.Queue, letters)
	}
	if n := done.Total(); n > 0 {
		h.audit(ctx, act{event: "dead_letters_returned", details: map[string]any{"queue": r.Body.Queue, "messages": n}})
	}
	answer := mainapi.DeadLettersReturned{Returned: done.Total(), Kept: done.Kept, WhyKept: done.WhyKept, NextCursor: done.Next, Queues: []mainapi.ReturnedTo{}}
	for _, to := range done.Queues {
		answer.Queues = append(answer.Queues, mainapi.ReturnedTo{Name: to.Queue, Returned: to.N})
	}
	return mainapi.ReturnDeadLetters200JSONResponse(answer), err
}
