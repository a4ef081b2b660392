package main

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/seal"
)

func newQueueCmd() *cobra.Command {
	return group("queue", "List, declare, inspect and delete queues",
		newQueueListCmd(), newQueueShowCmd(), newQueueDeclareCmd(), newQueueChangeCmd(), newQueuePauseCmd(), newQueueResumeCmd(), newQueuePeekCmd(), newQueueGetCmd(), newQueueExportCmd(), newQueueImportCmd(), newQueuePurgeCmd(), newQueueDeleteCmd(), newQueueMoveCmd(), newQueueCopyCmd(),
		newQueueStateCmd(), newQueueDeadCmd(), newQueueRequeueCmd())
}

func newQueueListCmd() *cobra.Command {
	return connected(&cobra.Command{Use: "list", Short: "List all queues"}, func(a call) error {
		list, err := a.client.Queues(a.ctx)
		head := []string{"QUEUE", ">READY", ">DELAYED", ">UNACKED", ">SIZE", ">CONSUMERS", ">PUBLISHED", ">ACKED", ">DEAD", ">DROPPED", ">REFUSED", "OWNER"}
		return printList(a, err, list, "there are no queues", head, func(q sealmq.QueueInfo) []any {
			return []any{q.Name, q.Ready, q.Delayed, q.Unacked, bytesText(q.Bytes), q.Consumers, q.Published, q.Acked, q.DeadLettered, q.Dropped, q.Refused, ownerText(q.Owner)}
		})
	})
}

func newQueueShowCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "show QUEUE", Short: "Show one queue with its options, counters and consumers"}
	addWatchFlag(cmd)
	return connected(cmd, func(a call) error {
		q, err := a.client.Queue(a.ctx, a.args[0])
		if err != nil {
			return err
		}
		o := q.Options.Normalize()
		full, accepts, audience, deliveries := "publishes are refused", "all messages", "everybody", "go on"
		if q.Paused {
			deliveries = "are paused"
		}
		if o.Private {
			audience = "the owner only"
		}
		if o.DropOldest {
			full = "the oldest messages are dropped"
		}
		if o.Sealed != "" {
			accepts = "only messages sealed with " + strings.Join(o.Suites(), ", ")
		}
		return a.facts(nil, q, "QUEUE", q.Name,
			"owner", ownerText(q.Owner), "open to", audience, "deliveries", deliveries,
			"ready", q.Ready, "delayed", q.Delayed, "oldest", cmp.Or(localTime(q.Oldest), "none"), "unacked", q.Unacked, "size", bytesText(q.Bytes), "consumers", q.Consumers, "consumed by", consumersOf(a.ctx, a.client, q.Name),
			"published", q.Published, "delivered", q.Delivered, "acked", q.Acked, "returned", q.Returned,
			"expired", q.Expired, "dropped", q.Dropped, "dead-lettered", q.DeadLettered, "refused", q.Refused,
			"max messages", limitText(o.MaxMessages, strconv.FormatInt(o.MaxMessages, 10)),
			"max bytes", limitText(o.MaxBytes, bytesText(o.MaxBytes)),
			"at the limit", full,
			"ttl", limitText(int64(o.TTL), o.TTL.String()),
			"delivery limit", o.DeliveryLimit, "ack timeout", o.AckTimeout, "prefetch", o.Prefetch,
			"max line", bytesText(o.MaxLineBytes),
			"accepts", accepts)
	})
}

// ownerText names the owner of a queue or an exchange.
func ownerText(owner string) string { return cmp.Or(owner, "(administrators)") }

func limitText(n int64, text string) string {
	if n == 0 {
		return "none"
	}
	return text
}

func newQueueDeclareCmd() *cobra.Command {
	var f queueOptionFlags
	cmd := connected(&cobra.Command{
		Use:   "declare QUEUE",
		Short: "Make a queue",
		Long: `Make a queue. If it already exists, the options must be the same as those of the queue, or be omitted. "sealmq
queue change" changes them.`,
		Args: oneQueue,
	}, func(a call) error {
		name := a.args[0]
		var o sealmq.QueueOptions
		if err := f.apply(a.cmd, &o); err != nil {
			return err
		}
		options := &o
		if o == (sealmq.QueueOptions{}) {
			options = nil // accepts any existing queue
		}
		made, lines := willMake(a.ctx, a.client, name, "")
		err := a.client.DeclareQueue(a.ctx, name, options)
		text := append(lines, "queue "+name+" already existed")[0]
		return a.report(err, result{"queue": name, "declared": true, "made": made.queue}, "%s", text)
	})
	f.add(cmd)
	return cmd
}

func newQueueChangeCmd() *cobra.Command {
	var f queueOptionFlags
	cmd := connected(&cobra.Command{
		Use:   "change QUEUE",
		Short: "Change the options of a queue (its owner)",
		Long: `Change the options that are given, for what happens from now on. What waits stays, also beyond a new limit; but
messages that are older than a new --ttl are removed.`,
		Example: `  sealmq queue change lab --max-messages 50000 --drop-oldest
  sealmq queue change lab --ttl 0 --sealed=none`,
		Args: oneQueue,
	}, func(a call) error {
		q, err := a.client.Queue(a.ctx, a.args[0])
		if err != nil {
			return err
		}
		o := q.Options
		if err := f.apply(a.cmd, &o); err != nil {
			return err
		}
		if o == q.Options {
			return a.report(nil, result{"queue": q.Name, "changed": false}, "queue %s has these options already", q.Name)
		}
		err = a.client.ChangeQueue(a.ctx, q.Name, o)
		return a.report(err, result{"queue": q.Name, "changed": true}, "changed queue %s", q.Name)
	})
	f.add(cmd)
	return cmd
}

func newQueuePauseCmd() *cobra.Command {
	return connected(&cobra.Command{
		Use:   "pause QUEUE",
		Short: "Stop the deliveries of a queue (its owner)",
		Long: `Deliver nothing from a queue until "sealmq queue resume", also after the broker was started again. Publishes go on,
so the queue grows; what consumers hold stays with them.`,
		Args: oneQueue,
	}, func(a call) error {
		err := a.client.PauseQueue(a.ctx, a.args[0])
		return a.report(err, result{"queue": a.args[0], "paused": true}, "queue %s delivers nothing; to go on: sealmq queue resume %s", a.args[0], a.args[0])
	})
}

func newQueueResumeCmd() *cobra.Command {
	return connected(&cobra.Command{
		Use:   "resume QUEUE",
		Short: "Deliver again from a queue that was paused (its owner)",
		Args:  oneQueue,
	}, func(a call) error {
		err := a.client.ResumeQueue(a.ctx, a.args[0])
		return a.report(err, result{"queue": a.args[0], "paused": false}, "queue %s delivers", a.args[0])
	})
}

// queueOptionFlags are the flags for the options of a queue.
type queueOptionFlags struct {
	given  sealmq.QueueOptions
	sealed []string
}

// apply puts what is given on the command line into o.
func (f *queueOptionFlags) apply(cmd *cobra.Command, o *sealmq.QueueOptions) error {
	for _, flag := range []string{"delivery-limit", "ack-timeout", "prefetch", "max-line-bytes"} {
		if fl := cmd.Flag(flag); fl.Changed && (fl.Value.String() == "0" || fl.Value.String() == "0s") {
			return usagef("--%s is 0, and it cannot be switched off; leave it out for the default", flag)
		}
	}
	for flag, set := range map[string]func(){
		"max-messages":   func() { o.MaxMessages = f.given.MaxMessages },
		"max-bytes":      func() { o.MaxBytes = f.given.MaxBytes },
		"drop-oldest":    func() { o.DropOldest = f.given.DropOldest },
		"ttl":            func() { o.TTL = f.given.TTL },
		"delivery-limit": func() { o.DeliveryLimit = f.given.DeliveryLimit },
		"ack-timeout":    func() { o.AckTimeout = f.given.AckTimeout },
		"prefetch":       func() { o.Prefetch = f.given.Prefetch },
		"max-line-bytes": func() { o.MaxLineBytes = f.given.MaxLineBytes },
		"sealed":         func() { o.Sealed = f.suites() },
		"private":        func() { o.Private = f.given.Private },
	} {
		if cmd.Flag(flag).Changed {
			set()
		}
	}
	return usage(o.Validate(), "")
}

func (f *queueOptionFlags) suites() string {
	var list []string
	for _, suite := range f.sealed {
		if suite == "none" {
			continue
		}
		if suite == sealedDefault {
			suite = string(seal.HPKEHybrid) + "," + string(seal.HPKEX25519)
		}
		list = append(list, strings.FieldsFunc(suite, func(r rune) bool { return r == ',' })...)
	}
	return sealmq.SealedSuites(list...)
}

func (f *queueOptionFlags) add(cmd *cobra.Command) {
	fl, o := cmd.Flags(), &f.given
	fl.Int64Var(&o.MaxMessages, "max-messages", 0, "maximum number of messages in the queue; further publishes are refused (default: no limit)")
	addSizeFlag(fl, &o.MaxBytes, "max-bytes", 0, "maximum `size` of the queue, such as 512KiB, 10MB or 1GiB; further publishes are refused (default: no limit)")
	fl.BoolVar(&o.DropOldest, "drop-oldest", false, "at a limit, drop the oldest messages instead of refusing publishes")
	fl.DurationVar(&o.TTL, "ttl", 0, "remove messages that have waited for this long (default: never)")
	fl.Uint32Var(&o.DeliveryLimit, "delivery-limit", 0, fmt.Sprintf("number of deliveries after which a returned message is dead-lettered (default %d)", sealmq.DefaultDeliveryLimit))
	fl.DurationVar(&o.AckTimeout, "ack-timeout", 0, fmt.Sprintf("return messages that are not acknowledged within this time (default %v)", sealmq.DefaultAckTimeout))
	fl.IntVar(&o.Prefetch, "prefetch", 0, fmt.Sprintf("maximum number of unacknowledged messages of a consumer (default %d)", sealmq.DefaultPrefetch))
	fl.StringSliceVar(&f.sealed, "sealed", nil, "refuse messages that are not sealed with one of these `suites` (without a value: the suites that prove the sender; none: accept everything)")
	fl.Lookup("sealed").NoOptDefVal = sealedDefault
	fl.BoolVar(&o.Private, "private", false, "let nobody but the owner, who declares the queue, consume from it")
	addSizeFlag(fl, &o.MaxLineBytes, "max-line-bytes", 0, fmt.Sprintf("maximum `size` of a delivered line (default %v)", Size(sealmq.DefaultMaxLineBytes)))
}

// sealedDefault is --sealed without a value.
const sealedDefault = "proven"

// oneQueue accepts one argument. A second one is probably a value of --sealed.
func oneQueue(cmd *cobra.Command, args []string) error {
	if len(args) == 2 && cmd.Flag("sealed").Changed {
		return usage(fmt.Errorf("unexpected argument %q after --sealed", args[1]), "write --sealed="+args[1])
	}
	return cobra.ExactArgs(1)(cmd, args)
}

func newQueuePurgeCmd() *cobra.Command {
	cmd := connected(&cobra.Command{Use: "purge QUEUE", Short: "Remove all waiting messages of a queue"}, func(a call) error {
		if err := a.confirmQueue("%s will be removed from %s"); err != nil {
			return err
		}
		n, err := a.client.PurgeQueue(a.ctx, a.args[0])
		return a.report(err, result{"queue": a.args[0], "removed": n}, "removed %s from %s", plural(n, "message"), a.args[0])
	})
	addYesFlag(cmd)
	return cmd
}

func newQueueDeleteCmd() *cobra.Command {
	cmd := connected(&cobra.Command{Use: "delete QUEUE", Short: "Delete a queue with its bindings and messages"}, func(a call) error {
		if err := a.confirmQueue("%s and the bindings of %s will be removed with it"); err != nil {
			return err
		}
		n, err := a.client.DeleteQueue(a.ctx, a.args[0])
		return a.report(err, result{"queue": a.args[0], "removed": n}, "deleted queue %s with %s", a.args[0], plural(n, "message"))
	})
	addYesFlag(cmd)
	return cmd
}

// confirmQueue asks about a queue, whose messages and name are the arguments of the format.
func (a *call) confirmQueue(format string) error {
	q, err := a.client.Queue(a.ctx, a.args[0])
	if err != nil {
		return err
	}
	return a.confirm(format, plural(q.Ready+q.Unacked, "message"), q.Name)
}

func newQueueCopyCmd() *cobra.Command {
	return connected(&cobra.Command{
		Use:   "copy FROM TO",
		Short: "Copy the waiting messages of a queue into another one (their owner)",
		Long: `Copy the waiting messages of a queue into another one, as they are, and leave them where they are too. Messages
that are delayed are left out, and so are those that come while it copies.`,
		Example: "  sealmq queue copy lab lab-test",
	}, func(a call) error {
		from, to := a.args[0], a.args[1]
		q, err := a.client.Queue(a.ctx, from)
		if err != nil {
			return err
		}
		a.ctx = a.cmd.Context() // a long queue takes its time
		copied, most := 0, q.Ready
		for place := uint64(0); copied < most; {
			n, next, err := a.client.Copy(a.ctx, from, to, place, min(most-copied, sealmq.MaxPeek))
			if copied += n; err != nil {
				return fmt.Errorf("after %s: %w", plural(copied, "message"), err)
			}
			if place = next; next == 0 {
				break
			}
		}
		return a.report(nil, result{"from": from, "to": to, "copied": copied}, "copied %s from %s to %s", plural(copied, "message"), from, to)
	})
}

func newQueueMoveCmd() *cobra.Command {
	var ids []string
	cmd := connected(&cobra.Command{
		Use:     "move FROM TO",
		Short:   "Move waiting messages from one queue to another",
		Example: "  sealmq queue move lab" + sealmq.DeadSuffix + " lab",
	}, func(a call) error {
		count, err := a.count("count")
		if err != nil {
			return err
		}
		if count > 0 && len(ids) > 0 {
			return usagef("--count and --id cannot be combined")
		}
		var n int
		if len(ids) > 0 {
			n, err = a.client.MoveMessages(a.ctx, a.args[0], a.args[1], ids)
		} else {
			n, err = a.client.Move(a.ctx, a.args[0], a.args[1], count)
		}
		return a.report(err, result{"from": a.args[0], "to": a.args[1], "moved": n}, "moved %s from %s to %s", plural(n, "message"), a.args[0], a.args[1])
	})
	cmd.Flags().IntP("count", "n", 0, "maximum number of messages to move (default: all)")
	cmd.Flags().StringArrayVar(&ids, "id", nil, fmt.Sprintf("move only the message with this `ID`; may be repeated, up to %d times", sealmq.MaxMoveIDs))
	return cmd
}
