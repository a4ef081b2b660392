package client

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sealmq/sealmq"
)

// DeclareQueue creates a queue; see sealmq.Administrator.
func (c *Client) DeclareQueue(ctx context.Context, queue string, o *sealmq.QueueOptions) error {
	return c.setQueue(ctx, "Queue declared", "declare_queue", queue, o)
}

// ChangeQueue gives a queue these options in place of those that it has.
func (c *Client) ChangeQueue(ctx context.Context, queue string, o sealmq.QueueOptions) error {
	return c.setQueue(ctx, "Queue changed", "change_queue", queue, &o)
}

func (c *Client) setQueue(ctx context.Context, prefix, verb, queue string, o *sealmq.QueueOptions) error {
	line, err := commandLine(verb, queue)
	if err != nil {
		return err
	}
	if o != nil {
		options, err := json.Marshal(o)
		if err != nil {
			return fmt.Errorf("queue options: %w", err)
		}
		line += " " + string(options)
	}
	_, err = c.ask(ctx, line, prefix)
	return err
}

// DeclareExchange creates an exchange: direct, fanout or topic. An empty kind matches
// whatever exists, and else makes a direct one.
func (c *Client) DeclareExchange(ctx context.Context, exchange, kind string) error {
	args := []string{exchange}
	if kind != "" {
		args = append(args, kind)
	}
	return c.do(ctx, "Exchange declared", "declare_exchange", args...)
}

// Bind routes messages with this key from the exchange to the queue. Missing parts are
// created. Binding twice has no further effect.
func (c *Client) Bind(ctx context.Context, queue, exchange, key string) error {
	return c.do(ctx, "Queue bound", "bind", queue, exchange, key)
}

// Unbind undoes Bind.
func (c *Client) Unbind(ctx context.Context, queue, exchange, key string) error {
	return c.do(ctx, "Queue unbound", "unbind", queue, exchange, key)
}

// PauseQueue makes a queue deliver nothing until ResumeQueue. Publishes go on.
func (c *Client) PauseQueue(ctx context.Context, queue string) error {
	return c.do(ctx, "Queue paused", "pause_queue", queue)
}

// ResumeQueue lets a queue deliver again.
func (c *Client) ResumeQueue(ctx context.Context, queue string) error {
	return c.do(ctx, "Queue resumed", "resume_queue", queue)
}

// DeleteQueue removes a queue with its bindings and messages and returns their number.
func (c *Client) DeleteQueue(ctx context.Context, queue string) (removed int, err error) {
	return look[int](ctx, c, "Queue deleted ", "delete_queue", queue)
}

// DeleteExchange removes an exchange with its bindings.
func (c *Client) DeleteExchange(ctx context.Context, exchange string) error {
	return c.do(ctx, "Exchange deleted", "delete_exchange", exchange)
}

// PurgeQueue removes the waiting messages of a queue and returns their number.
func (c *Client) PurgeQueue(ctx context.Context, queue string) (removed int, err error) {
	return look[int](ctx, c, "Queue purged ", "purge", queue)
}

// Move moves up to n messages (0: all) from the front of one queue to the end of another.
func (c *Client) Move(ctx context.Context, from, to string, n int) (moved int, err error) {
	args := []string{from, to}
	if n != 0 {
		args = append(args, strconv.Itoa(n))
	}
	return look[int](ctx, c, "Moved ", "move", args...)
}

// Copy stores up to n waiting messages (0: sealmq.MaxPeek) of a queue in another queue too: those
// at the front, or those whose PeekedMessage.Seq is from or more. It returns the Seq to go on
// with; 0 if there are no more.
func (c *Client) Copy(ctx context.Context, queue, to string, from uint64, n int) (copied int, next uint64, err error) {
	rest, err := c.request(ctx, "Copied ", "copy", queue, to, strconv.Itoa(cmp.Or(n, sealmq.MaxPeek)), strconv.FormatUint(from, 10))
	if err != nil {
		return 0, 0, err
	}
	if _, err := fmt.Sscanf(rest, "%d %d", &copied, &next); err != nil {
		return 0, 0, errors.New("the broker answered copy with something that is not what was expected")
	}
	return copied, next, nil
}

// MoveMessages moves the waiting messages that have one of these ids, up to
// sealmq.MaxMoveIDs, to the end of another queue.
func (c *Client) MoveMessages(ctx context.Context, from, to string, ids []string) (moved int, err error) {
	if len(ids) == 0 {
		return 0, nil
	}
	return look[int](ctx, c, "Moved ", "move_messages", append([]string{from, to}, ids...)...)
}

// Peek looks at up to n messages (0: sealmq.DefaultPeek) of a queue without taking them: at
// its front, or at those whose Seq is from or more.
func (c *Client) Peek(ctx context.Context, queue string, from uint64, n int) (list []sealmq.PeekedMessage, err error) {
	args := []string{queue, strconv.Itoa(cmp.Or(n, sealmq.DefaultPeek))}
	if from > 0 {
		args = append(args, strconv.FormatUint(from, 10))
	}
	return look[[]sealmq.PeekedMessage](ctx, c, "Messages: ", "peek", args...)
}

// PeekBytes is Peek with bodies of every size, byte for byte in BodyBytes. A page has up to 1 MiB
// of them: of the first message what begins at this offset, which may be a part, and of others the
// whole or nothing. A broker that is older refuses it with code BadArgument.
func (c *Client) PeekBytes(ctx context.Context, queue string, from uint64, n, offset int) (list []sealmq.PeekedMessage, err error) {
	return look[[]sealmq.PeekedMessage](ctx, c, "Messages: ", "peek", queue, strconv.Itoa(n), strconv.FormatUint(from, 10), strconv.Itoa(offset))
}

// Queues describes all queues, sorted by name.
func (c *Client) Queues(ctx context.Context) (list []sealmq.QueueInfo, err error) {
	return look[[]sealmq.QueueInfo](ctx, c, "Queues: ", "queues")
}

// Queue describes one queue.
func (c *Client) Queue(ctx context.Context, name string) (info sealmq.QueueInfo, err error) {
	return look[sealmq.QueueInfo](ctx, c, "Queue: ", "queue", name)
}

// Exchanges describes all exchanges, sorted by name.
func (c *Client) Exchanges(ctx context.Context) (list []sealmq.ExchangeInfo, err error) {
	return look[[]sealmq.ExchangeInfo](ctx, c, "Exchanges: ", "exchanges")
}

// Bindings lists the bindings of a queue, or with an empty name those of all queues.
func (c *Client) Bindings(ctx context.Context, queue string) (list []sealmq.BindingInfo, err error) {
	var args []string
	if queue != "" {
		args = append(args, queue)
	}
	return look[[]sealmq.BindingInfo](ctx, c, "Bindings: ", "bindings", args...)
}

// Keys describes the current keys of up to n clients (1 to 200) of the key directory, from a name
// on, in the order of names. It is the broker's word, without proof.
func (c *Client) Keys(ctx context.Context, from string, n int) (list []sealmq.KeyInfo, err error) {
	line := "keys " + strconv.Itoa(n) + " " + from
	rest, err := c.ask(ctx, line, "Keys: ")
	if err == nil && json.Unmarshal([]byte(rest), &list) != nil {
		err = errors.New("the broker answered keys with something that is not what was expected")
	}
	return list, err
}

// Status says how the broker is.
func (c *Client) Status(ctx context.Context) (st sealmq.BrokerStatus, err error) {
	return look[sealmq.BrokerStatus](ctx, c, "Status: ", "status")
}

// Connections describes the broker's open connections: all for an administrator, else
// those of this client's identity.
func (c *Client) Connections(ctx context.Context) (list []sealmq.ConnectionInfo, err error) {
	return look[[]sealmq.ConnectionInfo](ctx, c, "Connections: ", "connections")
}

// CloseConnection closes an open connection of the broker.
func (c *Client) CloseConnection(ctx context.Context, id uint64) error {
	return c.do(ctx, "Connection closed", "close_connection", strconv.FormatUint(id, 10))
}

// BanConnection closes all connections of the identity that has this one, and keeps it out for
// a while.
func (c *Client) BanConnection(ctx context.Context, id uint64, while time.Duration) error {
	return c.do(ctx, "Connection closed", "close_connection", strconv.FormatUint(id, 10), "ban", while.String())
}

// BrokerStats returns the broker's statistics, a JSON object.
func (c *Client) BrokerStats(ctx context.Context) (stats json.RawMessage, err error) {
	return look[json.RawMessage](ctx, c, "Stats: ", "stats")
}

// Whoami says as whom the broker sees this client. It is the broker's word: what the client is
// called is in its certificate (mtls.NameOf).
func (c *Client) Whoami(ctx context.Context) (who sealmq.Who, err error) {
	if who, err = look[sealmq.Who](ctx, c, prefixWhoami, verbWhoami); err == nil {
		c.mu.Lock()
		c.remember(horizonOf(&who))
		c.mu.Unlock()
	}
	return who, err
}

// Ping asks the broker for a sign of life.
func (c *Client) Ping(ctx context.Context) error { return c.do(ctx, "Pong", "ping") }

// commandLine joins a command with arguments, none of which may be taken for two.
func commandLine(verb string, args ...string) (string, error) {
	for _, arg := range args {
		if err := sealmq.CheckName(verb+" argument", arg); err != nil {
			return "", err
		}
	}
	return strings.Join(append([]string{verb}, args...), " "), nil
}

// ask sends a command and returns what follows prefix in the reply.
func (c *Client) ask(ctx context.Context, line, prefix string) (string, error) {
	reply, err := c.Command(ctx, line)
	if err != nil {
		return "", err
	}
	rest, ok := strings.CutPrefix(reply, prefix)
	if !ok {
		return "", fmt.Errorf("the broker answered with %q", firstWord([]byte(reply)))
	}
	return rest, nil
}

func (c *Client) do(ctx context.Context, prefix, verb string, args ...string) error {
	_, err := c.request(ctx, prefix, verb, args...)
	return err
}

// look asks for a JSON value.
func look[T any](ctx context.Context, c *Client, prefix, verb string, args ...string) (v T, err error) {
	rest, err := c.request(ctx, prefix, verb, args...)
	if err == nil && json.Unmarshal([]byte(rest), &v) != nil {
		err = fmt.Errorf("the broker answered %s with something that is not what was expected", verb)
	}
	return v, err
}

func (c *Client) request(ctx context.Context, prefix, verb string, args ...string) (rest string, err error) {
	line, err := commandLine(verb, args...)
	if err != nil {
		return "", err
	}
	return c.ask(ctx, line, prefix)
}

// Topology is what an application needs to be there.
type Topology struct {
	Exchanges []Exchange
	Queues    []Queue
	Bindings  []Binding
}

// Exchange is an exchange to declare; see Client.DeclareExchange.
type Exchange struct{ Name, Kind string }

// Queue is a queue to declare; see Client.DeclareQueue.
type Queue struct {
	Name    string
	Options *sealmq.QueueOptions
}

// Binding is a binding to make; see Client.Bind.
type Binding struct{ Queue, Exchange, Key string }

// Declare makes everything in t exist. It may be called again, and repeats by itself what
// a lost connection interrupted. An error says what was refused; other parts may exist.
func (c *Client) Declare(ctx context.Context, t Topology) error {
	var exchanges, queues, bindings []func() error
	for _, x := range t.Exchanges {
		exchanges = append(exchanges, func() error { return c.DeclareExchange(ctx, x.Name, x.Kind) })
	}
	for _, q := range t.Queues {
		queues = append(queues, func() error { return c.DeclareQueue(ctx, q.Name, q.Options) })
	}
	for _, b := range t.Bindings {
		bindings = append(bindings, func() error { return c.Bind(ctx, b.Queue, b.Exchange, b.Key) })
	}
	for _, step := range [][]func() error{exchanges, queues, bindings} {
		var all errgroup.Group
		all.SetLimit(MaxPendingCommands / 4) // so that they share syncs, and leave room for others
		for _, declare := range step {
			all.Go(func() error {
				for {
					if err := declare(); !errors.Is(err, ErrInterrupted) { // declaring twice is no harm
						return err
					}
				}
			})
		}
		if err := all.Wait(); err != nil {
			return fmt.Errorf("declare: %w", err)
		}
	}
	return nil
}
