package main

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq"
)

func newExchangeCmd() *cobra.Command {
	return group("exchange", "List, declare and delete exchanges", newExchangeListCmd(), newExchangeDeclareCmd(), newExchangeDeleteCmd())
}

func newExchangeListCmd() *cobra.Command {
	return connected(&cobra.Command{Use: "list", Short: "List all exchanges"}, func(a call) error {
		list, err := a.client.Exchanges(a.ctx)
		return printList(a, err, list, "there are no exchanges", []string{"EXCHANGE", "KIND", ">BINDINGS"}, func(x sealmq.ExchangeInfo) []any {
			return []any{x.Name, x.Kind, x.Bindings}
		})
	})
}

func newExchangeDeclareCmd() *cobra.Command {
	var kind string
	cmd := connected(&cobra.Command{Use: "declare EXCHANGE", Short: "Make an exchange"}, func(a call) error {
		if kinds := []string{"direct", "fanout", "topic"}; kind != "" && !slices.Contains(kinds, kind) {
			return usagef("--kind: %q is not one of %s", kind, strings.Join(kinds, ", "))
		}
		err := a.client.DeclareExchange(a.ctx, a.args[0], kind)
		return a.report(err, result{"exchange": a.args[0], "declared": true}, "declared exchange %s", a.args[0])
	})
	cmd.Flags().StringVar(&kind, "kind", "", "`kind` of the exchange: direct, fanout or topic (default: the kind of an existing one, else direct)")
	return cmd
}

func newExchangeDeleteCmd() *cobra.Command {
	return connected(&cobra.Command{Use: "delete EXCHANGE", Short: "Delete an exchange with its bindings"}, func(a call) error {
		err := exchangeHint(a.client.DeleteExchange(a.ctx, a.args[0]))
		return a.report(err, result{"exchange": a.args[0], "deleted": true}, "deleted exchange %s", a.args[0])
	})
}

func exchangeHint(err error) error {
	if sealmq.CodeOf(err) == sealmq.NoExchange {
		return withHint(err, `"sealmq exchange list" shows all exchanges`)
	}
	return err
}

func newBindCmd() *cobra.Command {
	return connected(&cobra.Command{Use: "bind QUEUE EXCHANGE KEY", Short: "Bind a queue to an exchange with a binding key"}, func(a call) error {
		queue, exchange, key := a.args[0], a.args[1], a.args[2]
		return a.report(a.client.Bind(a.ctx, queue, exchange, key), result{"queue": queue, "exchange": exchange, "key": key, "bound": true},
			"queue %s gets what is published to %s with key %s", queue, exchange, key)
	})
}

func newUnbindCmd() *cobra.Command {
	return connected(&cobra.Command{Use: "unbind QUEUE EXCHANGE KEY", Short: "Remove a binding"}, func(a call) error {
		queue, exchange, key := a.args[0], a.args[1], a.args[2]
		err := exchangeHint(a.client.Unbind(a.ctx, queue, exchange, key))
		return a.report(err, result{"queue": queue, "exchange": exchange, "key": key, "bound": false},
			"queue %s no longer gets what is published to %s with key %s", queue, exchange, key)
	})
}

func newConnectionCmd() *cobra.Command {
	return group("connection", "List and close the broker's connections", newConnectionListCmd(), newConnectionCloseCmd())
}

func newConnectionListCmd() *cobra.Command {
	return connected(&cobra.Command{Use: "list", Short: "List open connections"}, func(a call) error {
		list, err := a.client.Connections(a.ctx)
		head := []string{">ID", "CLIENT", "ROLE", "ADDRESS", ">OPEN", ">COMMANDS", ">UNACKED", ">IN", ">OUT"}
		return printList(a, err, list, "there are no connections", head, func(c sealmq.ConnectionInfo) []any {
			return []any{c.ID, c.Client, c.Role, c.Address, time.Since(c.Since).Round(time.Second), c.Commands, c.Unacked, bytesText(c.BytesIn), bytesText(c.BytesOut)}
		})
	})
}

func newConnectionCloseCmd() *cobra.Command {
	return connected(&cobra.Command{Use: "close ID", Short: "Close an open connection"}, func(a call) error {
		id, err := strconv.ParseUint(a.args[0], 10, 64)
		if err != nil {
			return usagef("connection id %q is not a number", a.args[0])
		}
		return a.report(a.client.CloseConnection(a.ctx, id), result{"connection": id, "closed": true}, "closed connection %d", id)
	})
}
