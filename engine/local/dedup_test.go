package local

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/dchest/siphash"
)

// TestDigestIsNoContent: whoever knows even the key finds no digest that says the same as
// a content. Without what keeps them apart this one would.
func TestDigestIsNoContent(t *testing.T) {
	const id, key, body = "same", "key", "body"
	k := hashKey{1, 2}
	head := appendString(appendString(appendString(nil, id), key), id) // the exchange has the id's name
	content, _ := k.content(nil, head, []byte(body))
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
	known := map[uint64]*id{}
	var order []uint64 // settled, oldest first
	hash := func() uint64 { return uint64(rng.IntN(6000)+1) * 0x9e3779b97f4a7c15 & 0xffffff00000fffff }
	for step := range 300_000 {
		h := hash()
		k := known[h]
		if got := d.find(h); (got == noSlot) != (k == nil) || k != nil && got != k.slot {
			t.Fatalf("step %d: find says %d, the map %+v", step, got, k)
		}
		switch {
		case k == nil:
			n := rng.IntN(3)
			known[h] = &id{d.add(h, contentHash{h, 1}, n, 5), n}
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
		d.add(i+1, contentHash{i, i}, 0, 5)
	}
	slot := d.revive(3, contentHash{2, 2})
	d.forget(0, 0, 1<<30)
	if d.count != 1 || d.find(3) != slot {
		t.Fatalf("%d ids left, id 3 in slot %d, want %d", d.count, d.find(3), slot)
	}
	d.release(slot, 6)
	d.forget(0, 0, 1<<30)
	if d.count != 0 || d.find(3) != noSlot {
		t.Fatal("the revived id was not forgotten")
	}
}
