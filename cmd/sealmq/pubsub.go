package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/seal"
)

func newPubCmd() *cobra.Command {
	var declare bool
	cmd := &cobra.Command{
		Use:   "pub EXCHANGE KEY [TEXT...]",
		Short: "Publish messages that are not sealed, for tests",
		Long: `Publish each TEXT as a message, or without one each line of standard input; without a line nothing is
published, which is no error. Nothing is sealed: the broker's operator can read it. For real messages use
"sealmq send".

A text that is a JSON object is the message, and gets a message_id if it has none. Any other text becomes
{"message_id":"…","text":"…"}.`,
		Example: `  sealmq pub results lab hello --declare
  sealmq pub results lab '{"value":17}'`,
	}
	cmd.Flags().BoolVar(&declare, "declare", false, "first make the exchange and a queue that is called like the key, and bind them")
	return connected(cmd, func(a call) error {
		exchange, key := a.args[0], a.args[1]
		if declare {
			f := sendFlags{exchange: exchange, key: key}
			if err := f.declareAll(a); err != nil {
				return err
			}
		}
		next, err := a.textsOf(a.args[2:])
		if err != nil {
			return err
		}
		a.ctx = a.cmd.Context() // standard input may take its time
		n := 0
		for {
			text, err := next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return err
			}
			m, err := plainMessage(text)
			if err != nil {
				return err
			}
			m.Exchange, m.Key = exchange, key
			if err := a.client.Publish(a.ctx, m); err != nil {
				return suggestRoute(a.ctx, a.client, fmt.Errorf("message %d: %w", n+1, err), exchange, key)
			}
			n++
		}
		return a.report(nil, result{"published": n}, "published %s", plural(n, "message"))
	})
}

// textsOf gives the arguments, or if there are none the lines of standard input.
func (a call) textsOf(args []string) (func() (string, error), error) {
	if len(args) > 0 {
		return func() (text string, err error) {
			if len(args) == 0 {
				return "", io.EOF
			}
			text, args = args[0], args[1:]
			return text, nil
		}, nil
	}
	in, err := openInput(a.cmd, nil, true)
	return func() (string, error) {
		text, err := in.next()
		return string(text.Body), err
	}, err
}

// plainMessage makes a message of a text.
func plainMessage(text string) (m sealmq.Message, err error) {
	var fields map[string]json.RawMessage
	body := []byte(text)
	if json.Unmarshal(body, &fields) != nil || fields == nil {
		m.ID = seal.NewID()
		m.Body, err = json.Marshal(map[string]string{"message_id": m.ID, "text": text})
		return m, err
	}
	if id, ok := fields["message_id"]; ok {
		if json.Unmarshal(id, &m.ID) != nil {
			return m, usagef("message_id is not a text: %s", text)
		}
	} else {
		m.ID = seal.NewID()
		fields["message_id"], _ = json.Marshal(m.ID)
		if body, err = json.Marshal(fields); err != nil {
			return m, err
		}
	}
	var line bytes.Buffer
	err = json.Compact(&line, body)
	m.Body = line.Bytes()
	return m, err
}

func newSubCmd() *cobra.Command {
	var queue string
	cmd := &cobra.Command{
		Use:   "sub [EXCHANGE [KEY...]]",
		Short: "Watch what is published, without taking it",
		Long: `Show a copy of each message that is published to an exchange from now on, until it is interrupted. Nobody else
misses a message. KEY is a routing key, or a pattern of a topic exchange; without one everything is shown that
a topic or fanout exchange gets. With --queue everything is shown that is routed to a queue.

The copies come from a temporary queue of the broker, which goes with the connection. If they are not read in
time, the oldest are dropped.`,
		Example: `  sealmq sub results lab
  sealmq sub --queue lab --json`,
	}
	cmd.Flags().StringVar(&queue, "queue", "", "show what this `queue` gets")
	cmd.Flags().IntP("count", "n", 0, "end after this many messages (default: never)")
	conn := addConnectFlags(cmd)
	return standalone(cmd, func(a call) error {
		count, err := a.count("count")
		if err != nil {
			return err
		}
		if (queue == "") == (len(a.args) == 0) {
			return usagef("name either an exchange or a queue with --queue")
		}
		if err := checkNames("sub EXCHANGE KEY...", a.args); err != nil {
			return err
		}
		c, err := conn.dialForDeliveries(a.ctx)
		if err != nil {
			return err
		}
		defer c.Close()
		a.client = c
		list, err := a.watched(queue)
		if err != nil {
			return explain(err)
		}
		sub, err := c.Watch(a.ctx, list...)
		if err != nil {
			if err = suggest(a.ctx, c, err, exchangeName, list[0].Exchange); sealmq.CodeOf(err) == sealmq.NoExchange && hintFor(err) == "" {
				err = withHint(err, `"sealmq exchange list" shows all exchanges`)
			}
			return explain(err)
		}
		if !a.asJSON {
			a.note("watching; end with Ctrl-C")
		}
		for n, got := 0, make([]sealmq.Delivery, 100); count == 0 || n < count; {
			k, err := sub.Next(a.ctx, got)
			if err != nil {
				if a.ctx.Err() != nil {
					return nil
				}
				return explain(err)
			}
			if count > 0 {
				k = min(k, count-n)
			}
			for _, d := range got[:k] {
				if err := a.showDelivery(d); err != nil {
					return err
				}
			}
			if err := sub.Ack(got[:k]...); err != nil {
				return explain(err)
			}
			n += k
		}
		return nil
	})
}

// watched are the exchange and the keys of the arguments, or what a queue is bound to.
func (a call) watched(queue string) (list []client.WatchBinding, err error) {
	if queue != "" {
		bound, err := a.client.Bindings(a.ctx, queue)
		for _, b := range bound {
			list = append(list, client.WatchBinding{Exchange: b.Exchange, Key: b.Key})
		}
		if err == nil && len(list) == 0 {
			err = withHint(fmt.Errorf("queue %s is bound to no exchange", queue), `"sealmq bind" binds it`)
		}
		return list, suggest(a.ctx, a.client, err, queueName, queue)
	}
	for _, key := range a.args[1:] {
		list = append(list, client.WatchBinding{Exchange: a.args[0], Key: key})
	}
	if len(list) > 0 {
		return list, nil
	}
	all, err := a.client.Exchanges(a.ctx)
	for _, x := range all {
		if x.Name == a.args[0] && x.Kind == "direct" {
			return nil, usagef("%s is a direct exchange: name the routing keys to watch", x.Name)
		}
	}
	return []client.WatchBinding{{Exchange: a.args[0], Key: "#"}}, err
}

// deliveryRow is a message that "sub" and "queue get" show.
type deliveryRow struct {
	ID          string          `json:"id"`
	Queue       string          `json:"queue,omitempty"`
	Exchange    string          `json:"exchange"`
	Key         string          `json:"key"`
	Publisher   string          `json:"publisher"`
	Time        time.Time       `json:"time"`
	Attempt     uint32          `json:"attempt,omitempty"`
	DeathReason string          `json:"death_reason,omitempty"`
	Body        json.RawMessage `json:"body"`
}

// showDelivery prints a message on one line.
func (a call) showDelivery(d sealmq.Delivery) error {
	if a.asJSON {
		return printJSON(a.out, deliveryRow{d.ID, d.Queue, d.Exchange, d.Key, d.Publisher, d.Published, d.Attempt, d.DeathReason, json.RawMessage(d.Body)})
	}
	_, err := fmt.Fprintf(a.out, "%s  %s/%s  %s  %s\n", stampText(d.Published), printable(d.Exchange), printable(d.Key), printable(d.Publisher), printable(string(d.Body)))
	return err
}
