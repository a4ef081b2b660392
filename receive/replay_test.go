package receive_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/receive"
	"github.com/sealmq/sealmq/seal"
)

var replayStart = time.Date(2026, 5, 4, 10, 0, 0, 0, time.UTC)

// seenMessage is a message as an Opener would return it.
func seenMessage(sender string, epoch int, seq uint64, digest uint64) *seal.Message {
	m := &seal.Message{Suite: seal.HPKEHybrid, ID: "id", Sender: seal.Sender{Identity: sealmq.Identity{ID: sender, Issuer: "sha256:00"}},
		Epoch: seenEpoch(sender, epoch), Sequence: seq}
	binary.BigEndian.PutUint64(m.Digest[:], digest)
	return m
}

func seenEpoch(sender string, n int) *seal.Epoch {
	e := &seal.Epoch{Created: replayStart.Add(time.Duration(n) * time.Minute), MaxMessages: 1000}
	copy(e.Hash[:], fmt.Sprintf("%s/%d", sender, n))
	if n > 0 {
		copy(e.Previous[:], fmt.Sprintf("%s/%d", sender, n-1))
		e.PreviousMessages = 10
	}
	return e
}

func mark(t *testing.T, r *receive.Replay, m *seal.Message, want receive.Judgement) {
	t.Helper()
	if check := r.Check(m); check != want {
		t.Errorf("Check of epoch %s number %d says %v, want %v", m.Epoch.Hash[:8], m.Sequence, check, want)
	}
	if v := r.Mark(m); v != want {
		t.Errorf("Mark of epoch %s number %d says %v, want %v", m.Epoch.Hash[:8], m.Sequence, v, want)
	}
}

func TestReplay(t *testing.T) {
	r := receive.NewReplay(receive.ReplayConfig{})
	mark(t, r, seenMessage("alice", 0, 1, 11), receive.LedgerNew)
	mark(t, r, seenMessage("alice", 0, 1, 11), receive.LedgerSeen)
	mark(t, r, seenMessage("alice", 0, 1, 99), receive.LedgerConflict)
	mark(t, r, seenMessage("alice", 0, 5, 15), receive.LedgerNew)
	mark(t, r, seenMessage("alice", 0, 3, 13), receive.LedgerNew)
	mark(t, r, seenMessage("alice", 0, 3, 13), receive.LedgerSeen)
	mark(t, r, seenMessage("bob", 0, 1, 11), receive.LedgerNew)
	other := seenMessage("alice", 0, 1, 11)
	other.Sender.Issuer = "sha256:11"
	mark(t, r, other, receive.LedgerNew) // the same name of another authority
	want := []receive.Gap{
		{Sender: "alice", Issuer: "sha256:00", Epoch: seenEpoch("alice", 0).Hash, From: 2, To: 2},
		{Sender: "alice", Issuer: "sha256:00", Epoch: seenEpoch("alice", 0).Hash, From: 4, To: 4},
	}
	if d := cmp.Diff(want, r.Gaps()); d != "" {
		t.Error(d)
	}
	// The next epoch says that the one before had ten messages.
	mark(t, r, seenMessage("alice", 1, 1, 21), receive.LedgerNew)
	want = append(want, receive.Gap{Sender: "alice", Issuer: "sha256:00", Epoch: seenEpoch("alice", 0).Hash, From: 6, To: 10})
	if d := cmp.Diff(want, r.Gaps()); d != "" {
		t.Error(d)
	}
	for _, seq := range []uint64{10, 9, 8, 7, 6, 4, 2} {
		if v := r.Mark(seenMessage("alice", 0, seq, 10+seq)); v != receive.LedgerNew {
			t.Errorf("late number %d is %v", seq, v)
		}
	}
	if gaps := r.Gaps(); len(gaps) != 0 {
		t.Errorf("gaps %v", gaps)
	}
	// Of the epoch between two others nothing came; before the first one nobody knows.
	mark(t, r, seenMessage("alice", 3, 1, 31), receive.LedgerNew)
	want = []receive.Gap{
		{Sender: "alice", Issuer: "sha256:00", Epoch: seenEpoch("alice", 2).Hash, From: 1, To: 10},
	}
	if d := cmp.Diff(want, r.Gaps()); d != "" {
		t.Error(d)
	}
	mark(t, r, seenMessage("alice", 2, 1, 31), receive.LedgerNew)
	want = []receive.Gap{
		{Sender: "alice", Issuer: "sha256:00", Epoch: seenEpoch("alice", 1).Hash, From: 2, To: 10},
		{Sender: "alice", Issuer: "sha256:00", Epoch: seenEpoch("alice", 2).Hash, From: 2, To: 10},
	}
	if d := cmp.Diff(want, r.Gaps()); d != "" {
		t.Error(d)
	}
}

func TestReplayForgetsAndSaysSo(t *testing.T) {
	r := receive.NewReplay(receive.ReplayConfig{MaxEpochs: 4, MaxPerSender: 3, MaxGaps: 2})
	for n := range 5 {
		mark(t, r, seenMessage("alice", n, 1, 1), receive.LedgerNew)
	}
	for n, want := range []receive.Judgement{receive.LedgerForgotten, receive.LedgerForgotten, receive.LedgerSeen, receive.LedgerSeen, receive.LedgerSeen} {
		mark(t, r, seenMessage("alice", n, 1, 1), want)
	}
	// Others' old epochs are not forgotten with alice's.
	mark(t, r, seenMessage("bob", 0, 1, 1), receive.LedgerNew)
	// Too many in all: the oldest of the sender with the most goes.
	mark(t, r, seenMessage("carol", 0, 1, 1), receive.LedgerNew)
	mark(t, r, seenMessage("alice", 2, 1, 1), receive.LedgerForgotten)
	mark(t, r, seenMessage("alice", 3, 1, 1), receive.LedgerSeen)
	mark(t, r, seenMessage("bob", 0, 1, 1), receive.LedgerSeen)
	mark(t, r, seenMessage("dave", 9, 1, 1), receive.LedgerNew)
	// Everybody has one: with the oldest one its sender is forgotten, and from then on
	// nobody's unknown epoch of that age is fresh.
	mark(t, r, seenMessage("erin", 9, 1, 1), receive.LedgerNew)
	mark(t, r, seenMessage("frank", 0, 1, 1), receive.LedgerForgotten)
	mark(t, r, seenMessage("frank", 1, 1, 1), receive.LedgerNew)

	// In one epoch the oldest gap is forgotten.
	r = receive.NewReplay(receive.ReplayConfig{MaxGaps: 2})
	for _, seq := range []uint64{2, 4, 6} {
		mark(t, r, seenMessage("alice", 0, seq, 1), receive.LedgerNew)
	}
	mark(t, r, seenMessage("alice", 0, 1, 1), receive.LedgerForgotten)
	mark(t, r, seenMessage("alice", 0, 2, 1), receive.LedgerSeen)
	mark(t, r, seenMessage("alice", 0, 3, 1), receive.LedgerNew)
	if gaps := r.Gaps(); len(gaps) != 1 || gaps[0].From != 5 {
		t.Errorf("gaps %v", gaps)
	}
}

func TestReplayKnowsNothingOfUnprovenMessages(t *testing.T) {
	r := receive.NewReplay(receive.ReplayConfig{})
	for name, m := range map[string]*seal.Message{"no sender": {Epoch: seenEpoch("x", 0), Sequence: 1}, "no epoch": {Sender: seal.Sender{Identity: sealmq.Identity{ID: "x"}}}} {
		if v := r.Mark(m); v != receive.LedgerForgotten || r.Check(m) != receive.LedgerForgotten {
			t.Errorf("%s: %v", name, v)
		}
	}
}

// replayModel remembers everything.
type replayModel map[string]uint64

func (r replayModel) mark(sender string, epoch int, seq, digest uint64) receive.Judgement {
	key := fmt.Sprintf("%s/%d/%d", sender, epoch, seq)
	old, ok := r[key]
	if !ok {
		r[key] = digest
		return receive.LedgerNew
	}
	if old == digest {
		return receive.LedgerSeen
	}
	return receive.LedgerConflict
}

func TestReplayAgainstItsModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		bounded := rapid.Bool().Draw(t, "bounded")
		cfg := receive.ReplayConfig{}
		if bounded {
			cfg = receive.ReplayConfig{MaxEpochs: 5, MaxPerSender: 3, MaxGaps: 3, MaxAllGaps: 6}
		}
		r, model := receive.NewReplay(cfg), make(replayModel)
		for range rapid.IntRange(1, 150).Draw(t, "messages") {
			sender := rapid.SampledFrom([]string{"alice", "bob", "carol"}).Draw(t, "sender")
			epoch := rapid.IntRange(0, 6).Draw(t, "epoch")
			seq := rapid.Uint64Range(1, 30).Draw(t, "number")
			digest := rapid.Uint64Range(1, 2).Draw(t, "digest")
			m := seenMessage(sender, epoch, seq, digest)
			check := r.Check(m)
			got := r.Mark(m)
			if got != check {
				t.Fatalf("Check said %v, Mark %v", check, got)
			}
			if got == receive.LedgerForgotten && bounded {
				continue // the model must not believe that it was shown
			}
			if want := model.mark(sender, epoch, seq, digest); got != want {
				t.Fatalf("%s/%d/%d: %v, want %v", sender, epoch, seq, got, want)
			}
			if rapid.IntRange(0, 20).Draw(t, "restart") == 0 {
				state, err := r.MarshalBinary()
				if err != nil {
					t.Fatal(err)
				}
				r = receive.NewReplay(cfg)
				if err := r.UnmarshalBinary(state); err != nil {
					t.Fatal(err)
				}
				if again, _ := r.MarshalBinary(); !bytes.Equal(state, again) {
					t.Fatalf("state\n%x\nbecame\n%x", state, again)
				}
			}
		}
	})
}

func TestReplayStateIntoSmallerBounds(t *testing.T) {
	r := receive.NewReplay(receive.ReplayConfig{})
	for n := range 20 {
		r.Mark(seenMessage("alice", n, 1, 1))
		r.Mark(seenMessage("bob", n, 1, 1))
	}
	state, err := r.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	small := receive.NewReplay(receive.ReplayConfig{MaxEpochs: 6, MaxPerSender: 4})
	if err := small.UnmarshalBinary(state); err != nil {
		t.Fatal(err)
	}
	repeated := 0
	for n := range 20 {
		for _, sender := range []string{"alice", "bob"} {
			switch v := small.Check(seenMessage(sender, n, 1, 1)); v {
			case receive.LedgerSeen:
				repeated++
			case receive.LedgerNew:
				t.Errorf("%s/%d is fresh", sender, n)
			}
		}
	}
	if repeated != 6 {
		t.Errorf("%d epochs are remembered, want 6", repeated)
	}
}

func TestReplayStateRefused(t *testing.T) {
	r := receive.NewReplay(receive.ReplayConfig{})
	for _, seq := range []uint64{1, 4, 5, 9} {
		r.Mark(seenMessage("alice", 0, seq, seq))
		r.Mark(seenMessage("bob", 1, seq, seq))
	}
	state, err := r.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	other := receive.NewReplay(receive.ReplayConfig{})
	other.Mark(seenMessage("carol", 0, 1, 1))
	before, _ := other.MarshalBinary()
	for i := range state {
		if other.UnmarshalBinary(state[:i]) == nil {
			t.Fatalf("cut at %d it is taken", i)
		}
	}
	for name, data := range map[string][]byte{
		"later version":    append([]byte{2}, state[1:]...),
		"something behind": append(bytes.Clone(state), 0),
		"many senders":     {1, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff},
	} {
		if other.UnmarshalBinary(data) == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if after, _ := other.MarshalBinary(); !bytes.Equal(before, after) {
		t.Error("a refused state changed something")
	}
}

// A receiver that gets every other message, because others share its key or because some
// were given back, forgets none of the missing ones while an epoch of the usual size lasts.
func TestReplayKeepsTheGapsOfAWholeEpoch(t *testing.T) {
	r := receive.NewReplay(receive.ReplayConfig{})
	for seq := uint64(2); seq <= seal.DefaultEpochMessages; seq += 2 {
		r.Mark(seenMessage("alice", 0, seq, seq))
	}
	for seq := uint64(1); seq < seal.DefaultEpochMessages; seq += 2 {
		if v := r.Check(seenMessage("alice", 0, seq, seq)); v != receive.LedgerNew {
			t.Fatalf("number %d is %v", seq, v)
		}
	}
}

// The gaps of all epochs are bounded together; the sender with the most loses the oldest.
func TestReplayBoundsAllGaps(t *testing.T) {
	cfg := receive.ReplayConfig{MaxAllGaps: 10}
	for _, stored := range []bool{false, true} {
		r := receive.NewReplay(receive.ReplayConfig{})
		if !stored {
			r = receive.NewReplay(cfg)
		}
		for _, seq := range []uint64{2, 4} {
			r.Mark(seenMessage("bob", 0, seq, 1))
		}
		for epoch := range 3 {
			for _, seq := range []uint64{2, 4, 6, 8} {
				r.Mark(seenMessage("mallory", epoch, seq, 1))
			}
		}
		if stored {
			state, err := r.MarshalBinary()
			if err != nil {
				t.Fatal(err)
			}
			r = receive.NewReplay(cfg)
			if err := r.UnmarshalBinary(state); err != nil {
				t.Fatal(err)
			}
		}
		for _, want := range []struct {
			sender string
			epoch  int
			v      receive.Judgement
		}{{"bob", 0, receive.LedgerNew}, {"mallory", 0, receive.LedgerForgotten}, {"mallory", 1, receive.LedgerNew}, {"mallory", 2, receive.LedgerNew}} {
			if v := r.Check(seenMessage(want.sender, want.epoch, 1, 1)); v != want.v {
				t.Errorf("stored %v: the first of %s's epoch %d is %v, want %v", stored, want.sender, want.epoch, v, want.v)
			}
		}
	}
}

// FuzzReplayState reads arbitrary bytes as what a ledger remembers. What is read must be
// written as the same bytes.
func FuzzReplayState(f *testing.F) {
	r := receive.NewReplay(receive.ReplayConfig{})
	empty, err := r.MarshalBinary()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(empty)
	for _, seq := range []uint64{1, 2, 7, 5, 600} {
		r.Mark(seenMessage("alice", 0, seq, seq))
		r.Mark(seenMessage("bob", int(seq%3), seq, seq))
	}
	full, err := r.MarshalBinary()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(full)
	f.Fuzz(func(t *testing.T, data []byte) {
		r := receive.NewReplay(receive.ReplayConfig{MaxEpochs: 1 << 30, MaxPerSender: 1 << 30, MaxGaps: math.MaxInt, MaxAllGaps: math.MaxInt})
		if r.UnmarshalBinary(data) != nil {
			return
		}
		again, err := r.MarshalBinary()
		if err != nil || !bytes.Equal(again, data) {
			t.Fatalf("%x\nbecame\n%x, %v", data, again, err)
		}
		r.Gaps()
		r.Mark(seenMessage("alice", 0, 3, 3))
	})
}

func BenchmarkReplay(b *testing.B) {
	r := receive.NewReplay(receive.ReplayConfig{})
	m := seenMessage("alice", 0, 0, 0)
	b.ReportAllocs()
	for b.Loop() {
		m.Sequence++
		if v := r.Mark(m); v != receive.LedgerNew {
			b.Fatal(v)
		}
	}
}
