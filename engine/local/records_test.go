package local

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
)

var comparable = cmp.AllowUnexported(messageRecord{}, copyRef{}, mark{})

func TestMessageRecords(t *testing.T) {
	plain := messageRecord{published: 1_700_000_000_000, arrived: 1_700_000_000_005, copies: []copyRef{{1, 9}},
		publisher: "p", exchange: "x", key: "k", id: "i", body: []byte("body")}
	hashed, moved, empty := plain, plain, messageRecord{body: []byte{}}
	hashed.flags, hashed.hash = flagHash, contentHash{1, 1 << 63}
	moved.flags, moved.fromQueue, moved.fromSeq = flagMoved, 1<<32-1, 1<<63
	moved.deathReason, moved.deathQueue = "rejected", "q"
	moved.arrived = moved.published - 3 // the clock was set back
	moved.copies = []copyRef{{7, 1}, {8, 1 << 40}}
	moved.properties = []byte("props")
	for name, m := range map[string]messageRecord{"plain": plain, "hashed": hashed, "moved": moved, "empty": empty} {
		got, err := decodeMessage(append(m.appendHead(nil), m.body...), nil)
		if diff := cmp.Diff(m, got, comparable); diff != "" || err != nil {
			t.Errorf("%s: %v (-want +got):\n%s", name, err, diff)
		}
		for n := range m.appendHead(nil) {
			if _, err := decodeMessage(m.appendHead(nil)[:n], nil); err == nil {
				t.Errorf("%s: the first %d bytes decode", name, n)
			}
		}
	}
}

func TestSettleRecords(t *testing.T) {
	want := []copyRef{{1, 5}, {1, 6}, {1, 3}, {2, 1 << 40}, {1, 7}}
	var got []copyRef
	err := decodeSettle(appendSettle(nil, want), func(c copyRef) { got = append(got, c) })
	if diff := cmp.Diff(want, got, comparable); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}

func TestReturnRecords(t *testing.T) {
	want := map[copyRef]mark{
		{1, 5}:       {attempts: 1},
		{2, 1 << 40}: {attempts: 7, until: 1_700_000_000_000},
		{3, 0}:       {attempts: 2, reason: "too often"},
	}
	var b []byte
	for c, m := range want {
		m.holder, m.given = 9, 9 // which are not stored
		b = appendReturn(b, c, m)
	}
	got := map[copyRef]mark{}
	err := decodeReturn(b, func(c copyRef, m mark) { got[c] = m })
	if diff := cmp.Diff(want, got, comparable); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}

func TestDeclareRecords(t *testing.T) {
	o := sealmq.QueueOptions{MaxMessages: 1, MaxBytes: 2, TTL: 3 * time.Second, DeliveryLimit: 4, AckTimeout: 5 * time.Second,
		Prefetch: 6, MaxLineBytes: 7000, DropOldest: true, Sealed: "suite"}
	d := decoder{b: appendQueue(nil, 70_000, "a <queue>", o, true)}
	if q := d.queue(); q.id != 70_000 || q.name != "a <queue>" || q.options != o || !q.paused || d.err != nil || d.more() {
		t.Errorf("queue %d %q with %+v, paused %t, %v", q.id, q.name, q.options, q.paused, d.err)
	}
}

func TestDefineRecords(t *testing.T) {
	want := []engine.Definition{{Key: "k", Value: []byte("v")}, {Key: "gone"}, {Key: "empty", Value: []byte{}}}
	got, err := decodeDefinitions(encodeDefinitions(nil, want))
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}
