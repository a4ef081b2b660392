package changes_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/sealmq/sealmq/internal/changes"
)

func TestSignal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var s changes.Signal
		n := 0
		var all sync.WaitGroup
		for range 3 {
			all.Go(func() {
				mu.Lock()
				defer mu.Unlock()
				for n < 2 {
					if err := s.Wait(t.Context(), &mu); err != nil {
						t.Error(err)
					}
				}
			})
		}
		for range 2 {
			synctest.Wait()
			mu.Lock()
			n++
			s.Notify()
			mu.Unlock()
		}
		all.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		mu.Lock()
		defer mu.Unlock()
		if err := s.Wait(ctx, &mu); !errors.Is(err, context.Canceled) {
			t.Errorf("the context has ended: %v", err)
		}
	})
}
