package main

import (
	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq"
)

func newExchangeCmd() *cobra.Command {
	return group("exchange", "List, declare and delete exchanges", newExchangeListCmd(), newExchangeDeclareCmd(), newExchangeDeleteCmd())
}

func newExchangeListCmd() *cobra.Command {
	return connected(&cobra.Command{Use: "list", Short: "List all exchanges"}, func(a call) error {
		list, err := a.client.Exchanges(a.ctx)
		return printList(a, err, list, "there are no exchanges", []string{"EXCHANGE", "KIND", ">BINDINGS", "OWNER"}, func(x sealmq.ExchangeInfo) []any {
			return []any{x.Name, x.Kind, x.Bindings, ownerText(x.Owner)}
		})
	})
}

func newExchangeDeclareCmd() *cobra.Command {
	var kind string
	cmd := connected(&cobra.Command{Use: "declare EXCHANGE", Short: "Make an exchange"}, func(a call) error {
		err := a.client.DeclareExchange(a.ctx, a.args[0], kind)
		return a.report(err, result{"exchange": a.args[0], "declared": true}, "declared exchange %s", a.args[0])
	})
	cmd.Flags().StringVar(&kind, "kind", "", "`kind` of the exchange: direct, fanout or topic (default: the kind of an existing one, else direct)")
	return checked(cmd, func() error {
		if kind == "" {
			return nil
		}
		return oneOf("kind", kind, "direct", "fanout", "topic")
	})
}

func newExchangeDeleteCmd() *cobra.Command {
	cmd := connected(&cobra.Command{Use: "delete EXCHANGE", Short: "Delete an exchange with its bindings"}, func(a call) error {
		if err := a.confirm("exchange %s will be deleted with its bindings", a.args[0]); err != nil {
			return err
		}
		err := exchangeHint(a, a.client.DeleteExchange(a.ctx, a.args[0]))
		return a.report(err, result{"exchange": a.args[0], "deleted": true}, "deleted exchange %s", a.args[0])
	})
	addYesFlag(cmd)
	return cmd
}

func exchangeHint(a call, err error) error {
	if near := a.suggestArgument(err); near != err {
		return near
	}
	if sealmq.CodeOf(err) == sealmq.NoExchange {
		return withHint(err, `"sealmq exchange list" shows all exchanges`)
	}
	return err
}
