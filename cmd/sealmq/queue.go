package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/seal"
)

// newRequestCmd makes a command that sends the broker one request. run prints the reply for
// people or, if asJSON is set, as JSON.
func newRequestCmd(use, short string, args cobra.PositionalArgs, run func(a request) error) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Args: args}
	connect := addConnectFlags(cmd)
	asJSON := addJSONFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return connect.withClient(cmd, func(ctx context.Context, c *client.Client) error {
			return run(request{ctx, c, cmd, args, *asJSON, cmd.OutOrStdout()})
		})
	}
	return cmd
}

// request is one run of such a command.
type request struct {
	ctx    context.Context
	client *client.Client
	cmd    *cobra.Command
	args   []string
	asJSON bool
	out    io.Writer
}

// report prints the result of a change: JSON, or a sentence.
func (a request) report(v any, format string, args ...any) error {
	if a.asJSON {
		return printJSON(a.out, v)
	}
	_, err := fmt.Fprintf(a.out, format+"\n", args...)
	return err
}

// count reads a flag that must not be negative.
func (a request) count(flag string) (int, error) {
	n, err := a.cmd.Flags().GetInt(flag)
	if err == nil && n < 0 {
		err = usagef("--%s is negative", flag)
	}
	return n, err
}

func newQueueCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "queue", Short: "List, declare, inspect and delete queues"}
	cmd.AddCommand(newQueueListCmd(), newQueueShowCmd(), newQueueDeclareCmd(), newQueuePeekCmd(),
		newQueuePurgeCmd(), newQueueDeleteCmd(), newQueueMoveCmd())
	return cmd
}

func newQueueListCmd() *cobra.Command {
	return newRequestCmd("list", "List all queues", cobra.NoArgs, func(a request) error {
		list, err := a.client.Queues(a.ctx)
		if err != nil {
			return err
		}
		if a.asJSON {
			return printJSON(a.out, list)
		}
		t := table{head: []string{"QUEUE", ">READY", ">UNACKED", ">SIZE", ">CONSUMERS", ">PUBLISHED", ">ACKED", ">DEAD", ">DROPPED", ">REFUSED"}}
		for _, q := range list {
			t.add(q.Name, q.Ready, q.Unacked, bytesText(q.Bytes), q.Consumers, q.Published, q.Acked, q.DeadLettered, q.Dropped, q.Refused)
		}
		return t.print(a.out, "there are no queues")
	})
}

func newQueueShowCmd() *cobra.Command {
	return newRequestCmd("show QUEUE", "Show one queue with its options and counters", cobra.ExactArgs(1), func(a request) error {
		q, err := a.client.Queue(a.ctx, a.args[0])
		if err != nil {
			return err
		}
		if a.asJSON {
			return printJSON(a.out, q)
		}
		o := q.Options.Normalize()
		t := table{head: []string{"QUEUE", q.Name}}
		t.add("ready", q.Ready)
		t.add("unacked", q.Unacked)
		t.add("size", bytesText(q.Bytes))
		t.add("consumers", q.Consumers)
		t.add("published", q.Published)
		t.add("delivered", q.Delivered)
		t.add("acked", q.Acked)
		t.add("returned", q.Returned)
		t.add("expired", q.Expired)
		t.add("dropped", q.Dropped)
		t.add("dead-lettered", q.DeadLettered)
		t.add("refused", q.Refused)
		t.add("max messages", limitText(o.MaxMessages, strconv.FormatInt(o.MaxMessages, 10)))
		t.add("max bytes", limitText(o.MaxBytes, bytesText(o.MaxBytes)))
		t.add("at the limit", map[bool]string{false: "publishes are refused", true: "the oldest messages are dropped"}[o.DropOldest])
		t.add("ttl", limitText(int64(o.TTL), o.TTL.String()))
		t.add("delivery limit", o.DeliveryLimit)
		t.add("ack timeout", o.AckTimeout)
		t.add("prefetch", o.Prefetch)
		t.add("max line", bytesText(o.MaxLineBytes))
		t.add("accepts", map[bool]string{true: "all messages", false: "only messages sealed with " + strings.Join(o.Suites(), ", ")}[o.Sealed == ""])
		return t.print(a.out, "")
	})
}

func limitText(n int64, text string) string {
	if n == 0 {
		return "none"
	}
	return text
}

func newQueueDeclareCmd() *cobra.Command {
	var o sealmq.QueueOptions
	var sealed []string
	cmd := newRequestCmd("declare QUEUE", "Make a queue", oneQueue, func(a request) error {
		options := &o
		for i, suite := range sealed {
			if suite == sealedDefault {
				sealed[i] = string(seal.HPKEHybrid) + "," + string(seal.HPKEX25519)
			}
		}
		o.Sealed = sealmq.SealedSuites(strings.FieldsFunc(strings.Join(sealed, ","), func(r rune) bool { return r == ',' })...)
		if o == (sealmq.QueueOptions{}) {
			options = nil // accepts any existing queue
		} else if err := o.Validate(); err != nil {
			return &usageError{err: err}
		}
		_, err := a.client.Queue(a.ctx, a.args[0])
		made := sealmq.CodeOf(err) == sealmq.NoQueue
		if err := a.client.DeclareQueue(a.ctx, a.args[0], options); err != nil {
			return err
		}
		text := "queue %s already existed"
		if made {
			text = "made queue %s"
		}
		return a.report(map[string]any{"queue": a.args[0], "declared": true, "made": made}, text, a.args[0])
	})
	cmd.Long = `Make a queue. If it already exists, the options must be the same as those of the queue, or be omitted.`
	fl := cmd.Flags()
	fl.Int64Var(&o.MaxMessages, "max-messages", 0, "maximum number of messages in the queue; further publishes are refused (default: no limit)")
	fl.Int64Var(&o.MaxBytes, "max-bytes", 0, "maximum number of bytes in the queue; further publishes are refused (default: no limit)")
	fl.BoolVar(&o.DropOldest, "drop-oldest", false, "at a limit, drop the oldest messages instead of refusing publishes")
	fl.DurationVar(&o.TTL, "ttl", 0, "remove messages that have waited for this long (default: never)")
	fl.Uint32Var(&o.DeliveryLimit, "delivery-limit", 0, fmt.Sprintf("number of deliveries after which a returned message is dead-lettered (default %d)", sealmq.DefaultDeliveryLimit))
	fl.DurationVar(&o.AckTimeout, "ack-timeout", 0, fmt.Sprintf("return messages that are not acknowledged within this time (default %v)", sealmq.DefaultAckTimeout))
	fl.IntVar(&o.Prefetch, "prefetch", 0, fmt.Sprintf("maximum number of unacknowledged messages of a consumer (default %d)", sealmq.DefaultPrefetch))
	fl.StringSliceVar(&sealed, "sealed", nil, "refuse messages that are not sealed with one of these `suites` (without a value: the suites that prove the sender)")
	fl.Lookup("sealed").NoOptDefVal = sealedDefault
	fl.IntVar(&o.MaxLineBytes, "max-line-bytes", 0, fmt.Sprintf("maximum length of a delivered line in bytes (default %d)", sealmq.DefaultMaxLineBytes))
	return cmd
}

// sealedDefault is --sealed without a value.
const sealedDefault = "proven"

// oneQueue accepts one argument. A second one is probably a value of --sealed.
func oneQueue(cmd *cobra.Command, args []string) error {
	if len(args) == 2 && cmd.Flag("sealed").Changed {
		return &usageError{err: fmt.Errorf("unexpected argument %q after --sealed", args[1]), hint: "write --sealed=" + args[1]}
	}
	return cobra.ExactArgs(1)(cmd, args)
}

func newQueuePurgeCmd() *cobra.Command {
	return newRequestCmd("purge QUEUE", "Remove all waiting messages of a queue", cobra.ExactArgs(1), func(a request) error {
		n, err := a.client.PurgeQueue(a.ctx, a.args[0])
		if err != nil {
			return err
		}
		return a.report(map[string]any{"queue": a.args[0], "removed": n}, "removed %s from %s", plural(n, "message"), a.args[0])
	})
}

func newQueueDeleteCmd() *cobra.Command {
	return newRequestCmd("delete QUEUE", "Delete a queue with its bindings and messages", cobra.ExactArgs(1), func(a request) error {
		n, err := a.client.DeleteQueue(a.ctx, a.args[0])
		if err != nil {
			return err
		}
		return a.report(map[string]any{"queue": a.args[0], "removed": n}, "deleted queue %s with %s", a.args[0], plural(n, "message"))
	})
}

func newQueueMoveCmd() *cobra.Command {
	cmd := newRequestCmd("move FROM TO", "Move waiting messages from one queue to another", cobra.ExactArgs(2), func(a request) error {
		count, err := a.count("count")
		if err != nil {
			return err
		}
		n, err := a.client.Move(a.ctx, a.args[0], a.args[1], count)
		if err != nil {
			return err
		}
		return a.report(map[string]any{"from": a.args[0], "to": a.args[1], "moved": n}, "moved %s from %s to %s", plural(n, "message"), a.args[0], a.args[1])
	})
	cmd.Example = "  sealmq queue move lab" + sealmq.DeadSuffix + " lab"
	cmd.Flags().IntP("count", "n", 0, "maximum number of messages to move (default: all)")
	return cmd
}

func newExchangeCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "exchange", Short: "List, declare and delete exchanges"}
	cmd.AddCommand(newExchangeListCmd(), newExchangeDeclareCmd(), newExchangeDeleteCmd())
	return cmd
}

func newExchangeListCmd() *cobra.Command {
	return newRequestCmd("list", "List all exchanges", cobra.NoArgs, func(a request) error {
		list, err := a.client.Exchanges(a.ctx)
		if err != nil {
			return err
		}
		if a.asJSON {
			return printJSON(a.out, list)
		}
		t := table{head: []string{"EXCHANGE", "KIND", ">BINDINGS"}}
		for _, x := range list {
			t.add(x.Name, x.Kind, x.Bindings)
		}
		return t.print(a.out, "there are no exchanges")
	})
}

func newExchangeDeclareCmd() *cobra.Command {
	var kind string
	cmd := newRequestCmd("declare EXCHANGE", "Make an exchange", cobra.ExactArgs(1), func(a request) error {
		switch kind {
		case "", "direct", "fanout", "topic":
		default:
			return usagef("--kind: %q is not one of direct, fanout, topic", kind)
		}
		if err := a.client.DeclareExchange(a.ctx, a.args[0], kind); err != nil {
			return err
		}
		return a.report(map[string]any{"exchange": a.args[0], "declared": true}, "declared exchange %s", a.args[0])
	})
	cmd.Flags().StringVar(&kind, "kind", "", "`kind` of the exchange: direct, fanout or topic (default: the kind of an existing one, else direct)")
	return cmd
}

func newExchangeDeleteCmd() *cobra.Command {
	return newRequestCmd("delete EXCHANGE", "Delete an exchange with its bindings", cobra.ExactArgs(1), func(a request) error {
		if err := a.client.DeleteExchange(a.ctx, a.args[0]); err != nil {
			return exchangeHint(err)
		}
		return a.report(map[string]any{"exchange": a.args[0], "deleted": true}, "deleted exchange %s", a.args[0])
	})
}

func exchangeHint(err error) error {
	if sealmq.CodeOf(err) == sealmq.NoExchange {
		return withHint(err, `"sealmq exchange list" shows all exchanges`)
	}
	return err
}

func newBindCmd() *cobra.Command {
	return newRequestCmd("bind QUEUE EXCHANGE KEY", "Bind a queue to an exchange with a binding key", cobra.ExactArgs(3), func(a request) error {
		if err := a.client.Bind(a.ctx, a.args[0], a.args[1], a.args[2]); err != nil {
			return err
		}
		return a.report(map[string]any{"queue": a.args[0], "exchange": a.args[1], "key": a.args[2], "bound": true},
			"queue %s gets what is published to %s with key %s", a.args[0], a.args[1], a.args[2])
	})
}

func newUnbindCmd() *cobra.Command {
	return newRequestCmd("unbind QUEUE EXCHANGE KEY", "Remove a binding", cobra.ExactArgs(3), func(a request) error {
		if err := a.client.Unbind(a.ctx, a.args[0], a.args[1], a.args[2]); err != nil {
			return exchangeHint(err)
		}
		return a.report(map[string]any{"queue": a.args[0], "exchange": a.args[1], "key": a.args[2], "bound": false},
			"queue %s no longer gets what is published to %s with key %s", a.args[0], a.args[1], a.args[2])
	})
}

func newConnectionCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "connection", Short: "List and close the broker's connections"}
	cmd.AddCommand(newConnectionListCmd(), newConnectionCloseCmd())
	return cmd
}

func newConnectionListCmd() *cobra.Command {
	return newRequestCmd("list", "List open connections", cobra.NoArgs, func(a request) error {
		list, err := a.client.Connections(a.ctx)
		if err != nil {
			return err
		}
		if a.asJSON {
			return printJSON(a.out, list)
		}
		t := table{head: []string{">ID", "CLIENT", "ROLE", "ADDRESS", ">OPEN", ">COMMANDS", ">UNACKED", ">IN", ">OUT"}}
		for _, c := range list {
			t.add(c.ID, c.Client, c.Role, c.Address, time.Since(c.Since).Round(time.Second), c.Commands, c.Unacked, bytesText(c.BytesIn), bytesText(c.BytesOut))
		}
		return t.print(a.out, "there are no connections")
	})
}

func newConnectionCloseCmd() *cobra.Command {
	return newRequestCmd("close ID", "Close an open connection", cobra.ExactArgs(1), func(a request) error {
		id, err := strconv.ParseUint(a.args[0], 10, 64)
		if err != nil {
			return usagef("connection id %q is not a number", a.args[0])
		}
		if err := a.client.CloseConnection(a.ctx, id); err != nil {
			return err
		}
		return a.report(map[string]any{"connection": id, "closed": true}, "closed connection %d", id)
	})
}
