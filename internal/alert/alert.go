// Package alert tells people by mail and webhook what is wrong with a node, so that nobody
// needs an Alertmanager to be warned.
//
// It judges the node by its own metrics. What it finds becomes an alert after it has been so
// for a while, and is resolved after it has not been so for a while. Each channel is told of
// each alert once, again after the repeat interval, and when it is resolved. What was told is
// kept in a file, so a restart tells nobody anything twice.
//
// A node cannot tell that it has died: another one, or a Prometheus, must watch it.
package alert

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealmq/sealmq/internal/clock"
	"github.com/sealmq/sealmq/internal/durable"
)

// Severity is how soon somebody should look.
type Severity string

// The severities.
const (
	Critical Severity = "critical" // now: messages are not accepted, stored or delivered
	Warning  Severity = "warning"  // today
)

// An Alert is something that is wrong. Its name is that of its page in docs/runbooks.
type Alert struct {
	Name     string
	Subject  string // which queue, certificate or role; may be empty
	Severity Severity
	Text     string // a sentence
	Since    time.Time
}

type key struct{ name, subject string }

func (a *Alert) key() key { return key{a.Name, a.Subject} }

// A Message is what a channel is told at a time.
type Message struct {
	Node             string
	At               time.Time
	Firing, Resolved []Alert
	// Open is how many alerts fire altogether, Firing included.
	Open int
	// Test says that nothing is wrong.
	Test bool
}

// A Channel tells people. Send returns when the message was taken over, or why it was not; then
// it is sent again later, with what has changed.
type Channel struct {
	Name string
	// To tells channels of a name apart. It is in no log line.
	To   string
	Send func(context.Context, Message) error
}

func (c *Channel) key() string { return c.Name + " " + c.To }

// Config is what a Manager works with. Node, File, Channels and Metrics must be set.
type Config struct {
	// Node says who tells.
	Node string
	// File keeps what was told.
	File     string
	FS       durable.FS // default: the system's
	Channels []Channel
	// Metrics are those of the node's roles.
	Metrics prometheus.Gatherer
	Limits  Limits
	// Repeat is after how long a channel is told again of what is still wrong.
	Repeat time.Duration
	// Log may be nil.
	Log *slog.Logger
}

const (
	// lookEvery is how often the metrics are judged.
	lookEvery = 15 * time.Second
	// sendTimeout bounds one attempt to tell a channel, and lastTimeout the one before the end.
	sendTimeout = 20 * time.Second
	lastTimeout = 5 * time.Second
	// gap is the shortest time between two messages of a channel, and longestGap that after
	// attempts that failed.
	gap        = time.Minute
	longestGap = 10 * time.Minute
)

// Manager judges and tells. Run does the work.
type Manager struct {
	cfg      Config
	judge    judge
	tracker  tracker
	channels []*channel
}

// New reads what was told before. A file that cannot be read is an error; one that makes no
// sense is begun again.
func New(cfg Config) (*Manager, error) {
	if cfg.Node == "" || cfg.File == "" || cfg.Metrics == nil || len(cfg.Channels) == 0 {
		return nil, errors.New("alerts need a node, a file, metrics and a channel")
	}
	cfg.FS = cmp.Or(cfg.FS, durable.OS())
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	m := &Manager{cfg: cfg, judge: judge{limits: cfg.Limits}}
	told, err := readTold(cfg.FS, cfg.File, cfg.Log)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	for _, c := range cfg.Channels {
		m.channels = append(m.channels, &channel{Channel: c, told: told[c.key()]})
		for _, a := range told[c.key()] {
			m.tracker.remember(a.Alert, now)
		}
	}
	return m, nil
}

// Run judges and tells until ctx ends. Then it looks once more: what ends the process is told
// before it is gone.
func (m *Manager) Run(ctx context.Context) error {
	for clock.Sleep(ctx, clock.System, lookEvery) == nil {
		m.step(ctx, time.Now())
	}
	m.last(context.WithoutCancel(ctx))
	return nil
}

// step is one look, and what is told of it. Channels are told at the same time, and the next
// look waits for them.
func (m *Manager) step(ctx context.Context, now time.Time) {
	m.tracker.update(m.look(now), now)
	m.tell(ctx, now)
}

func (m *Manager) look(now time.Time) []finding {
	families, err := m.cfg.Metrics.Gather()
	if err != nil { // what could be gathered is judged
		m.cfg.Log.Debug("some metrics cannot be judged", "error", err)
	}
	return m.judge.find(samplesOf(families), now)
}

// last tells what makes the process end: it does not wait for it to last.
func (m *Manager) last(ctx context.Context) {
	now := time.Now()
	var fatal []finding
	for _, f := range m.look(now) {
		if f.fatal {
			fatal = append(fatal, f)
		}
	}
	if len(fatal) == 0 {
		return
	}
	m.tracker.fire(fatal, now)
	ctx, cancel := context.WithTimeout(ctx, lastTimeout)
	defer cancel()
	for _, c := range m.channels {
		c.next = time.Time{}
	}
	m.tell(ctx, now)
}
