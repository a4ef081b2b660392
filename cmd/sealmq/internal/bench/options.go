package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/client"
)

// Load is what is measured. The JSON names are an interface: scripts read them.
type Load struct {
	// Phase is Both (if empty), Publish or Drain.
	Phase string `json:"phase"`
	// Publishers and Consumers are connections: 1 each. Publish has no consumers.
	Publishers int `json:"publishers"`
	Consumers  int `json:"consumers"`
	// Size is the bytes of a body: 256. New computes LineBytes, the bytes of a delivered
	// line.
	Size      int `json:"size"`
	LineBytes int `json:"line_bytes"`
	// Window is the maximum number of unconfirmed messages of a publisher: 256.
	Window int `json:"window"`
	// Prefetch is the maximum number of unacknowledged messages of a consumer: 256.
	Prefetch int `json:"prefetch"`
	// Queues is the number of queues that publishers and consumers are spread over: 1.
	// With more queues than publishers, each publisher publishes to its share in turn.
	Queues int `json:"queues"`
	// IdleQueues is the number of further queues that are declared and bound: 0.
	IdleQueues int `json:"idle_queues,omitempty"`
	// Backlog is the number of messages that wait before the measurement begins: 0.
	Backlog uint64 `json:"backlog,omitempty"`
}

// Options is a load and how long it lasts. Zero values of the numbers mean the defaults
// named here.
type Options struct {
	Load
	// Messages is the number of messages that all publishers publish together; if it is
	// 0, they publish for Duration.
	Messages uint64
	// Duration is how long to publish: 5 s.
	Duration time.Duration
	// Stall is how long to wait for a next message before giving up: 15 s.
	Stall time.Duration

	// Dial opens one connection with the given window. Required.
	Dial func(ctx context.Context, window int) (*client.Client, error)
	// Sample reads the broker's metrics; nil if they are not available.
	Sample func(ctx context.Context) (Sample, error)
	// Progress is called with a sentence about the current step.
	Progress func(string)
}

// Sample is a snapshot of the broker's metrics.
type Sample struct {
	CPU       time.Duration // since its start
	RSS       int64
	Syncs     uint64
	DiskBytes int64
}

// The defaults of Options.
const (
	DefaultSize     = 256
	DefaultWindow   = 256
	DefaultPrefetch = 256
	DefaultDuration = 5 * time.Second
	DefaultStall    = 15 * time.Second
)

// maxWindow limits Window, because a publisher keeps a slot for each message in memory.
const maxWindow = 1 << 20

func (o Options) withDefaults() Options {
	o.Phase = cmp.Or(o.Phase, Both)
	o.Publishers, o.Consumers = cmp.Or(o.Publishers, 1), cmp.Or(o.Consumers, 1)
	if o.Phase == Publish {
		o.Consumers = 0
	}
	o.Size, o.Window, o.Prefetch = cmp.Or(o.Size, DefaultSize), cmp.Or(o.Window, DefaultWindow), cmp.Or(o.Prefetch, DefaultPrefetch)
	o.Queues, o.Duration, o.Stall = cmp.Or(o.Queues, 1), cmp.Or(o.Duration, DefaultDuration), cmp.Or(o.Stall, DefaultStall)
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	o.LineBytes = o.lineBytes()
	return o
}

func (o *Options) validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(o.Phase == Both || o.Phase == Publish || o.Phase == Drain, "phase: %q is not one of %s, %s, %s", o.Phase, Both, Publish, Drain)
	check(o.Publishers > 0 && o.Publishers <= MaxPublishers, "publishers: %d is not between 1 and %d", o.Publishers, MaxPublishers)
	check(o.Phase == Publish || o.Consumers > 0, "consumers: %d is not positive", o.Consumers)
	check(o.Size >= MinSize && o.LineBytes <= sealmq.MaxLineBytes-sealmq.MaxNameBytes, "size: %d is not between %d and what fits in a line of %d bytes", o.Size, MinSize, sealmq.MaxLineBytes)
	check(o.Window > 0 && o.Window <= maxWindow, "window: %d is not between 1 and %d", o.Window, maxWindow)
	check(o.Prefetch > 0 && o.Prefetch <= sealmq.MaxPrefetch, "prefetch: %d is not between 1 and %d", o.Prefetch, sealmq.MaxPrefetch)
	check(o.Queues > 0, "queues: %d is not positive", o.Queues)
	check(o.Phase == Publish || o.Consumers >= o.Queues,
		"consumers: each consumes from one queue, so %d queues need at least as many; or measure only the phase %q", o.Queues, Publish)
	check(o.IdleQueues >= 0, "idle queues: %d is negative", o.IdleQueues)
	check(o.Duration > 0, "duration: %v is not positive", o.Duration)
	check(o.Dial != nil, "dial: is required")
	return errors.Join(errs...)
}

// lineBytes is the length of a pushed line, without its line feed.
func (o *Options) lineBytes() int {
	id := len(runPrefix("000000000000", 0)) + numberDigits
	return sealmq.PushOverheadBytes + id + len(beforeID) + id + len(afterID) + o.Size + len(afterBody)
}
