package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
)

// stopTime is how long all parts of a node may take to stop. Most of it is for clients that
// read their last replies.
const stopTime = 10 * time.Second

// A part is a piece of a node that is started and stopped.
type part struct {
	name string
	// start opens the part and leaves nothing open if it fails.
	start func() error
	// run is called when all parts are started; it may be nil. It returns nil when ctx ends, when
	// the part is stopped, or if there is nothing to do. An error says that the part failed, and
	// ends the node.
	run func(ctx context.Context) error
	// stop closes the part if it was started; it may be nil. It must return when ctx ends.
	stop func(ctx context.Context) error
}

// runParts starts parts in order and runs them until ctx ends or one of them fails. Then,
// or if one does not start, it stops those that were started, in reverse. The error of the
// first part that failed comes first.
func runParts(ctx context.Context, parts []part) error {
	started := 0
	var failed error
	for _, p := range parts {
		if failed = p.start(); failed != nil {
			break
		}
		started++
	}
	running, runCtx := errgroup.WithContext(ctx)
	if failed == nil && ctx.Err() == nil {
		for _, p := range parts {
			if p.run != nil {
				running.Go(func() error { return p.run(runCtx) })
			}
		}
		<-runCtx.Done()
	}
	errs := []error{nil}
	stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
	defer cancel()
	for _, p := range slices.Backward(parts[:started]) {
		if p.stop == nil {
			continue
		}
		if err := p.stop(stopCtx); err != nil {
			errs = append(errs, fmt.Errorf("stop %s: %w", p.name, err))
		}
	}
	errs[0] = cmp.Or(failed, running.Wait())
	return errors.Join(errs...)
}
