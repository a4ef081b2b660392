package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// stopTime is how long the parts of a node together may take to stop. Most of it is for
// clients that take their last answers.
const stopTime = 10 * time.Second

// A part is a piece of a node with a life of its own.
type part struct {
	name string
	// start opens the part and leaves nothing open if it fails.
	start func() error
	// run is called once all parts are started; nil does nothing. It returns nil when ctx
	// ends or the part is stopped, and an error if the part failed, which ends the node.
	run func(ctx context.Context) error
	// stop closes the part if it was started; nil does nothing. At the end of ctx it must
	// not wait any longer.
	stop func(ctx context.Context) error
}

// runParts starts parts in order and runs them until ctx ends or one of them fails. Then,
// or if one does not start, it stops those that were started, in reverse.
func runParts(ctx context.Context, parts []part) error {
	started := 0
	var failed error
	for _, p := range parts {
		if failed = p.start(); failed != nil {
			break
		}
		started++
	}
	var running sync.WaitGroup
	if failed == nil {
		failed = runAll(ctx, parts, &running)
	}
	errs := []error{failed}
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
	running.Wait()
	return errors.Join(errs...)
}

// runAll returns nil when ctx ends, or the error of the first part that failed. Then it has
// told the parts to end; running counts those that have not.
func runAll(ctx context.Context, parts []part, running *sync.WaitGroup) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make(chan error, len(parts))
	for _, p := range parts {
		if p.run == nil {
			continue
		}
		running.Go(func() {
			if err := p.run(ctx); err != nil {
				errs <- err
			}
		})
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-errs:
		return err
	}
}
