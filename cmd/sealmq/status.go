package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/clock"
)

// statusResult is what "sealmq status --json" prints.
type statusResult struct {
	sealmq.BrokerStatus
	Uptime float64 `json:"uptime_s"`
	Ready  int     `json:"ready"`
	// What was counted in all queues together, and how much of it a second.
	Unacked   int     `json:"unacked"`
	Published float64 `json:"published_per_s"`
	Delivered float64 `json:"delivered_per_s"`
	Acked     float64 `json:"acked_per_s"`
}

func newStatusCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show how the broker is: version, uptime, health, connections and rates",
		Long: `Show how the broker is. The rates are those of one second, or of --over. The exit status is 1 if the broker's
health is not ok.`,
		Example: `  sealmq status
  sealmq status --watch`,
	}
	over := cmd.Flags().Duration("over", time.Second, "measure the rates for this long")
	addWatchFlag(cmd)
	return connected(cmd, func(a call) error {
		if *over < 10*time.Millisecond || *over > commandTimeout/2 {
			return usagef("--over %v is not between 10ms and %v", *over, commandTimeout/2)
		}
		st, err := a.client.Status(a.ctx)
		if err != nil {
			return err
		}
		before, began, err := a.queueSums()
		if err != nil {
			return err
		}
		if err := clock.Sleep(a.ctx, clock.System, *over); err != nil {
			return err
		}
		after, ended, err := a.queueSums()
		if err != nil {
			return err
		}
		rate := func(from, to uint64) float64 { return float64(to-min(from, to)) / ended.Sub(began).Seconds() }
		res := statusResult{BrokerStatus: st, Uptime: time.Since(st.Started).Round(time.Second).Seconds(), Ready: after.Ready, Unacked: after.Unacked,
			Published: rate(before.Published, after.Published), Delivered: rate(before.Delivered, after.Delivered), Acked: rate(before.Acked, after.Acked)}
		err = a.facts(nil, res, "version", res.Version, "health", res.Health, "started", stampText(res.Started), "uptime", time.Since(res.Started).Round(time.Second),
			"connections", res.Connections, "queues", res.Queues, "exchanges", res.Exchanges, "bindings", res.Bindings,
			"ready", res.Ready, "unacked", res.Unacked,
			"published a second", int(res.Published+0.5), "delivered a second", int(res.Delivered+0.5), "acked a second", int(res.Acked+0.5))
		if err == nil && st.Health != "ok" {
			return errSilent
		}
		return err
	})
}

// queueSums adds up the counters of all queues.
func (a call) queueSums() (sum sealmq.QueueInfo, at time.Time, err error) {
	list, err := a.client.Queues(a.ctx)
	for _, q := range list {
		sum.Ready += q.Ready
		sum.Unacked += q.Unacked
		sum.Published += q.Published
		sum.Delivered += q.Delivered
		sum.Acked += q.Acked
	}
	return sum, time.Now(), err
}
