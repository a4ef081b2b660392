package brokerview

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/clock"
)

// Times of looks at the broker.
const (
	// interval is between two samples, but they take at most a thirtieth of the time.
	interval = 5 * time.Second
	share    = 30
	// Who looks gets a sample that is at most as old as freshFor, or as freshShare samples take.
	freshFor   = time.Second
	freshShare = 100
	// Rates are counted from a sample that is some seconds older, if there is one.
	baseAge, oldBase = 2 * time.Second, 10 * time.Second
	// askAgain is when a broker that was away is asked again because somebody looks.
	askAgain = time.Second
	// patience bounds a call of the broker, and less of it a look at one that was away.
	patience     = 10 * time.Second
	lessPatience = 2 * time.Second
)

// Config is what a View works with. Connect must be set.
type Config struct {
	// Connect returns the connection to the broker, which the View does not close. An error says
	// that the broker is away.
	Connect func(ctx context.Context) (sealmq.Manager, error)
	// Now is the time of day (default time.Now).
	Now func() time.Time
	// Log may be nil.
	Log *slog.Logger
}

// View looks at a broker. It is safe for concurrent use.
type View struct {
	cfg Config

	taking sync.Mutex // one sample at a time
	mu     sync.Mutex
	last   *sample // nil before the first
	base   *sample // what the next rates may be counted from
	// patches are what acts have changed since the present sample began; nil if none is taken.
	patches []func(*sample)
}

// New returns a view. Until Run is called it takes samples only when somebody looks.
func New(cfg Config) *View {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	return &View{cfg: cfg}
}

// Queue is a queue with its rates.
type Queue struct {
	sealmq.QueueInfo
	In, Out float64 // messages that came, and that were delivered, in a second
	Returns float64 // those that consumers gave back
	Growing bool    // more waits than a sample ago, and more comes than goes
}

// Connection is a connection with its rates.
type Connection struct {
	sealmq.ConnectionInfo
	CommandsPerSecond, BytesInPerSecond, BytesOutPerSecond float64
}

// sample is the broker at one moment. It is not changed once it is there.
type sample struct {
	at          time.Time
	took        time.Duration
	err         error
	queues      []Queue // by name
	connections []Connection
}

// Run takes samples until ctx ends.
func (v *View) Run(ctx context.Context) {
	away := false
	for ctx.Err() == nil {
		s := v.take(ctx)
		if s.err != nil != away && ctx.Err() == nil {
			if away = s.err != nil; away {
				v.cfg.Log.Warn("the broker cannot be looked at; trying again", "error", s.err)
			} else {
				v.cfg.Log.Info("the broker can be looked at again")
			}
		}
		_ = clock.Sleep(ctx, clock.System, max(interval, share*s.took))
	}
}

// look returns a sample that is new enough, or why there is none.
func (v *View) look(ctx context.Context) (*sample, error) {
	v.mu.Lock()
	s := v.last
	v.mu.Unlock()
	if v.isFresh(s) {
		return s, s.err
	}
	if s != nil && s.err != nil && !v.taking.TryLock() {
		return s, s.err // somebody is asking already, and it may take a while
	} else if s != nil && s.err != nil {
		v.taking.Unlock()
	}
	s = v.take(ctx)
	return s, s.err
}

func (v *View) isFresh(s *sample) bool {
	if s == nil {
		return false
	}
	good := max(freshFor, freshShare*s.took)
	if s.err != nil {
		good = askAgain
	}
	age := v.cfg.Now().Sub(s.at)
	return age >= 0 && age < good
}

// take takes a sample, unless another caller has just done it.
func (v *View) take(ctx context.Context) *sample {
	before := v.cfg.Now()
	v.taking.Lock()
	defer v.taking.Unlock()
	v.mu.Lock()
	last, base := v.last, v.base
	v.mu.Unlock()
	if last != nil && last.at.After(before) {
		return last
	}
	if last != nil && last.err == nil && (base == nil || before.Sub(last.at) >= baseAge || before.Sub(base.at) >= oldBase) {
		base = last
	}
	wait := patience
	if last != nil {
		wait = min(patience, max(lessPatience, 10*last.took))
	}
	// Others may wait for this sample too, so that it does not end with who asks for it.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), wait)
	defer cancel()
	s := &sample{}
	s.err = v.ask(ctx, func(ctx context.Context, m sealmq.Manager) (err error) {
		v.mu.Lock()
		v.patches = []func(*sample){}
		v.mu.Unlock()
		queues, err := m.Queues(ctx)
		if err != nil {
			return err
		}
		connections, err := m.Connections(ctx)
		s.at = v.cfg.Now()
		s.fill(base, queues, connections)
		return err
	})
	s.at = v.cfg.Now()
	s.took = s.at.Sub(before)
	v.mu.Lock()
	defer v.mu.Unlock()
	if s.err == nil {
		for _, change := range v.patches {
			change(s)
		}
	}
	v.patches = nil
	v.last, v.base = s, base
	return s
}

// fill puts the rates since base, which may be nil, to what the broker said.
func (s *sample) fill(base *sample, queues []sealmq.QueueInfo, connections []sealmq.ConnectionInfo) {
	if base == nil {
		base = &sample{}
	}
	seconds := s.at.Sub(base.at).Seconds()
	rate := func(now, before uint64) float64 {
		if now <= before || seconds <= 0 { // it was declared again, or the broker started again
			return 0
		}
		return float64(now-before) / seconds
	}
	s.queues = make([]Queue, len(queues))
	for i, q := range queues {
		s.queues[i].QueueInfo = q
		if b := base.queue(q.Name); b != nil {
			n := &s.queues[i]
			n.In, n.Out, n.Returns = rate(q.Published, b.Published), rate(q.Delivered, b.Delivered), rate(q.Returned, b.Returned)
			n.Growing = q.Ready > b.Ready && n.In > n.Out
		}
	}
	s.connections = make([]Connection, len(connections))
	for i, c := range connections {
		s.connections[i].ConnectionInfo = c
		if b := base.connection(c.ID); b != nil {
			n := &s.connections[i]
			n.CommandsPerSecond = rate(c.Commands, b.Commands)
			n.BytesInPerSecond, n.BytesOutPerSecond = rate(c.BytesIn, b.BytesIn), rate(c.BytesOut, b.BytesOut)
		}
	}
}

func (s *sample) queue(name string) *Queue {
	i, ok := slices.BinarySearchFunc(s.queues, name, func(q Queue, name string) int { return strings.Compare(q.Name, name) })
	if !ok {
		return nil
	}
	return &s.queues[i]
}

func (s *sample) connection(id uint64) *Connection {
	i, ok := slices.BinarySearchFunc(s.connections, id, func(c Connection, id uint64) int { return cmp.Compare(c.ID, id) })
	if !ok {
		return nil
	}
	return &s.connections[i]
}

// renew puts a queue as it is now into the samples, so that the caller sees its own change.
func (v *View) renew(ctx context.Context, name string) {
	info, err := answer(ctx, v.ask, func(ctx context.Context, m sealmq.Manager) (sealmq.QueueInfo, error) { return m.Queue(ctx, name) })
	gone := errors.Is(err, sealmq.ErrNoQueue)
	if err != nil && !gone {
		return // the next sample has it
	}
	v.patch(func(s *sample) {
		i, found := slices.BinarySearchFunc(s.queues, name, func(q Queue, name string) int { return strings.Compare(q.Name, name) })
		s.queues = slices.Clone(s.queues)
		switch {
		case gone && found:
			s.queues = slices.Delete(s.queues, i, i+1)
		case gone:
		case found:
			s.queues[i].QueueInfo = info
		default:
			s.queues = slices.Insert(s.queues, i, Queue{QueueInfo: info})
		}
	})
}

// patch changes the last sample, and the one that is being taken: it may have seen the broker before
// the change. The function gets a copy and must not change what its slices hold.
func (v *View) patch(change func(*sample)) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.patches != nil {
		v.patches = append(v.patches, change)
	}
	if v.last != nil && v.last.err == nil {
		s := *v.last
		change(&s)
		v.last = &s
	}
}

// ask calls the broker for something that changes nothing.
func (v *View) ask(ctx context.Context, call func(context.Context, sealmq.Manager) error) error {
	return v.call(ctx, "the broker cannot be reached; try again", call)
}

// act calls the broker for a change.
func (v *View) act(ctx context.Context, call func(context.Context, sealmq.Manager) error) error {
	return v.call(ctx, "the connection to the broker was lost, and it is not known whether this was done; look before you repeat it", call)
}

// answer is what a call through ask or act returns.
func answer[T any](ctx context.Context, through func(context.Context, func(context.Context, sealmq.Manager) error) error,
	call func(context.Context, sealmq.Manager) (T, error)) (value T, err error) {
	err = through(ctx, func(ctx context.Context, m sealmq.Manager) (err error) {
		value, err = call(ctx, m)
		return err
	})
	return value, err
}

// call gives an error that the broker did not answer a code, and words if it came while the call
// was under way.
func (v *View) call(ctx context.Context, lost string, call func(context.Context, sealmq.Manager) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	m, err := v.cfg.Connect(ctx)
	if err != nil {
		lost = "the broker cannot be reached; try again"
	} else {
		err = call(ctx, m)
	}
	if err == nil || sealmq.CodeOf(err) != "" {
		return err
	}
	if ctx.Err() != nil { // of our own patience, which says nothing about the request
		err = errors.New(err.Error())
	}
	return &sealmq.Error{Code: sealmq.Unavailable, Message: lost, Err: err}
}
