package local

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
	"github.com/sealmq/sealmq/journal"
)

// naive is a copy in a queue that is a list.
type naive struct {
	seq      uint64
	phase    phase
	body     int
	attempts uint32
	until    int64
}

// TestQueueAgreesWithList compares a queue with a list that is searched from the front,
// through a long random life.
func TestQueueAgreesWithList(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 1))
		q := newQueue(1, "q", sealmq.QueueOptions{}.Normalize())
		var list []*naive
		now := int64(1)
		at := func(p phase) *naive {
			var some []*naive
			for _, n := range list {
				if n.phase == p {
					some = append(some, n)
				}
			}
			if some == nil {
				return nil
			}
			return some[rng.IntN(len(some))]
		}
		for step := range 5000 {
			switch rng.IntN(10) {
			case 0, 1:
				n := &naive{seq: q.next, phase: waiting, body: rng.IntN(50)}
				q.put(n.seq, newEntry(journal.Place{Bytes: 64}, n.body, noSlot, now))
				q.next++
				list = append(list, n)
			case 2:
				q.visible = q.next
			case 3, 4:
				seq, e := q.nextWaiting()
				i := slices.IndexFunc(list, func(n *naive) bool { return n.phase == waiting && n.seq < q.visible })
				if (e == nil) != (i < 0) || e != nil && list[i].seq != seq {
					t.Fatalf("seed %d, step %d: next is %d, found %v; in the list it is number %d", seed, step, seq, e != nil, i)
				}
				if e == nil {
					continue
				}
				if attempt, _ := q.take(seq, e); attempt != list[i].attempts+1 {
					t.Fatalf("seed %d, step %d: attempt %d after %d deliveries", seed, step, attempt, list[i].attempts)
				}
				list[i].phase = unacked
			case 5, 6:
				if n := at(unacked); n != nil {
					n.attempts++
					m := mark{attempts: n.attempts}
					n.phase = waiting
					if rng.IntN(2) == 0 {
						m.until = now + 1 + rng.Int64N(40)
						n.phase, n.until = delayed, m.until
					}
					q.comeBack(n.seq, q.at(n.seq), m)
				}
			case 7:
				now += rng.Int64N(20)
				q.endDelays(now)
				for _, n := range list {
					if n.phase == delayed && n.until <= now {
						n.phase = waiting
					}
				}
			case 8:
				n := at([]phase{waiting, unacked, delayed, dying}[rng.IntN(4)])
				if n != nil {
					q.remove(n.seq)
					list = slices.DeleteFunc(list, func(other *naive) bool { return other == n })
				}
			case 9:
				if n := at(unacked); n != nil && rng.IntN(3) == 0 {
					q.die(n.seq, q.at(n.seq), mark{reason: "why"})
					n.phase = dying
				}
			}
			if why := compareQueue(q, list); why != "" {
				t.Fatalf("seed %d, step %d: %s", seed, step, why)
			}
		}
	}
}

// compareQueue says in what a queue and its list differ.
func compareQueue(q *queue, list []*naive) string {
	var ready, readyBytes, bytes int
	var oldest *naive
	for _, n := range list {
		bytes += n.body
		if n.phase == waiting {
			ready++
			readyBytes += n.body
			if oldest == nil {
				oldest = n
			}
		}
		if e := q.at(n.seq); e == nil || e.phase != n.phase || int(e.body) != n.body {
			return "a copy is missing or in another phase"
		}
	}
	seq, ok := q.oldestWaiting()
	switch {
	case q.live != len(list) || q.ready != ready || q.bytes != int64(bytes) || q.readyBytes != int64(readyBytes):
		return "counts are wrong"
	case ok != (oldest != nil) || ok && seq != oldest.seq:
		return "another copy is the oldest that waits"
	}
	found := 0
	for range q.copiesFrom(0) {
		found++
	}
	if found != len(list) {
		return "from finds another number of copies"
	}
	return ""
}

// TestDelayBeginsAmongOverDelays begins a delay when what was delayed before is mostly
// settled, and forgotten ends of delays are removed.
func TestDelayBeginsAmongOverDelays(t *testing.T) {
	q := newQueue(1, "q", sealmq.QueueOptions{}.Normalize())
	for seq := range uint64(200) {
		q.put(seq, newEntry(journal.Place{Bytes: 64}, 1, noSlot, 1))
		q.next++
		q.visible = q.next
		taken, n := q.nextWaiting()
		q.take(taken, n)
		q.comeBack(taken, n, mark{attempts: 1, until: 100})
		if seq < 199 {
			q.remove(seq)
		}
	}
	if q.endDelays(99) != 0 || q.endDelays(100) != 1 {
		t.Error("the delay of the last copy does not end when it should")
	}
	if seq, n := q.nextWaiting(); n == nil || seq != 199 {
		t.Errorf("after the delay %d waits", seq)
	}
}

func TestAdmits(t *testing.T) {
	filled := func(o sealmq.QueueOptions, sizes ...int) *queue {
		q := newQueue(1, "q", o.Normalize())
		for _, size := range sizes {
			q.put(q.next, newEntry(journal.Place{Bytes: 64 + padTo8(size)}, size, noSlot, 1))
			q.next++
		}
		q.visible = q.next
		return q
	}
	takeOne := func(q *queue) *queue {
		seq, n := q.nextWaiting()
		q.take(seq, n)
		return q
	}
	for _, tc := range []struct {
		name string
		q    *queue
		body int
		want sealmq.Code
		over bool
	}{
		{"no limits", filled(sealmq.QueueOptions{}, 10), 10, "", false},
		{"a line that is just short enough", filled(sealmq.QueueOptions{MaxLineBytes: 1024}), 1024 - sealmq.PushOverheadBytes, "", false},
		{"a line that is too long", filled(sealmq.QueueOptions{MaxLineBytes: 1024}), 1025 - sealmq.PushOverheadBytes, sealmq.TooLarge, false},
		{"the last message", filled(sealmq.QueueOptions{MaxMessages: 2}, 1), 1, "", false},
		{"one message too many", filled(sealmq.QueueOptions{MaxMessages: 2}, 1, 1), 1, sealmq.QueueFull, true},
		{"the last byte", filled(sealmq.QueueOptions{MaxBytes: 100}, 40), 60, "", false},
		{"one byte too many", filled(sealmq.QueueOptions{MaxBytes: 100}, 40), 61, sealmq.QueueFull, true},
		{"drop the oldest", filled(sealmq.QueueOptions{MaxMessages: 2, DropOldest: true}, 1, 1), 1, "", true},
		{"nothing to drop", takeOne(filled(sealmq.QueueOptions{MaxMessages: 1, DropOldest: true}, 1)), 1, sealmq.QueueFull, true},
		{"drop for bytes", filled(sealmq.QueueOptions{MaxBytes: 100, DropOldest: true}, 90), 100, "", true},
		{"larger than the queue", filled(sealmq.QueueOptions{MaxBytes: 100, DropOldest: true}, 90), 101, sealmq.QueueFull, true},
	} {
		err := tc.q.admits(&sealmq.Message{Body: make([]byte, tc.body)})
		if sealmq.CodeOf(err) != tc.want {
			t.Errorf("%s: error %v, want code %q", tc.name, err, tc.want)
		}
		if got := tc.q.isOver(tc.body); got != tc.over {
			t.Errorf("%s: over its limit: %v", tc.name, got)
		}
	}
}

func TestMayDelete(t *testing.T) {
	var none *queue
	if err := none.mayDelete(0); sealmq.CodeOf(err) != sealmq.NoQueue {
		t.Errorf("no queue: error %v", err)
	}
	q := newQueue(1, "q", sealmq.QueueOptions{}.Normalize())
	q.put(0, newEntry(journal.Place{Bytes: 64}, 1, noSlot, 1))
	q.subs = []*subscription{{q: q, sess: &session{}}}
	for only, want := range map[engine.If]sealmq.Code{0: "", engine.IfUnused: sealmq.InUse, engine.IfEmpty: sealmq.InUse} {
		if err := q.mayDelete(only); sealmq.CodeOf(err) != want {
			t.Errorf("conditions %b: error %v, want code %q", only, err, want)
		}
	}
	q.subs = nil
	q.remove(0)
	if err := q.mayDelete(engine.IfUnused | engine.IfEmpty); err != nil {
		t.Errorf("an unused and empty queue: %v", err)
	}
}
