package main

import (
	"context"
	"sync"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/broker"
	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/pipeline/brokerview"
)

// maxBrokerLine has room for the description of more queues than a broker has by default.
const maxBrokerLine = 64 << 20

// openBrokerView opens what the main server shows of the broker, in this process or elsewhere.
// With a queue in Redis there may be none.
func (n *node) openBrokerView() error {
	var connect func(context.Context) (sealmq.Manager, error)
	switch {
	case n.has("broker"):
		own := n.own(sealmq.RoleServer)
		m := n.broker.Manage(broker.Caller{Identity: identity(sealmq.RoleServer)}, n.server)
		connect = func(context.Context) (sealmq.Manager, error) { return m, own.err() }
	case n.cfg.Pipeline.Broker == "" && n.cfg.Redis.set():
		return nil
	default:
		dial, err := n.brokerDialer(sealmq.RoleServer)
		if err != nil {
			return err
		}
		r := &remoteBroker{dial: dial}
		n.pipeline.closers = append(n.pipeline.closers, r.Close)
		connect = r.connect
	}
	n.pipeline.broker = brokerview.New(brokerview.Config{Connect: connect, Log: n.logOf("main")})
	return nil
}

// viewBroker looks at the broker until ctx ends.
func (n *node) viewBroker(ctx context.Context) error {
	if n.pipeline.broker != nil {
		n.pipeline.broker.Run(ctx)
	}
	return nil
}

// remoteBroker is a connection to a broker elsewhere, which may be away at first. Once it is
// there, it connects again by itself.
type remoteBroker struct {
	dial func(context.Context) (*client.Client, error)

	mu     sync.Mutex
	client *client.Client
	closed bool
}

func (r *remoteBroker) connect(ctx context.Context) (sealmq.Manager, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, sealmq.ErrClosed
	}
	if r.client == nil {
		c, err := r.dial(ctx)
		if err != nil {
			return nil, err
		}
		r.client = c
	}
	return r.client, nil
}

func (r *remoteBroker) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	if r.client == nil {
		return nil
	}
	return r.client.Close()
}
