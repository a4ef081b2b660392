package keylog_test

import (
	"testing"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/testing/fakeclock"
	"github.com/sealmq/sealmq/keydir/keylog"
	"github.com/sealmq/sealmq/seal"
)

// One client cannot fill the log; others and administrators do not notice.
func TestChangesOfOneClientAreSlowedDown(t *testing.T) {
	now := fakeclock.New(time.Now())
	r := open(t, func(c *keylog.Config) { c.Now = now.Now })
	id := r.who(r.ca, "alice", "")
	put := func(i int) error { return second(r.putKey(id, "alice", key(byte(i)))) }
	first := r.entry(publicKey(t, small), nil)
	r.must(second(r.put(id, small, first)))
	for i := 1; i < keylog.ChangeBurst; i++ {
		r.must(put(i))
	}
	for range 2 {
		r.code(sealmq.LimitReached, put(100))
		r.code(sealmq.LimitReached, second(r.put(id, seal.HPKEHybrid, r.entry(publicKey(t, seal.HPKEHybrid), nil))))
		r.must(put(keylog.ChangeBurst - 1)) // what is there already is no change
		r.must(second(r.put(id, small, first)))
		r.must(second(r.putKey(bob, "bob", key(1))))
	}
	for i := range 2 * keylog.ChangeBurst {
		r.must(second(r.putKey(admin, "lab", key(byte(i)))))
	}
	now.Advance(keylog.ChangePause)
	r.must(put(100))
	r.code(sealmq.LimitReached, put(101))
	now.Advance(time.Hour)
	for i := range keylog.ChangeBurst {
		r.must(put(i))
	}
	r.code(sealmq.LimitReached, put(200))
	now.Advance(-2 * time.Hour)
	r.code(sealmq.LimitReached, put(200))
	now.Advance(keylog.ChangePause)
	r.must(put(200))
}

// Without a log there is nothing that could be filled.
func TestChangesWithoutALogAreNotSlowedDown(t *testing.T) {
	r := open(t, without)
	for i := range 2 * keylog.ChangeBurst {
		r.must(second(r.putKey(bob, "bob", key(byte(i)))))
	}
}
