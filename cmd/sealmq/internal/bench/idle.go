package bench

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/internal/clock"
)

// IdleResult is the cost of idle connections.
type IdleResult struct {
	Connections      int     `json:"idle_connections"`
	BrokerRSSBefore  int64   `json:"broker_rss_before_bytes"`
	BrokerRSS        int64   `json:"broker_rss_bytes"`
	RSSPerConnection float64 `json:"broker_rss_per_connection_bytes"`
}

// idleDials is how many connections are opened at a time.
const idleDials = 8

// idleSettle is how long the connections are idle before the broker's memory is read.
const idleSettle = 5 * time.Second

// MeasureIdle opens n consumers, each on a connection of its own, and reads how much
// memory the broker took for them.
func (r *Run) MeasureIdle(ctx context.Context, n int) (res *IdleResult, err error) {
	if r.opts.Sample == nil {
		return nil, errors.New("reading the broker's memory needs its metrics")
	}
	if err := r.Setup(ctx); err != nil {
		return nil, fmt.Errorf("set up: %w", err)
	}
	before, err := sampleOf(ctx, r.opts.Sample, "broker")
	if err != nil {
		return nil, err
	}
	r.opts.Progress(fmt.Sprintf("opening %d connections", n))
	var mu sync.Mutex
	var open []*client.Client
	defer func() {
		for _, c := range open {
			c.Close() // it is idle, so there is no error to report
		}
	}()
	g, dialing := errgroup.WithContext(ctx)
	g.SetLimit(idleDials)
	for i := range n {
		g.Go(func() error {
			c, err := r.opts.Dial(dialing, 1)
			if err != nil {
				return err
			}
			mu.Lock()
			open = append(open, c)
			mu.Unlock()
			_, err = c.Consume(dialing, r.queue(i%r.opts.Queues), 1)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, fmt.Errorf("open idle connections: %w", err)
	}
	if err := clock.Sleep(ctx, clock.System, idleSettle); err != nil {
		return nil, err
	}
	after, err := sampleOf(ctx, r.opts.Sample, "broker")
	if err != nil {
		return nil, err
	}
	return &IdleResult{n, before.RSS, after.RSS, float64(after.RSS-before.RSS) / float64(n)}, nil
}
