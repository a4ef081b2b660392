package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
)

// recorded makes parts that write down what happens to them.
type recorded struct{ events []string }

func (r *recorded) part(name string) part {
	return part{
		name:  name,
		start: func() error { r.events = append(r.events, "start "+name); return nil },
		stop:  func(context.Context) error { r.events = append(r.events, "stop "+name); return nil },
	}
}

func (r *recorded) check(t *testing.T, want string) {
	t.Helper()
	if got := strings.Join(r.events, ", "); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}

func TestPartsStopInReverse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r recorded
		ctx, cancel := context.WithCancel(t.Context())
		parts := []part{r.part("a"), r.part("b"), r.part("c")}
		parts[0].stop = nil
		ended := false
		parts[1].run = func(ctx context.Context) error { <-ctx.Done(); ended = true; return nil }
		parts[2].run = func(context.Context) error { return nil } // the others go on
		done := make(chan error, 1)
		go func() { done <- runParts(ctx, parts) }()
		synctest.Wait()
		r.check(t, "start a, start b, start c")
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		r.check(t, "start a, start b, start c, stop c, stop b")
		if !ended {
			t.Error("a part still runs")
		}
	})
}

func TestPartThatDoesNotStart(t *testing.T) {
	broken := errors.New("broken")
	for i, want := range []string{"", "start a, stop a", "start a, start b, stop b, stop a"} {
		var r recorded
		parts := []part{r.part("a"), r.part("b"), r.part("c")}
		for j := range parts {
			parts[j].run = func(context.Context) error { t.Errorf("part %d runs", j); return nil }
		}
		parts[i].start = func() error { return broken }
		if err := runParts(t.Context(), parts); !errors.Is(err, broken) {
			t.Errorf("part %d: %v", i, err)
		}
		r.check(t, want)
	}
}

func TestPartThatFails(t *testing.T) {
	broken := errors.New("broken")
	for i := range 3 {
		var r recorded
		parts := []part{r.part("a"), r.part("b"), r.part("c")}
		for j := range parts {
			parts[j].run = func(ctx context.Context) error { <-ctx.Done(); return nil }
		}
		parts[i].run = func(context.Context) error { return broken }
		if err := runParts(t.Context(), parts); !errors.Is(err, broken) {
			t.Errorf("part %d: %v", i, err)
		}
		r.check(t, "start a, start b, start c, stop c, stop b, stop a")
	}
}

// TestPartThatDoesNotStop: the others are stopped all the same, within the time there is.
func TestPartThatDoesNotStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r recorded
		parts := []part{r.part("a"), r.part("b"), r.part("c")}
		parts[1].stop = func(ctx context.Context) error { <-ctx.Done(); return fmt.Errorf("busy: %w", ctx.Err()) }
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		err := runParts(ctx, parts)
		if !errors.Is(err, context.DeadlineExceeded) || err.Error() != "stop b: busy: context deadline exceeded" {
			t.Error(err)
		}
		r.check(t, "start a, start b, start c, stop c, stop a")
	})
}
