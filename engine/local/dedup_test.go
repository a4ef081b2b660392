package local

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/dchest/siphash"
	"github.com/sealmq/sealmq"
)

// TestDigestIsNoContent: even a caller that knows the key finds no digest with the hash of
// a content. Without the prefix that keeps the two apart, this digest would have it.
func TestDigestIsNoContent(t *testing.T) {
	const id, key, body = "same", "key", "body"
	k := hashKey{1, 2}
	content, _ := k.content(nil, &sealmq.Message{Exchange: id, Key: key, ID: id, Body: []byte(body)})
	a, b := siphash.Hash128(k.k0, k.k1, []byte(body))
	forged := appendString(appendString(nil, key), id)
	forged = binary.LittleEndian.AppendUint64(forged, a)
	forged = binary.LittleEndian.AppendUint64(forged, b)
	if digest, _ := k.digest(nil, id, forged); digest == content {
		t.Error("a digest equals a content")
	}
}

// TestDedupAgreesWithMap compares the table with a map and a list through a long random
// life with many removals, where linear probing goes wrong first.
func TestDedupAgreesWithMap(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	d := newDedup(hashKey{1, 2})
	type id struct {
		slot uint32
		live int
	}
	type scopedID struct {
		id    uint64
		scope uint32
	}
	known := map[scopedID]*id{}
	var order []scopedID // settled, oldest first
	hash := func() scopedID {
		return scopedID{uint64(rng.IntN(3000)+1) * 0x9e3779b97f4a7c15 & 0xffffff00000fffff, uint32(rng.IntN(2))}
	}
	for step := range 300_000 {
		h := hash()
		k := known[h]
		if got := d.find(h.id, h.scope); (got == noSlot) != (k == nil) || k != nil && got != k.slot {
			t.Fatalf("step %d: find says %d, the map %+v", step, got, k)
		}
		switch {
		case k == nil:
			n := rng.IntN(3)
			known[h] = &id{d.add(h.id, h.scope, contentHash{h.id, 1}, n, 5), n}
			if n == 0 {
				order = append(order, h)
			}
		case k.live > 0:
			d.release(k.slot, 5)
			if k.live--; k.live == 0 {
				order = append(order, h)
			}
		}
		if limit := 1000 + rng.IntN(2000); len(order) > limit {
			d.forget(limit, 0, 1<<30)
			for len(order) > limit {
				delete(known, order[0])
				order = order[1:]
			}
		}
		if d.count != len(known) || d.settled != len(order) {
			t.Fatalf("step %d: %d ids, %d settled; want %d, %d", step, d.count, d.settled, len(known), len(order))
		}
	}
}

func TestReviveKeepsOrderOfForgetting(t *testing.T) {
	d := newDedup(hashKey{1, 2})
	for i := range uint64(10) {
		d.add(i+1, 0, contentHash{i, i}, 0, 5)
	}
	slot := d.revive(3, 0, contentHash{2, 2})
	d.forget(0, 0, 1<<30)
	if d.count != 1 || d.find(3, 0) != slot {
		t.Fatalf("%d ids left, id 3 in slot %d, want %d", d.count, d.find(3, 0), slot)
	}
	d.release(slot, 6)
	d.forget(0, 0, 1<<30)
	if d.count != 0 || d.find(3, 0) != noSlot {
		t.Fatal("the revived id was not forgotten")
	}
}

// TestReachOfMemory: what reach promises is remembered, whatever made ids forgotten, and of
// what a start found nothing is promised once there was too much.
func TestReachOfMemory(t *testing.T) {
	const window, maxIDs = 100, 10
	d := newDedup(hashKey{1, 2})
	now, next := uint32(1000), uint64(1)
	settled := map[uint64]uint32{}
	settle := func(n int) {
		for range n {
			d.add(next<<20, 0, contentHash{next}, 0, now)
			settled[next<<20] = now
			next++
		}
		d.forget(maxIDs, now-window, 1<<20)
	}
	want := func(reach uint32, ok bool) {
		t.Helper()
		got, known := d.covered(maxIDs, now, window)
		if got != reach || known != ok {
			t.Errorf("after %d s it reaches %d s back, %v; want %d, %v", now-1000, got, known, reach, ok)
		}
		for id, at := range settled {
			if known && now-at < got && d.find(id, 0) == noSlot {
				t.Errorf("after %d s an id of %d s ago is forgotten", now-1000, now-at)
			}
		}
	}
	want(window, true)
	settle(5)
	now += 20
	settle(4)
	want(window, true)
	now += 20
	settle(6) // five of the first second go, and the next are of the second one
	want(19, true)
	now += 50
	settle(0)
	want(69, true)
	now += 200
	settle(1) // all others are too old
	want(window, true)

	// The same store, opened again: too many are found.
	d = newDedup(hashKey{1, 2})
	settled = map[uint64]uint32{}
	for id := range uint64(maxIDs + 2) {
		d.add((id+1)<<20, 0, contentHash{id}, 0, now)
	}
	d.found = now
	want(0, false)
	now += 50
	settle(3)
	want(0, false)
	now += 51 // by now all of the window is of this life
	settle(1)
	want(window, true)
	now++
	settle(10)
	want(0, true)

	// Few are found, so nothing can have been forgotten for their number.
	d = newDedup(hashKey{1, 2})
	d.add(1<<20, 0, contentHash{}, 0, now)
	d.found = now
	settled = map[uint64]uint32{}
	want(window, true)
}
