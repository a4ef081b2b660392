package main

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"
)

// brokerStats is the part of the broker's reply to the command stats that is printed.
type brokerStats struct {
	Clients      int              `json:"connected_clients"`
	Exchanges    int              `json:"total_exchanges"`
	Bindings     int              `json:"total_bindings"`
	Queues       [][2]any         `json:"queues"`
	Status       map[string]int64 `json:"message_status_counts"`
	PublishToAck float64          `json:"avg_publish_to_ack_seconds"`
	RequestTimes [][4]any         `json:"request_times_avg_seconds"`
}

func newStatsCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "stats", Short: "Show the broker's statistics"}
	addWatchFlag(cmd)
	return connected(cmd, func(a call) error {
		raw, err := a.client.BrokerStats(a.ctx)
		if err != nil || a.asJSON {
			return a.json(err, raw)
		}
		var s brokerStats
		if err := json.Unmarshal(raw, &s); err != nil {
			return fmt.Errorf("read the broker's statistics: %w", err)
		}
		t := factsTable("connected clients", s.Clients, "exchanges", s.Exchanges, "bindings", s.Bindings, "queues", len(s.Queues),
			"messages not acknowledged", s.Status["sent"], "of these delivered", s.Status["delivered"],
			"from publish to ack, on average", fmt.Sprintf("%.3f s", s.PublishToAck))
		t.head = []string{"BROKER", ">"}
		if err := t.print(a.out, ""); err != nil || len(s.RequestTimes) == 0 {
			return err
		}
		fmt.Fprintln(a.out)
		return printList(a, nil, s.RequestTimes, "", []string{"COMMAND", ">COUNT", ">AVERAGE", ">TOTAL"}, func(r [4]any) []any {
			average, _ := r[1].(float64)
			count, _ := r[2].(float64)
			total, _ := r[3].(float64)
			return []any{r[0], fmt.Sprintf("%.0f", count), fmt.Sprintf("%.1f µs", average*1e6), fmt.Sprintf("%.3f s", total)}
		})
	})
}
