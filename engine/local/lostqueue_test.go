package local

import (
	"testing"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/internal/testing/fakeclock"
	"github.com/sealmq/sealmq/internal/testing/faultfs"
	"github.com/sealmq/sealmq/journal"
)

// TestMessageForALostQueueSettlesNothing: a torn batch may keep a message and lose the declaration
// of its queue before it. Then the message was never confirmed, and nothing that it says
// is true: what it was moved from is still there, and its id is free. The id of the queue
// is never given to another one.
func TestMessageForALostQueueSettlesNothing(t *testing.T) {
	fs := faultfs.New()
	cfg := Config{Dir: "store", FS: fs, SegmentBytes: 16 << 10, Clock: fakeclock.New(time.Unix(1e9, 0))}
	open := func() *Engine {
		e, err := Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	put := func(e *Engine, id, queue string) engine.Outcome {
		done := make(chan engine.Outcome, 1)
		e.Publish([]engine.Publish{{Message: sealmq.Message{ID: id, Body: []byte("body")}, Queues: []string{queue}}},
			func(r []engine.PublishResult) { done <- r[0].Outcome })
		return <-done
	}
	declare := func(e *Engine, name string) uint32 {
		done := make(chan error, 1)
		e.DeclareQueue(name, sealmq.QueueOptions{}, 0, func(_ engine.QueueInfo, _ bool, err error) { done <- err })
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		return e.state.queues[name].id
	}

	e := open()
	q := declare(e, "q")
	if got := put(e, "kept", "q"); got != engine.Stored {
		t.Fatal(got)
	}
	key, storeID := e.state.dedup.key, e.files.storeID
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	lost := q + 1
	j := openJournal(t, fs, storeID)
	moved := messageRecord{flags: flagMoved, fromQueue: q, fromSeq: 0, deathReason: "r", copies: []copyRef{{lost, 0}}}
	hash, _ := key.content(nil, &sealmq.Message{Body: []byte("body")})
	fresh := messageRecord{flags: flagHash, hash: hash, id: "fresh", copies: []copyRef{{q, 1}, {lost, 1}}}
	for _, m := range []messageRecord{moved, fresh} {
		if _, err := j.Append(true, kindMessage, m.appendHead(nil), []byte("body")); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}

	for round := range 3 { // the last ones without the record: a checkpoint is behind it
		e = open()
		if got := e.state.queues["q"].live; got != 1 {
			t.Errorf("opening %d: %d messages in the queue", round, got)
		}
		if id := declare(e, []string{"a", "b", "c"}[round]); id == lost {
			t.Errorf("opening %d: the id of the lost queue was given away", round)
		}
		if _, err := e.takeCheckpoint(); err != nil {
			t.Fatal(err)
		}
		if round == 2 {
			if got := put(e, "fresh", "q"); got != engine.Stored {
				t.Errorf("the id of what was never confirmed is taken: outcome %d", got)
			}
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// openJournal opens the journal of a stopped store.
func openJournal(t *testing.T, fs durable.FS, storeID [16]byte) *journal.Journal {
	t.Helper()
	j, err := journal.Open(journal.Config{Dir: "store/journal", FS: fs, StoreID: storeID, SegmentBytes: 16 << 10})
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range j.Replay(0, 0) {
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := j.Begin(); err != nil {
		t.Fatal(err)
	}
	return j
}
