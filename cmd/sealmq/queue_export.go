package main

import (
	"bufio"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
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
queue. Those that are delayed are left out. A body that would not keep every byte as JSON is written in base64.`,
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
		written, err := a.export(a.args[0], w)
		if err = errors.Join(err, finish(err == nil)); err != nil {
			return err
		}
		a.note("wrote %s of %s", plural(written, "message"), a.args[0])
		return nil
	})
}

// export writes the waiting messages, page by page, and large bodies part by part.
func (a call) export(queue string, w io.Writer) (written int, err error) {
	var from uint64
	var body []byte // the parts so far of the message at from
	for {
		n := sealmq.MaxPeek
		if len(body) > 0 {
			n = 1
		}
		page, err := a.client.PeekBytes(a.ctx, queue, from, n, len(body))
		if sealmq.CodeOf(err) == sealmq.BadArgument {
			return written, withHint(err, `the broker is older than this program and does not show whole bodies: upgrade it, or take the messages with "sealmq queue get --json"`)
		}
		if err != nil || len(page) == 0 {
			return written, err
		}
		for i, m := range page {
			if i == 0 && m.Seq != from && len(body) > 0 {
				body = nil // its message was taken meanwhile, and this is a part of the next one
				break
			}
			if m.Seq != from {
				from, body = m.Seq, nil
			}
			if body = append(body, m.BodyBytes...); len(body) < m.Size {
				break
			}
			if err := exportMessage(w, m, body); err != nil {
				return written, err
			}
			written++
			from, body = from+1, nil
		}
	}
}

// exportMessage writes a message whose body comes back byte for byte.
func exportMessage(w io.Writer, m sealmq.PeekedMessage, body []byte) error {
	var line strings.Builder
	if m.BodyBytes = nil; json.Valid(body) {
		m.Body = body
		if err := printJSON(&line, m); err != nil {
			return err
		}
	}
	if !strings.HasSuffix(line.String(), `"body":`+string(body)+"}\n") {
		m.Body, m.BodyBytes = nil, body
		return printJSON(w, m)
	}
	_, err := io.WriteString(w, line.String())
	return err
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
		if err := json.Unmarshal(lines.Bytes(), &m); err != nil || m.ID == "" || len(m.Body)+len(m.BodyBytes) == 0 {
			flush()
			return withHint(fmt.Errorf("line %d is no message that can be published; %s published before it", n, plural(published, "message")),
				`the file must be one that "sealmq queue export" wrote`)
		}
		body := m.BodyBytes
		if len(m.Body) > 0 {
			body = m.Body
		}
		sum := sha256.Sum256(body)
		next := sealmq.Message{Exchange: cmp.Or(exchange, m.Exchange), Key: cmp.Or(key, m.Key), ID: m.ID, Body: body, Digest: sum[:]}
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
