package main

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq"
)

func newBindCmd() *cobra.Command {
	return connected(&cobra.Command{Use: "bind QUEUE EXCHANGE KEY", Short: "Bind a queue to an exchange with a binding key"}, func(a call) error {
		queue, exchange, key := a.args[0], a.args[1], a.args[2]
		m, lines := willMake(a.ctx, a.client, queue, exchange)
		err := a.client.Bind(a.ctx, queue, exchange, key)
		if err == nil {
			a.notes(lines)
		}
		return a.report(err, result{"queue": queue, "exchange": exchange, "key": key, "bound": true, "made_queue": m.queue, "made_exchange": m.exchange},
			"queue %s gets what is published to %s with key %s", queue, exchange, key)
	})
}

func newUnbindCmd() *cobra.Command {
	return connected(&cobra.Command{Use: "unbind QUEUE EXCHANGE KEY", Short: "Remove a binding"}, func(a call) error {
		queue, exchange, key := a.args[0], a.args[1], a.args[2]
		list, err := a.client.Bindings(a.ctx, queue)
		bound := slices.Contains(list, sealmq.BindingInfo{Queue: queue, Exchange: exchange, Key: key})
		known := err == nil // an older broker cannot say
		if err = exchangeHint(a, a.client.Unbind(a.ctx, queue, exchange, key)); err == nil && known && !bound {
			return withHint(fmt.Errorf("queue %s was not bound to %s with key %s", queue, exchange, key), `"sealmq binding list %s" shows its bindings`, queue)
		}
		return a.report(err, result{"queue": queue, "exchange": exchange, "key": key, "bound": false},
			"queue %s no longer gets what is published to %s with key %s", queue, exchange, key)
	})
}

func newBindingCmd() *cobra.Command {
	return group("binding", "List bindings", newBindingListCmd())
}

func newBindingListCmd() *cobra.Command {
	return connected(&cobra.Command{Use: "list [QUEUE]", Short: "List the bindings of a queue, or of all queues"}, func(a call) error {
		list, err := a.client.Bindings(a.ctx, append(a.args, "")[0])
		return printList(a, err, list, "there are no bindings", []string{"QUEUE", "EXCHANGE", "KEY"}, func(b sealmq.BindingInfo) []any {
			return []any{b.Queue, b.Exchange, b.Key}
		})
	})
}
