package mainserver

import (
	"cmp"
	"context"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/api/mainapi"
	"github.com/sealmq/sealmq/internal/httpkit"
	"github.com/sealmq/sealmq/pipeline/brokerview"
)

// ListBrokerExchanges implements mainapi.StrictServerInterface.
func (h *handler) ListBrokerExchanges(ctx context.Context, r mainapi.ListBrokerExchangesRequestObject) (mainapi.ListBrokerExchangesResponseObject, error) {
	list, err := h.cfg.Broker.Exchanges(ctx, r.Params.Search, partOf(r.Params.Limit, r.Params.Cursor))
	page := mainapi.BrokerExchangePage{Items: mapped(list.Items, brokerExchange), Total: list.Total, NextCursor: list.Next}
	return mainapi.ListBrokerExchanges200JSONResponse(page), err
}

func brokerExchange(x *sealmq.ExchangeInfo) mainapi.BrokerExchange {
	return mainapi.BrokerExchange{Name: x.Name, Owner: x.Owner, Kind: mainapi.BrokerExchangeKind(x.Kind), Bindings: x.Bindings}
}

// GetBrokerExchange implements mainapi.StrictServerInterface.
func (h *handler) GetBrokerExchange(ctx context.Context, r mainapi.GetBrokerExchangeRequestObject) (mainapi.GetBrokerExchangeResponseObject, error) {
	x, bindings, more, err := h.cfg.Broker.Exchange(ctx, r.Params.Name)
	return mainapi.GetBrokerExchange200JSONResponse{Exchange: brokerExchange(&x), Bindings: brokerBindings(bindings), MoreBindings: more}, err
}

// ListBrokerKeys implements mainapi.StrictServerInterface.
func (h *handler) ListBrokerKeys(ctx context.Context, r mainapi.ListBrokerKeysRequestObject) (mainapi.ListBrokerKeysResponseObject, error) {
	const usual = 50
	list, next, err := h.cfg.Broker.Keys(ctx, r.Params.Search, r.Params.Cursor, cmp.Or(r.Params.Limit, usual))
	page := mainapi.BrokerKeyPage{Items: make([]mainapi.BrokerKey, len(list)), NextCursor: next}
	for i, k := range list {
		page.Items[i] = mainapi.BrokerKey{Client: k.Client, Suite: k.Suite, Proven: k.Proven, Issuer: k.Issuer, Fingerprint: k.Fingerprint,
			Entry: int64(k.Entry), Record: k.Record, Since: utc(k.Since)}
	}
	return mainapi.ListBrokerKeys200JSONResponse(page), err
}

// ListBrokerConnections implements mainapi.StrictServerInterface.
func (h *handler) ListBrokerConnections(ctx context.Context, r mainapi.ListBrokerConnectionsRequestObject) (mainapi.ListBrokerConnectionsResponseObject, error) {
	list, err := h.cfg.Broker.Connections(ctx, r.Params.Search, partOf(r.Params.Limit, r.Params.Cursor))
	page := mainapi.BrokerConnectionPage{Items: mapped(list.Items, brokerConnection), AsOf: utc(list.AsOf), Total: list.Total, NextCursor: list.Next}
	return mainapi.ListBrokerConnections200JSONResponse(page), err
}

func brokerConnection(c *brokerview.Connection) mainapi.BrokerConnection {
	return mainapi.BrokerConnection{ID: int64(c.ID), Client: c.Client, Role: c.Role, Serial: c.Serial, Address: c.Address, Protocol: c.Protocol, Since: utc(c.Since),
		Unacked: int64(c.Unacked), Prefetch: c.Prefetch, CommandsPerSecond: c.CommandsPerSecond, InBytesPerSecond: c.BytesInPerSecond, OutBytesPerSecond: c.BytesOutPerSecond, Consumes: c.Consumes}
}

// DisconnectBrokerConnection implements mainapi.StrictServerInterface.
func (h *handler) DisconnectBrokerConnection(ctx context.Context, r mainapi.DisconnectBrokerConnectionRequestObject) (mainapi.DisconnectBrokerConnectionResponseObject, error) {
	c, err := h.cfg.Broker.Disconnect(ctx, uint64(r.ConnectionID))
	if sealmq.CodeOf(err) == sealmq.BadArgument {
		err = httpkit.Errorf(httpkit.CodeNotFound, "There is no such connection; it may have ended")
	}
	if err != nil {
		return nil, err
	}
	h.audit(ctx, act{event: "broker_connection_closed", client: c.Client, details: map[string]any{"connection": c.ID, "address": c.Address, "reason": r.Body.Reason}})
	return mainapi.DisconnectBrokerConnection204Response{}, nil
}
