package local

import (
	"math/rand/v2"
	"testing"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
	"github.com/sealmq/sealmq/journal"
)

// TestStateCountsWhatSegmentsHold has copies come, go and move to other records, and
// compares what each segment is said to hold with where the copies are.
func TestStateCountsWhatSegmentsHold(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	const segments = 6
	freed, emptied := 0, 0
	s := newState(func(empty bool) {
		freed++
		if empty {
			emptied++
		}
	})
	s.dedup = newDedup(hashKey{1, 2})
	queues := []*queue{newQueue(1, "a", sealmq.QueueOptions{}.Normalize()), newQueue(2, "b", sealmq.QueueOptions{}.Normalize())}
	for _, q := range queues {
		s.addQueue(q)
	}
	where := map[copyRef]journal.Position{}
	place := func() journal.Place {
		gen := uint64(1 + rng.IntN(segments))
		return journal.Place{Pos: journal.Position(gen<<32 | uint64(64+8*rng.IntN(1<<20))), Bytes: 128}
	}
	anyCopy := func() (copyRef, bool) {
		for c := range where {
			return c, true
		}
		return copyRef{}, false
	}
	wantFreed, sealed := 0, map[uint64]bool{}
	for step := range 20_000 {
		switch rng.IntN(5) {
		case 0, 1:
			q, at := queues[rng.IntN(2)], place()
			c := copyRef{q.id, q.next}
			s.use(at.Pos.Generation()).add(1, at.Bytes)
			s.put(q, q.next, newEntry(at, 10, s.dedup.add(uint64(step+1), 0, contentHash{}, 1, 1), 1))
			where[c] = at.Pos
		case 2:
			if c, ok := anyCopy(); ok {
				if sealed[where[c].Generation()] {
					wantFreed++
				}
				s.forget(s.byID[c.queue], c.seq, 1)
				delete(where, c)
			}
		case 3:
			if c, ok := anyCopy(); ok {
				to := place()
				s.use(to.Pos.Generation()).add(1, to.Bytes)
				from := where[c]
				if rng.IntN(4) == 0 {
					from++ // it is somewhere else meanwhile
				} else {
					where[c] = to.Pos
				}
				lost := from
				if where[c] != to.Pos {
					lost = to.Pos
				}
				if sealed[lost.Generation()] {
					wantFreed++
				}
				s.relocate([]copyRef{c}, from, to)
			}
		case 4:
			gen := uint64(1 + rng.IntN(segments))
			sealed[gen] = true
			s.seal(gen)
		}
	}
	live := map[uint64]int{}
	for c, pos := range where {
		live[pos.Generation()]++
		if s.copyAt(c, pos) == nil {
			t.Fatalf("copy %v is not at %v", c, pos)
		}
	}
	for gen, u := range s.segs {
		if u.live != live[gen] {
			t.Errorf("segment %d holds %d copies, want %d", gen, u.live, live[gen])
		}
	}
	if s.copies != len(where) || s.dedup.count-s.dedup.settled != len(where) {
		t.Errorf("%d copies, %d ids that live, want %d", s.copies, s.dedup.count-s.dedup.settled, len(where))
	}
	if freed != wantFreed || emptied > freed {
		t.Errorf("told %d times that a sealed segment has less, want %d", freed, wantFreed)
	}
}

func TestDefinitionsAreAdoptedAsTheyWere(t *testing.T) {
	s := newState(nil)
	s.addQueue(newQueue(7, "q", sealmq.QueueOptions{MaxMessages: 3}.Normalize()))
	s.neverDeclared[5] = true
	s.define([]engine.Definition{{Key: "k", Value: []byte("v")}, {Key: "empty", Value: []byte{}}, {Key: "gone", Value: []byte("v")}})
	s.define([]engine.Definition{{Key: "gone"}})

	d := decodeEntries(s.declared().appendTo(nil, [16]byte{1}), [16]byte{1})
	if other := decodeEntries(s.declared().appendTo(nil, [16]byte{1}), [16]byte{2}); other.entries != 0 || d.entries != d.total {
		t.Fatalf("%+v, and of another store %+v", d, other)
	}
	back := newState(nil)
	back.adopt(d)
	q := back.queues["q"]
	if q == nil || q.id != 7 || back.byID[7] != q || q.options != s.queues["q"].options {
		t.Errorf("queue %+v", q)
	}
	if back.nextID != 8 || !back.neverDeclared[5] {
		t.Errorf("next id %d, never declared %v", back.nextID, back.neverDeclared)
	}
	if len(back.defs) != 2 || string(back.defs["k"]) != "v" || back.defs["empty"] == nil {
		t.Errorf("definitions %q", back.defs)
	}
}
