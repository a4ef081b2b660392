package broker

import (
	"context"

	"github.com/sealmq/sealmq"
)

// Peers are the connections of the network. Their table is the listener's.
type Peers interface {
	ConnectionsOf(match func(*sealmq.Identity) bool) []sealmq.ConnectionInfo
	CloseConnection(id uint64) (client string, err error)
}

// manager is what Manage returns.
type manager struct {
	*connection
	peers Peers
}

func (m *manager) Queues(ctx context.Context) ([]sealmq.QueueInfo, error) {
	return await(ctx, m.connection, func(done func([]sealmq.QueueInfo, error)) {
		queues, err := m.broker.Queues(m.caller)
		list := []sealmq.QueueInfo{}
		for q := range queues {
			list = append(list, *q)
		}
		done(list, err)
	})
}

func (m *manager) ChangeQueue(ctx context.Context, queue string, o sealmq.QueueOptions) error {
	return awaitError(ctx, m.connection, func(done func(error)) { m.broker.ChangeQueue(m.caller, queue, o, done) })
}

func (m *manager) PauseQueue(ctx context.Context, queue string) error {
	return awaitError(ctx, m.connection, func(done func(error)) { m.broker.PauseQueue(m.caller, queue, true, done) })
}

func (m *manager) ResumeQueue(ctx context.Context, queue string) error {
	return awaitError(ctx, m.connection, func(done func(error)) { m.broker.PauseQueue(m.caller, queue, false, done) })
}

func (m *manager) DeleteQueue(ctx context.Context, queue string) (removed int, err error) {
	return await(ctx, m.connection, func(done func(int, error)) { m.broker.DeleteQueue(m.caller, queue, 0, done) })
}

func (m *manager) Exchanges(ctx context.Context) ([]sealmq.ExchangeInfo, error) {
	return await(ctx, m.connection, func(done func([]sealmq.ExchangeInfo, error)) { done(m.broker.Exchanges(m.caller), nil) })
}

func (m *manager) Bindings(ctx context.Context, queue string) ([]sealmq.BindingInfo, error) {
	return await(ctx, m.connection, func(done func([]sealmq.BindingInfo, error)) { done(m.broker.Bindings(m.caller, queue)) })
}

func (m *manager) Keys(ctx context.Context, from string, n int) ([]sealmq.KeyInfo, error) {
	return await(ctx, m.connection, func(done func([]sealmq.KeyInfo, error)) {
		done(m.broker.Keys().List(m.caller.Identity, from, n))
	})
}

func (m *manager) Connections(ctx context.Context) ([]sealmq.ConnectionInfo, error) {
	return await(ctx, m.connection, func(done func([]sealmq.ConnectionInfo, error)) {
		done(m.peers.ConnectionsOf(m.broker.SeesConnection(m.caller)), nil)
	})
}

func (m *manager) CloseConnection(ctx context.Context, id uint64) error {
	return awaitError(ctx, m.connection, func(done func(error)) {
		err := m.broker.RequireAdmin(m.caller, CloseConnection)
		if err == nil {
			var client string
			client, err = m.peers.CloseConnection(id)
			m.broker.Audit(m.caller, CloseConnection, ConnectionObject(id, client), err)
		}
		done(err)
	})
}
