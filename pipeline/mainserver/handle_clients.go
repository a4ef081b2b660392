package mainserver

import (
	"cmp"
	"context"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/api/mainapi"
	"github.com/sealmq/sealmq/pipeline/records"
)

// ListClients implements mainapi.StrictServerInterface.
func (h *handler) ListClients(ctx context.Context, r mainapi.ListClientsRequestObject) (mainapi.ListClientsResponseObject, error) {
	p := r.Params
	limit := cmp.Or(p.Limit, records.DefaultLimit)
	answer := mainapi.ListClients200JSONResponse{Items: []mainapi.ClientInfo{}}
	list, err := h.cfg.Store.Clients(ctx, records.ClientFilter{State: records.ClientStatus(p.Status), At: h.now(), Domain: p.Domain, Limit: limit, After: p.Cursor})
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(list))
	for i := range list {
		names = append(names, list[i].Name)
	}
	sent, err := h.cfg.Store.MessagesOf(ctx, names, h.now().Add(-24*time.Hour))
	if err != nil {
		return nil, err
	}
	for i := range list {
		info := h.clientInfo(&list[i])
		info.MessagesLastDay = sent[list[i].Name]
		answer.Items = append(answer.Items, info)
	}
	if len(list) == limit {
		answer.NextCursor = list[limit-1].Name
	}
	return answer, nil
}

func (h *handler) clientInfo(c *records.Client) mainapi.ClientInfo {
	info := mainapi.ClientInfo{ClientID: c.Name, Domain: c.Domain, Status: mainapi.ClientStatus(c.StateAt(h.now())), Fingerprint: c.Fingerprint,
		CreatedAt: c.CreatedAt.UTC(), RevokedAt: utc(c.RevokedAt), Role: sealmq.RoleClient}
	if c.Fingerprint != "" {
		info.ExpiresAt = utc(c.ExpiresAt)
	}
	if list, err := h.cfg.Authority.HistoryOf(c.Name); err == nil && len(list) > 0 {
		info.Role = list[len(list)-1].Role
	}
	return info
}

// utc leaves the zero time as it is, so that it is left out.
func utc(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.UTC()
}

// GetClient implements mainapi.StrictServerInterface.
func (h *handler) GetClient(ctx context.Context, r mainapi.GetClientRequestObject) (mainapi.GetClientResponseObject, error) {
	info, err := h.client(ctx, r.ClientID)
	return mainapi.GetClient200JSONResponse(info), err
}

// client is what is known of a client, its messages included.
func (h *handler) client(ctx context.Context, name string) (info mainapi.ClientInfo, err error) {
	c, err := h.cfg.Store.Client(ctx, name)
	if err != nil {
		return info, notFound(err, "client")
	}
	info = h.clientInfo(&c)
	if info.Messages, _, err = h.cfg.Store.Count(ctx, records.Filter{Client: name}); err != nil {
		return info, err
	}
	last, err := h.cfg.Store.List(ctx, records.Filter{Client: name, Limit: 1})
	if err == nil && len(last.Records) > 0 {
		info.LastMessageAt = last.Records[0].CreatedAt.UTC()
	}
	return info, err
}

// UpdateClient implements mainapi.StrictServerInterface.
func (h *handler) UpdateClient(ctx context.Context, r mainapi.UpdateClientRequestObject) (mainapi.UpdateClientResponseObject, error) {
	c, err := h.cfg.Store.Client(ctx, r.ClientID)
	if err != nil {
		return nil, notFound(err, "client")
	}
	if r.Body.Domain != "" && r.Body.Domain != c.Domain {
		old := c.Domain
		c.Domain = r.Body.Domain
		rows, cancel := afterAct(ctx) // a row that is written must be checked too
		defer cancel()
		if err := h.putClient(rows, c); err != nil {
			return nil, err
		}
		h.audit(ctx, act{event: "client_updated", client: c.Name, details: map[string]any{"domain": c.Domain, "old_domain": old}})
	}
	info, err := h.client(ctx, c.Name)
	return mainapi.UpdateClient200JSONResponse(info), err
}
