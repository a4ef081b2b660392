package mainserver_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/pipeline"
)

// TestRowsOfWhatWaits: a message that was queued and that nobody has registered has a row
// within a second, without a worker. With one, the row is left to the delivery.
func TestRowsOfWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		q := &queue{}
		put := func(id string) pipeline.Item {
			it := w.item(id)
			q.set(func() { q.ready = append(q.ready, it) })
			return it
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); w.svc.RegisterWaiting(ctx, q) }()
		rows := func(n int) {
			t.Helper()
			time.Sleep(time.Second)
			synctest.Wait()
			if len(w.store.registers) != n {
				t.Errorf("%d rows were made, want %d", len(w.store.registers), n)
			}
		}
		put("m-0")
		rows(1)
		for i := 1; i <= 1200; i++ {
			put(fmt.Sprintf("m-%d", i))
		}
		rows(1201)
		time.Sleep(time.Minute)
		rows(1201) // each is looked at once

		w.store.err = &sealmq.Error{Code: sealmq.Unavailable, Message: "the database is away"}
		put("during")
		time.Sleep(time.Minute)
		synctest.Wait()
		q.set(func() { w.store.err, w.store.registers = nil, nil })
		rows(1)

		// A worker takes everything, is killed, and what it had waits again.
		q.set(func() { q.counts.Processing = 1 })
		put("taken")
		rows(1)
		w.store.registers = nil
		q.set(func() { q.counts.Processing = 0; q.ready = q.ready[len(q.ready)-1:] })
		rows(1)
		if id := w.store.registers[0].ID; id != "taken" {
			t.Errorf("the row is of %s", id)
		}
		cancel()
		<-done
	})
}

// TestYoungItemsAreTheirProxys: what was queued just now is not registered twice.
func TestYoungItemsAreTheirProxys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		q := &queue{}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); w.svc.RegisterWaiting(ctx, q) }()
		for i := range 100 {
			it := w.item(fmt.Sprintf("m-%d", i))
			q.set(func() { q.ready = []pipeline.Item{it} })
			time.Sleep(300 * time.Millisecond) // then a worker has it
		}
		cancel()
		<-done
		if n := len(w.store.registers); n > 0 {
			t.Errorf("%d rows were made", n)
		}
	})
}
