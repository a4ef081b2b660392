package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq"
)

func newQueueGetCmd() *cobra.Command {
	var keep bool
	cmd := &cobra.Command{
		Use:   "get QUEUE",
		Short: "Take messages from a queue and print them as they are",
		Long: `Take messages from the front of a queue, print them as they are, sealed or not, and acknowledge each when it is
printed. With --keep they go back to their place. "sealmq receive" opens messages and keeps them; "sealmq queue
peek" looks at them without taking them.`,
		Example: `  sealmq queue get lab
  sealmq queue get lab -n 100 --json > messages.jsonl`,
	}
	count := cmd.Flags().IntP("count", "n", 1, "maximum number of messages")
	cmd.Flags().BoolVar(&keep, "keep", false, "put the messages back instead of acknowledging them")
	conn := addConnectFlags(cmd)
	return standalone(cmd, func(a call) error {
		if *count < 1 {
			return usagef("--count must be at least 1")
		}
		if err := checkNames(cmd.Use, a.args); err != nil {
			return err
		}
		c, err := conn.dialForDeliveries(a.ctx)
		if err != nil {
			return err
		}
		defer c.Close()
		a.client = c
		info, err := c.Queue(a.ctx, a.args[0])
		if err != nil {
			return explain(a.suggestArgument(err))
		}
		most := min(*count, info.Ready-info.Delayed)
		if most <= 0 {
			a.note("no messages wait")
			return nil
		}
		return explain(a.takeMessages(a.args[0], most, keep))
	})
}

// getWait is how long "queue get" waits for messages that another consumer may have taken.
const getWait = 2 * time.Second

// takeMessages takes up to most messages and shows them.
func (a call) takeMessages(queue string, most int, keep bool) error {
	sub, err := a.client.Consume(a.ctx, queue, min(most, sealmq.DefaultPrefetch))
	if err != nil {
		return err
	}
	var kept []sealmq.Delivery
	buf := make([]sealmq.Delivery, sealmq.DefaultPrefetch)
	for n := 0; n < most; {
		ctx, cancel := context.WithTimeout(a.ctx, getWait)
		k, err := sub.Next(ctx, buf[:min(len(buf), most-n)])
		cancel()
		if errors.Is(err, context.DeadlineExceeded) {
			break
		}
		if err != nil {
			return err
		}
		for _, d := range buf[:k] {
			if err := a.showDelivery(d); err != nil {
				return err
			}
		}
		if n += k; keep {
			kept = append(kept, buf[:k]...)
			if len(kept) >= sealmq.DefaultPrefetch {
				break // the broker sends no more before these are settled
			}
			continue
		}
		if err := sub.AckWait(a.ctx, buf[:k]...); err != nil {
			return err
		}
	}
	return sub.Close(a.ctx, kept...)
}

func newQueueExportCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "export QUEUE",
		Short: "Write the waiting messages of a queue to a file, without taking them (its owner)",
		Long: `Write each waiting message as a JSON line, with where it was published and by whom. The messages stay in the
queue. Those that are delayed are left out. Those over 65,536 bytes are left out too, because the broker does not
show them: the first 20 are named, and the exit status is 1.`,
		Example: `  sealmq queue export lab --out lab.jsonl`,
	}
	out := addOutputFlags(cmd)
	return connected(cmd, func(a call) error {
		if err := out.check(); err != nil {
			return err
		}
		a.ctx = a.cmd.Context() // a long queue takes its time
		w, finish, err := out.open()
		if err != nil {
			return err
		}
		written, hidden, err := a.export(a.args[0], w)
		if err = errors.Join(err, finish(err == nil)); err != nil {
			return err
		}
		a.note("wrote %s of %s", plural(written, "message"), a.args[0])
		if len(hidden) == 0 {
			return nil
		}
		for _, id := range hidden[:min(len(hidden), namedHidden)] {
			a.note("left out: message %s", printable(id))
		}
		return withHint(fmt.Errorf("%s left out because the broker does not show so large ones", plural(len(hidden), "message")), `take them with "sealmq queue get --json"`)
	})
}

// namedHidden is how many of the messages that were left out are named.
const namedHidden = 20

// export writes the waiting messages, page by page, and returns the ids of those that the broker
// does not show.
func (a call) export(queue string, w io.Writer) (written int, hidden []string, err error) {
	for from := uint64(0); ; {
		page, err := a.client.Peek(a.ctx, queue, from, sealmq.MaxPeek)
		if err != nil || len(page) == 0 {
			return written, hidden, err
		}
		page, from = sealmq.CutPage(page)
		for i := range page {
			if page[i].Hidden() {
				hidden = append(hidden, page[i].ID)
				continue
			}
			if err := printJSON(w, page[i]); err != nil {
				return written, hidden, err
			}
			written++
		}
	}
}

func newQueueImportCmd() *cobra.Command {
	var exchange, key string
	cmd := &cobra.Command{
		Use:   "import FILE",
		Short: "Publish the messages of a file that \"sealmq queue export\" wrote",
		Long: `Publish each message of a file, or of standard input if FILE is -, with the id, the exchange and the routing key
that it had. So the bindings of today decide which queues get it. A message that the broker still remembers is
not stored again: it counts as refused.`,
		Example: `  sealmq queue import lab.jsonl
  sealmq queue import lab.jsonl --exchange repair --key lab`,
	}
	cmd.Flags().StringVar(&exchange, "exchange", "", "publish to this `exchange` instead")
	cmd.Flags().StringVar(&key, "key", "", "publish with this `routing key` instead")
	return connected(cmd, func(a call) error {
		var in io.Reader = a.cmd.InOrStdin()
		if name := a.args[0]; name != "-" {
			f, err := os.Open(name)
			if err != nil {
				return explainFile(a.cmd, name, err)
			}
			defer f.Close()
			in = f
		}
		a.ctx = a.cmd.Context()
		return a.importLines(in, exchange, key)
	})
}

// importBatch is how many messages are published together.
const importBatch = 500

func (a call) importLines(in io.Reader, exchange, key string) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 2*sealmq.MaxLineBytes)
	var batch []sealmq.Message
	var first error
	published, refused := 0, 0
	flush := func() {
		for i, r := range a.client.PublishBatch(a.ctx, batch) {
			if r.Err == nil && !r.Repeated {
				published++
				continue
			}
			refused++
			if r.Err == nil {
				r.Err = errors.New("the broker has stored it before")
			}
			if first == nil {
				first = fmt.Errorf("message %s: %w", batch[i].ID, r.Err)
			}
		}
		batch = batch[:0]
	}
	for n := 1; lines.Scan(); n++ {
		var m sealmq.PeekedMessage
		if err := json.Unmarshal(lines.Bytes(), &m); err != nil || m.ID == "" || len(m.Body) == 0 {
			flush()
			return withHint(fmt.Errorf("line %d is no message that can be published; %s published before it", n, plural(published, "message")),
				`the file must be one that "sealmq queue export" wrote`)
		}
		sum := sha256.Sum256(m.Body)
		next := sealmq.Message{Exchange: m.Exchange, Key: m.Key, ID: m.ID, Body: m.Body, Digest: sum[:]}
		if exchange != "" {
			next.Exchange = exchange
		}
		if key != "" {
			next.Key = key
		}
		if batch = append(batch, next); len(batch) == importBatch {
			flush()
		}
	}
	flush()
	if err := lines.Err(); err != nil {
		return err
	}
	if err := a.report(nil, result{"published": published, "refused": refused}, "published %s", plural(published, "message")); err != nil {
		return err
	}
	if refused > 0 {
		return fmt.Errorf("%s refused; the first: %w", plural(refused, "message"), first)
	}
	return nil
}
