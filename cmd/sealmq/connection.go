package main

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/client"
)

func newConnectionCmd() *cobra.Command {
	return group("connection", "List and close the broker's connections", newConnectionListCmd(), newConnectionCloseCmd())
}

func newConnectionListCmd() *cobra.Command {
	return connected(&cobra.Command{Use: "list", Short: "List open connections"}, func(a call) error {
		list, err := a.client.Connections(a.ctx)
		head := []string{">ID", "CLIENT", "ROLE", "ADDRESS", ">OPEN", ">COMMANDS", ">UNACKED", ">IN", ">OUT", "CONSUMES"}
		return printList(a, err, list, "there are no connections", head, func(c sealmq.ConnectionInfo) []any {
			return []any{c.ID, c.Client, c.Role, c.Address, time.Since(c.Since).Round(time.Second), c.Commands, c.Unacked,
				bytesText(c.BytesIn), bytesText(c.BytesOut), orDash(strings.Join(c.Consumes, ", "))}
		})
	})
}

// consumersOf names the connections that consume a queue, as far as the caller may see them.
func consumersOf(ctx context.Context, c *client.Client, queue string) string {
	list, _ := c.Connections(ctx)
	var names []string
	for _, conn := range list {
		if slices.Contains(conn.Consumes, queue) {
			names = append(names, conn.Client+" from "+conn.Address)
		}
	}
	return strings.Join(names, ", ")
}

func newConnectionCloseCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "close ID",
		Short: "Close an open connection",
		Long: `Close an open connection. Most clients connect again at once. With --ban all connections of the same identity
are closed, and the broker lets it in again only after this time, or after a restart. To keep somebody out for
good, use "sealmq cert revoke".`,
		Example: `  sealmq connection close 17
  sealmq connection close 17 --ban 10m`,
	}
	ban := cmd.Flags().Duration("ban", 0, "keep the identity out for this long, for example 10m")
	return connected(cmd, func(a call) error {
		id, err := strconv.ParseUint(a.args[0], 10, 64)
		if err != nil {
			return usagef("connection id %q is not a number", a.args[0])
		}
		if *ban < 0 {
			return usagef("--ban is negative")
		}
		if *ban > 0 {
			return a.report(hintConnections(a.client.BanConnection(a.ctx, id, *ban)), result{"connection": id, "closed": true, "banned_s": ban.Seconds()},
				"closed connection %d and the others of its identity, which is not let in for %v", id, *ban)
		}
		return a.report(hintConnections(a.client.CloseConnection(a.ctx, id)), result{"connection": id, "closed": true}, "closed connection %d", id)
	})
}

// hintConnections adds where connections are found to an error about one that cannot be closed.
func hintConnections(err error) error {
	if sealmq.CodeOf(err) == sealmq.BadArgument {
		return withHint(err, `"sealmq connection list" shows the open ones, each with its id`)
	}
	return err
}
