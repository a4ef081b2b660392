package brokerview

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/sealmq/sealmq"
)

// Most of what is shown of one queue or exchange.
const (
	MaxBindings  = 500
	MaxConsumers = 100
)

// Detail is all about a queue.
type Detail struct {
	Queue
	Bindings     []sealmq.BindingInfo // the first MaxBindings
	MoreBindings int
	Consumers    []Connection // of the network, the first MaxConsumers
	Dead         int          // messages in the queue of its dead letters
}

// Queue describes one queue as it is now, with the rates of the last sample.
func (v *View) Queue(ctx context.Context, name string) (Detail, error) {
	var d Detail
	err := v.ask(ctx, func(ctx context.Context, m sealmq.Manager) (err error) {
		if d.QueueInfo, err = m.Queue(ctx, name); err != nil {
			return err
		}
		if d.Bindings, err = m.Bindings(ctx, name); err != nil {
			return err
		}
		dead, err := m.Queue(ctx, name+sealmq.DeadSuffix)
		if d.Dead = dead.Ready + dead.Unacked; errors.Is(err, sealmq.ErrNoQueue) || DeadLettersOf(name) != "" {
			d.Dead, err = 0, nil
		}
		return err
	})
	if err != nil {
		return d, err
	}
	d.Bindings, d.MoreBindings = bounded(d.Bindings)
	s, err := v.look(ctx)
	if err != nil {
		return d, err
	}
	if q := s.queue(name); q != nil {
		d.In, d.Out, d.Growing = q.In, q.Out, q.Growing
	}
	for i := range s.connections {
		if slices.Contains(s.connections[i].Consumes, name) && len(d.Consumers) < MaxConsumers {
			d.Consumers = append(d.Consumers, s.connections[i])
		}
	}
	return d, nil
}

func bounded(list []sealmq.BindingInfo) (first []sealmq.BindingInfo, more int) {
	n := min(len(list), MaxBindings)
	return list[:n], len(list) - n
}

// Exchange describes an exchange with its first MaxBindings, and says how many more it has. Code
// NoExchange if there is none.
func (v *View) Exchange(ctx context.Context, name string) (x sealmq.ExchangeInfo, bindings []sealmq.BindingInfo, more int, err error) {
	err = v.ask(ctx, func(ctx context.Context, m sealmq.Manager) error {
		list, err := m.Exchanges(ctx)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(list, func(x sealmq.ExchangeInfo) bool { return x.Name == name })
		if i < 0 {
			return &sealmq.Error{Code: sealmq.NoExchange, Message: "there is no such exchange"}
		}
		x = list[i]
		bindings, err = m.Bindings(ctx, "")
		return err
	})
	bindings = slices.DeleteFunc(bindings, func(b sealmq.BindingInfo) bool { return b.Exchange != name })
	bindings, more = bounded(bindings)
	return x, bindings, more, err
}

// Keys describes the keys of up to n clients in the key directory whose names begin with a text,
// from a cursor on, and says where the next part begins.
func (v *View) Keys(ctx context.Context, prefix, cursor string, n int) (list []sealmq.KeyInfo, next string, err error) {
	from := position{Name: prefix}
	if cursor != "" {
		if from, err = parsePosition(cursor); err != nil {
			return nil, "", err
		}
	}
	list, err = answer(ctx, v.ask, func(ctx context.Context, m sealmq.Manager) ([]sealmq.KeyInfo, error) {
		return m.Keys(ctx, from.Name, n+1)
	})
	clients := 0
	for i := range list {
		if i == 0 || list[i].Client != list[i-1].Client {
			clients++
		}
		switch {
		case !strings.HasPrefix(list[i].Client, prefix):
			return list[:i], "", err
		case clients > n:
			return list[:i], position{Name: list[i].Client}.cursor(), err
		}
	}
	return list, "", err
}

// Peek looks at up to n waiting messages without their bodies, and says where the next page
// begins; an empty page is the end.
func (v *View) Peek(ctx context.Context, queue, cursor string, n int) (list []sealmq.PeekedMessage, next string, err error) {
	from, err := parsePlace(cursor)
	if err != nil {
		return nil, "", err
	}
	list, err = answer(ctx, v.ask, func(ctx context.Context, m sealmq.Manager) ([]sealmq.PeekedMessage, error) {
		return m.Peek(ctx, queue, from, n)
	})
	for i := range list {
		list[i].Body, list[i].BodyBytes = nil, nil
	}
	if len(list) > 0 {
		next = placeAfter(list)
	}
	return list, next, err
}

// placeAfter is the cursor behind what was looked at.
func placeAfter(list []sealmq.PeekedMessage) string {
	return strconv.FormatUint(list[len(list)-1].Seq+1, 10)
}

func parsePlace(cursor string) (from uint64, err error) {
	if cursor == "" {
		return 0, nil
	}
	if from, err = strconv.ParseUint(cursor, 10, 63); err != nil {
		return 0, badCursor()
	}
	return from, nil
}

// Declare declares a queue.
func (v *View) Declare(ctx context.Context, name string, o *sealmq.QueueOptions) error {
	defer v.renew(ctx, name)
	return v.act(ctx, func(ctx context.Context, m sealmq.Manager) error { return m.DeclareQueue(ctx, name, o) })
}

// Change gives a queue these options in place of those that it has.
func (v *View) Change(ctx context.Context, name string, o sealmq.QueueOptions) error {
	defer v.renew(ctx, name)
	return v.act(ctx, func(ctx context.Context, m sealmq.Manager) error { return m.ChangeQueue(ctx, name, o) })
}

// Pause makes a queue deliver nothing until it is resumed, or resumes it.
func (v *View) Pause(ctx context.Context, name string, paused bool) error {
	defer v.renew(ctx, name)
	return v.act(ctx, func(ctx context.Context, m sealmq.Manager) error {
		if paused {
			return m.PauseQueue(ctx, name)
		}
		return m.ResumeQueue(ctx, name)
	})
}

// Purge removes the waiting messages of a queue for good.
func (v *View) Purge(ctx context.Context, name string) (removed int, err error) {
	defer v.renew(ctx, name)
	return answer(ctx, v.act, func(ctx context.Context, m sealmq.Manager) (int, error) { return m.PurgeQueue(ctx, name) })
}

// Delete removes a queue with its messages and bindings.
func (v *View) Delete(ctx context.Context, name string) (removed int, err error) {
	defer v.renew(ctx, name)
	return answer(ctx, v.act, func(ctx context.Context, m sealmq.Manager) (int, error) { return m.DeleteQueue(ctx, name) })
}

// Disconnect closes a connection and returns what it was. Code BadArgument if there is none with this id.
func (v *View) Disconnect(ctx context.Context, id uint64) (Connection, error) {
	s, err := v.look(ctx)
	if err != nil {
		return Connection{}, err
	}
	c := Connection{ConnectionInfo: sealmq.ConnectionInfo{ID: id}}
	if known := s.connection(id); known != nil {
		c = *known
	}
	err = v.act(ctx, func(ctx context.Context, m sealmq.Manager) error { return m.CloseConnection(ctx, id) })
	if err == nil {
		v.forget(id)
	}
	return c, err
}

// forget takes a connection that is closed out of the samples.
func (v *View) forget(id uint64) {
	v.patch(func(s *sample) {
		s.connections = slices.DeleteFunc(slices.Clone(s.connections), func(c Connection) bool { return c.ID == id })
	})
}
