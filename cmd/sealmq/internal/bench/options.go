package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/client"
)

// Options is what is measured. Zero values of the numbers mean the defaults named here.
type Options struct {
	// Phase is Both (if empty), Publish or Drain.
	Phase string
	// Publishers and Consumers are connections: 1 each. Publish has no consumers.
	Publishers, Consumers int
	// Size is the bytes of a body: 256.
	Size int
	// Window is the maximum number of unconfirmed messages of a publisher: 256.
	Window int
	// Prefetch is the maximum number of unacknowledged messages of a consumer: 256.
	Prefetch int
	// Queues is the number of queues that publishers and consumers are spread over: 1.
	// With more queues than publishers, each publisher publishes to its share in turn.
	Queues int
	// IdleQueues is the number of further queues that are declared and bound: 0.
	IdleQueues int
	// Fanout, if not 0, is the number of queues that get a copy of every message. Then
	// Queues is ignored.
	Fanout int
	// Backlog is the number of messages that wait before the measurement begins: 0.
	Backlog uint64
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
	if o.Phase == "" {
		o.Phase = Both
	}
	set := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	set(&o.Publishers, 1)
	if o.Phase == Publish {
		o.Consumers = 0
	} else {
		set(&o.Consumers, 1)
	}
	set(&o.Size, DefaultSize)
	set(&o.Window, DefaultWindow)
	set(&o.Prefetch, DefaultPrefetch)
	set(&o.Queues, 1)
	if o.Fanout > 0 {
		o.Queues = o.Fanout
	}
	if o.Duration == 0 {
		o.Duration = DefaultDuration
	}
	if o.Stall == 0 {
		o.Stall = DefaultStall
	}
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
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
	check(o.Size >= MinSize && o.lineBytes() <= sealmq.MaxLineBytes-sealmq.MaxNameBytes, "size: %d is not between %d and what fits in a line of %d bytes", o.Size, MinSize, sealmq.MaxLineBytes)
	check(o.Window > 0 && o.Window <= maxWindow, "window: %d is not between 1 and %d", o.Window, maxWindow)
	check(o.Prefetch > 0 && o.Prefetch <= sealmq.MaxPrefetch, "prefetch: %d is not between 1 and %d", o.Prefetch, sealmq.MaxPrefetch)
	check(o.Queues > 0, "queues: %d is not positive", o.Queues)
	check(o.Phase == Publish || o.Consumers >= o.Queues,
		"consumers: each consumes from one queue, so %d queues need at least as many; or measure only the phase %q", o.Queues, Publish)
	check(o.IdleQueues >= 0, "idle queues: %d is negative", o.IdleQueues)
	check(o.Fanout >= 0, "fanout: %d is negative", o.Fanout)
	check(o.Duration > 0, "duration: %v is not positive", o.Duration)
	check(o.Dial != nil, "dial: is required")
	return errors.Join(errs...)
}

// lineBytes is the length of a pushed line, without its line feed.
func (o *Options) lineBytes() int {
	id := len(runPrefix("000000000000", 0)) + numberDigits
	return sealmq.PushOverheadBytes + id + len(beforeID) + id + len(afterID) + o.Size + len(afterBody)
}

// copies is how many queues get each message.
func (o *Options) copies() int { return max(1, o.Fanout) }
