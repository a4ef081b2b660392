// Package changes lets calls wait for a change of what a mutex guards, and give up when their
// context ends, which a sync.Cond does not do.
package changes

import (
	"context"
	"sync"
)

// Signal is what calls wait for. The mutex guards it too. Its zero value is ready.
type Signal struct {
	changed chan struct{} // nil while nobody waits
}

// Wait gives mu up until Notify is called, or ctx ends and its error is returned. If both have
// happened, Notify counts: what the caller waits for may be there. The caller holds mu, and looks
// again.
func (s *Signal) Wait(ctx context.Context, mu *sync.Mutex) error {
	if s.changed == nil {
		s.changed = make(chan struct{})
	}
	changed := s.changed
	mu.Unlock()
	defer mu.Lock()
	_, err := Receive(ctx, changed)
	return err
}

// Receive waits for a value of a channel, or until ctx ends and its error is returned. If both have
// happened, the value counts.
func Receive[T any](ctx context.Context, ch <-chan T) (v T, err error) {
	select {
	case v = <-ch:
		return v, nil
	case <-ctx.Done():
	}
	select {
	case v = <-ch:
		return v, nil
	default:
		return v, ctx.Err()
	}
}

// Notify lets every waiting call look again. The caller holds the mutex.
func (s *Signal) Notify() {
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
}
