package local_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
	"github.com/sealmq/sealmq/engine/local"
	"github.com/sealmq/sealmq/internal/testing/faultfs"
)

// TestAllQueuesTogetherAreBounded: queues without limits of their own cannot take all
// memory, and room comes back with what is settled.
func TestAllQueuesTogetherAreBounded(t *testing.T) {
	cfg := local.Config{Dir: t.TempDir(), SegmentBytes: 64 << 10, MaxMessages: 10}
	e := mustOpen(t, cfg)
	declare(t, e, "a", nil)
	declare(t, e, "b", nil)
	fill := func(from, to int) (stored int) {
		for i := from; i < to; i++ {
			r := publish(t, e, message(fmt.Sprint(i), "x", "a", "b"))[0]
			switch {
			case r.Outcome == engine.Stored:
				stored++
			case sealmq.CodeOf(r.Err) != sealmq.QueueFull:
				t.Fatalf("%+v", r)
			}
		}
		return stored
	}
	if n := fill(0, 10); n != 5 {
		t.Fatalf("%d messages stored in two queues, want 5", n)
	}
	done := make(chan error, 1)
	e.PurgeQueue("a", func(_ int, err error) { done <- err })
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if n := fill(10, 20); n != 2 {
		t.Fatalf("%d messages stored after a purge, want 2", n)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	e = mustOpen(t, cfg)
	if n := fill(20, 30); n != 0 {
		t.Fatalf("%d messages stored after a restart, want none", n)
	}
	if got := exposed(t, e); got["sealmq_messages"] != 9 || got["sealmq_messages_limit"] != 10 {
		t.Fatalf("%v of %v copies", got["sealmq_messages"], got["sealmq_messages_limit"])
	}
}

// TestLongDeclarationsWaitForRoom: long declarations come faster than segments are
// prepared. They wait; none is refused.
func TestLongDeclarationsWaitForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		synctest.Wait() // what is prepared at the start is there
		hung := make(chan struct{})
		r.fs.Hook(func(op faultfs.Op) *faultfs.Fault {
			if op.Kind == faultfs.Create {
				return &faultfs.Fault{Hang: hung}
			}
			return nil
		})
		var suites []string
		for i := range 5 {
			suites = append(suites, fmt.Sprint(i, strings.Repeat("<", 200)))
		}
		o := sealmq.QueueOptions{Sealed: sealmq.SealedSuites(suites...)}
		const n = 20
		done := make(chan error, n)
		go func() {
			for i := range n {
				r.DeclareQueue(fmt.Sprint("q", i), o, engine.AllFields, func(_ engine.QueueInfo, _ bool, err error) { done <- err })
			}
		}()
		synctest.Wait() // the prepared segments are full
		close(hung)
		for range n {
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
		_ = r.Close()
	})
}

// TestChangesWaitForRoom: changes of a queue that has an owner with a long name come faster than
// segments are prepared. They wait; none is refused, wherever in a segment they begin.
func TestChangesWaitForRoom(t *testing.T) {
	long := strings.Repeat("<", sealmq.MaxNameBytes) // in JSON six times as long
	for name, change := range map[string]func(*rig, func(error)){
		"options": func(r *rig, done func(error)) { r.ChangeQueue("q", sealmq.QueueOptions{}, done) },
		"pause":   func(r *rig, done func(error)) { r.PauseQueue("q", true, done) },
	} {
		for used := 0; used < 4096; used += 512 {
			t.Run(fmt.Sprint(name, " behind ", used), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r := newRig(t, nil)
					declare(t, r.Engine, "q", &sealmq.QueueOptions{Owner: sealmq.Owner{ID: long, Issuer: long}})
					r.Define([]engine.Definition{{Key: "k", Value: make([]byte, used)}}, func(error) {})
					synctest.Wait() // what is prepared at the start is there
					hung := make(chan struct{})
					r.fs.Hook(func(op faultfs.Op) *faultfs.Fault {
						if op.Kind == faultfs.Create {
							return &faultfs.Fault{Hang: hung}
						}
						return nil
					})
					const n = 12
					done := make(chan error, n)
					go func() {
						for range n {
							change(r, func(err error) { done <- err })
						}
					}()
					synctest.Wait() // the prepared segments are full
					close(hung)
					for range n {
						if err := <-done; err != nil {
							t.Fatal(err)
						}
					}
					_ = r.Close()
				})
			})
		}
	}
}

// TestChangedOptionsHold: options that are changed hold at once and after a restart, whether the
// declaration and the change are in the journal, or in a checkpoint.
func TestChangedOptionsHold(t *testing.T) {
	cfg := local.Config{Dir: t.TempDir(), SegmentBytes: 64 << 10}
	e := mustOpen(t, cfg)
	change := func(name string, o sealmq.QueueOptions) error {
		done := make(chan error, 1)
		e.ChangeQueue(name, o, func(err error) { done <- err })
		return <-done
	}
	if err := change("q", sealmq.QueueOptions{}); sealmq.CodeOf(err) != sealmq.NoQueue {
		t.Fatalf("a queue that does not exist: error %v, want code %s", err, sealmq.NoQueue)
	}
	declare(t, e, "q", &sealmq.QueueOptions{MaxMessages: 3})
	stored := 0
	for round := range 3 {
		want := int64(4 + 2*round)
		if err := change("q", sealmq.QueueOptions{MaxMessages: want}); err != nil {
			t.Fatal(err)
		}
		for i := range 10 {
			if r := publish(t, e, message(fmt.Sprint(round, " ", i), strings.Repeat("x", 20_000), "q"))[0]; r.Outcome == engine.Stored {
				stored++
			}
		}
		if stored != int(want) {
			t.Fatalf("round %d: %d messages stored, want %d", round, stored, want)
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		e = mustOpen(t, cfg)
		if q, err := e.Queue("q"); err != nil || q.Options.MaxMessages != want {
			t.Fatalf("round %d: %d messages allowed after a restart, want %d (%v)", round, q.Options.MaxMessages, want, err)
		}
	}
}
