package receive_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/internal/testing/faultfs"
	"github.com/sealmq/sealmq/receive"
	"github.com/sealmq/sealmq/seal"
)

// sealedOn is a message of alice's, number n of an epoch, sealed n seconds after it began.
func sealedOn(epoch, n int) *seal.Message {
	began := time.UnixMilli(1_700_000_000_000).Add(time.Duration(epoch) * time.Hour)
	m := &seal.Message{ID: fmt.Sprint("id-", epoch, "-", n), Text: []byte("text"), Suite: seal.HPKEX25519, Sequence: uint64(n),
		SealedAt: began.Add(time.Duration(n) * time.Second), Epoch: &seal.Epoch{Created: began}}
	m.Sender.ID, m.Sender.Issuer = "alice", "sha256:00"
	m.Digest[0] = byte(n)
	m.Epoch.Hash[0], m.Epoch.Hash[1] = byte(epoch), byte(epoch>>8)
	return m
}

// A message that is sealed later than any whose id was dropped was never committed, however
// much is forgotten about its place.
func TestLedgerCallsNewWhatItCannotHaveDropped(t *testing.T) {
	for _, restart := range []bool{false, true} {
		cfg := ledgerOn(faultfs.New(), receive.LedgerConfig{MaxIDs: 20, Replay: receive.ReplayConfig{MaxGaps: 2}})
		l, err := receive.OpenLedger("l", cfg)
		if err != nil {
			t.Fatal(err)
		}
		for n := 2; n <= 60; n += 2 {
			if err := l.Commit(receive.Output{}, sealedOn(0, n)); err != nil {
				t.Fatal(err)
			}
		}
		if restart {
			if err := errors.Join(l.Rewrite(receive.Output{}), l.Close()); err != nil {
				t.Fatal(err)
			}
			if l, err = receive.OpenLedger("l", cfg); err != nil {
				t.Fatal(err)
			}
		}
		// The ids from 2 to 20 are dropped, and the gaps below 57 forgotten.
		for n := 1; n <= 60; n++ {
			want := receive.LedgerNew
			switch {
			case n%2 == 0:
				want = receive.LedgerSeen
			case n < 20:
				want = receive.LedgerForgotten
			}
			if n%2 == 0 && n <= 20 {
				want = receive.LedgerForgotten
			}
			if got := l.Judge(sealedOn(0, n)); got != want {
				t.Errorf("restart %v, message %d: %v, want %v", restart, n, got, want)
			}
		}
		taken := sealedOn(0, 60)
		taken.ID = "another"
		if got := l.Judge(taken); got != receive.LedgerConflict {
			t.Errorf("another id at a known place: %v", got)
		}
		l.Close()
	}
}

// The same name of two authorities is two senders. What was learned from an output, which
// names no authority, is anybody's of that name.
func TestLedgerTellsAuthoritiesApart(t *testing.T) {
	fs := faultfs.New()
	l := openLedger(t, fs)
	m, other := sealedOn(0, 1), sealedOn(0, 1)
	other.Sender.Issuer, other.Text = "sha256:11", []byte("something else")
	if err := l.Commit(receive.Output{}, m); err != nil {
		t.Fatal(err)
	}
	if got := l.Judge(other); got != receive.LedgerNew {
		t.Errorf("the same id of another authority's alice: %v", got)
	}
	learned := sealedOn(1, 1)
	l.Add("alice", learned.ID, learned.Text)
	if err := errors.Join(l.Rewrite(receive.Output{}), l.Close()); err != nil {
		t.Fatal(err)
	}
	if got := openLedger(t, fs).Judge(learned); got != receive.LedgerSeen {
		t.Errorf("what was learned: %v", got)
	}
}

// An output names no authorities; its lines are recognised all the same, also when the epochs of
// their sender are forgotten.
func TestLedgerHasTheLinesOfAnOutput(t *testing.T) {
	for _, epochs := range []int{1, 4} {
		l, err := receive.OpenLedger("l", ledgerOn(faultfs.New(), receive.LedgerConfig{Replay: receive.ReplayConfig{MaxEpochs: 2}}))
		if err != nil {
			t.Fatal(err)
		}
		m := sealedOn(0, 1)
		if err := l.Commit(receive.Output{}, m); err != nil {
			t.Fatal(err)
		}
		for i := 1; i < epochs; i++ {
			bob := sealedOn(i, 1)
			bob.Sender.ID = "bob"
			if err := l.Commit(receive.Output{}, bob); err != nil {
				t.Fatal(err)
			}
		}
		if !l.Has("alice", m.ID, m.Text) || l.Has("alice", m.ID, []byte("another")) || l.Has("", m.ID, m.Text) {
			t.Errorf("%d epochs: a committed message is not recognised", epochs)
		}
		if epochs == 1 && l.Has("alice", "another", m.Text) {
			t.Error("another id is recognised")
		}
		l.Close()
	}
}

// What a sender says in its epochs, and how many it opens, costs the ledger little.
func TestLedgerKeepsLittleOfEpochs(t *testing.T) {
	l := openLedger(t, faultfs.New())
	heap := func() int64 {
		runtime.GC()
		runtime.GC() // what tests before this one left in pools goes with the second
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	const epochs, extension = 5000, 4000
	for i := range epochs {
		m := sealedOn(i, 1)
		m.Epoch.Extensions = []seal.Extension{{Type: 9, Value: make([]byte, extension)}}
		if err := l.Commit(receive.Output{}, m); err != nil {
			t.Fatal(err)
		}
	}
	if more := heap() - before; more > epochs*extension/2 {
		t.Errorf("%d epochs take %d bytes", epochs, more)
	}
	runtime.KeepAlive(l)
}

// The list of epochs is bounded: at its bound the file is replaced.
func TestLedgerBoundsItsListOfEpochs(t *testing.T) {
	l := openLedger(t, faultfs.New())
	var list []*seal.Message
	for i := range receive.MaxLedgerEpochs + 10 {
		m := sealedOn(i, 1)
		m.Epoch.Hash[2] = byte(i >> 16)
		list = append(list, m)
	}
	if err := l.Commit(receive.Output{}, list[:10]...); err != nil || l.Epochs() != 10 {
		t.Fatalf("%d epochs, %v", l.Epochs(), err)
	}
	if err := l.Commit(receive.Output{}, list[10:]...); err != nil || l.Epochs() != 0 {
		t.Errorf("%d epochs are in the list, %v", l.Epochs(), err)
	}
}

// A state that cannot be written is refused before there is one.
func TestLedgerRefusesBoundsThatDoNotFit(t *testing.T) {
	fs := faultfs.New()
	for name, cfg := range map[string]receive.LedgerConfig{
		"ids":    ledgerOn(fs, receive.LedgerConfig{MaxIDs: receive.MaxLedgerIDs + 1}),
		"epochs": ledgerOn(fs, receive.LedgerConfig{Replay: receive.ReplayConfig{MaxEpochs: 1 << 20}}),
	} {
		if _, err := receive.OpenLedger("l", cfg); err == nil || len(fs.Files()) > 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	l, err := receive.OpenLedger("l", ledgerOn(fs, receive.LedgerConfig{MaxIDs: receive.MaxLedgerIDs}))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := l.Commit(receive.Output{}, make([]*seal.Message, receive.MaxLedgerCommit+1)...); err == nil {
		t.Error("a commit without a bound")
	}
	if err := l.Commit(receive.Output{}, opened(1)); err != nil {
		t.Errorf("after a commit that was refused: %v", err)
	}
}

// lockedFS has a disk that can fail, and real locks.
type lockedFS struct {
	*faultfs.FS
	dir string
}

func (f lockedFS) LockFile(name string) (func() error, error) {
	return durable.OS().(durable.FileLocker).LockFile(filepath.Join(f.dir, name))
}

// Whatever has failed, Close releases the lock, and the ledger can be opened again.
func TestFailedLedgerGivesUpItsLock(t *testing.T) {
	failed := errors.New("no disk")
	for kind := range 40 {
		fs := lockedFS{faultfs.New(), t.TempDir()}
		l, err := receive.OpenLedger("l", ledgerOn(fs, receive.LedgerConfig{}))
		if err != nil {
			t.Fatal(err)
		}
		l.SetGrowth(1)
		n := 0
		fs.Hook(func(faultfs.Op) *faultfs.Fault {
			if n++; n > kind {
				return &faultfs.Fault{Err: failed}
			}
			return nil
		})
		var first error
		for i := 0; i < 10 && first == nil; i++ {
			first = l.Commit(receive.Output{}, opened(i))
		}
		_ = l.Close()
		fs.Hook(nil)
		again, err := receive.OpenLedger("l", ledgerOn(fs, receive.LedgerConfig{}))
		if err != nil {
			t.Fatalf("after %d operations and %v: %v", kind, first, err)
		}
		again.Close()
	}
}
