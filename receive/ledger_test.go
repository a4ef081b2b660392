package receive_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/internal/framelog"
	"github.com/sealmq/sealmq/internal/testing/faultfs"
	"github.com/sealmq/sealmq/receive"
	"github.com/sealmq/sealmq/seal"
	"github.com/sealmq/sealmq/seal/ciphermq"
	"github.com/sealmq/sealmq/send"
)

// opened makes message n of a sender as an Opener would return it: ten in each epoch, and
// every third of a suite that says nothing of its sender.
func opened(n int) *seal.Message {
	m := &seal.Message{ID: fmt.Sprint("id-", n), Text: fmt.Append(nil, "text ", n), Suite: ciphermq.RSA}
	if n%3 == 0 {
		return m
	}
	m.Suite = seal.HPKEX25519
	m.Sender.ID, m.Sender.Issuer = "alice", "sha256:00"
	m.Sequence = uint64(n%10 + 1)
	m.Digest[0], m.Digest[1] = byte(n>>8), byte(n)
	m.Epoch = &seal.Epoch{Created: time.UnixMilli(int64(1000 + n/10))}
	m.Epoch.Hash[0] = byte(n/10 + 1)
	if n >= 10 {
		m.Epoch.Previous[0], m.Epoch.PreviousMessages = byte(n/10), 10
	}
	return m
}

func openLedger(t testing.TB, fs durable.FS) *receive.Ledger {
	t.Helper()
	l, err := receive.OpenLedger("out.ledger", ledgerOn(fs, receive.LedgerConfig{}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func TestLedgerRemembersOverARestart(t *testing.T) {
	fs := faultfs.New()
	l := openLedger(t, fs)
	if l.Output() != (receive.Output{}) || l.Judge(opened(1)) != receive.LedgerNew {
		t.Error("a new ledger knows something")
	}
	for n := range 5 {
		if err := l.Commit(receive.Output{Length: int64(n + 1), Messages: uint64(n + 1)}, opened(n)); err != nil {
			t.Fatal(err)
		}
	}
	l.Close()
	l = openLedger(t, fs.Crash(faultfs.DropUnsynced, 0))
	if d := cmp.Diff(receive.Output{Length: 5, Messages: 5}, l.Output()); d != "" {
		t.Error(d)
	}
	for n := range 8 {
		want := receive.LedgerSeen
		if n >= 5 {
			want = receive.LedgerNew
		}
		if got := l.Judge(opened(n)); got != want {
			t.Errorf("message %d: %v, want %v", n, got, want)
		}
	}
	other := opened(3)
	other.Text = []byte("something else")
	if got := l.Judge(other); got != receive.LedgerConflict {
		t.Errorf("another text under a known id: %v", got)
	}
	place := opened(4)
	place.ID = "another-id"
	if got := l.Judge(place); got != receive.LedgerConflict {
		t.Errorf("another id at a known place: %v", got)
	}
	stranger := opened(4)
	stranger.Sender.ID = "mallory"
	if got := l.Judge(stranger); got != receive.LedgerNew {
		t.Errorf("the same id of another sender: %v", got)
	}
}

// A message that it cannot remember does not count as new, if its sender is proven.
func TestLedgerIsBounded(t *testing.T) {
	for _, restart := range []bool{false, true} {
		fs := faultfs.New()
		cfg := ledgerOn(fs, receive.LedgerConfig{MaxIDs: 4, Replay: receive.ReplayConfig{MaxEpochs: 2}})
		l, err := receive.OpenLedger("l", cfg)
		if err != nil {
			t.Fatal(err)
		}
		for n := range 100 {
			if err := l.Commit(receive.Output{}, opened(n)); err != nil {
				t.Fatal(err)
			}
		}
		if restart {
			l.Close()
			if l, err = receive.OpenLedger("l", cfg); err != nil {
				t.Fatal(err)
			}
		}
		if l.Len() != 4 {
			t.Errorf("it remembers %d ids", l.Len())
		}
		for n, want := range map[int]receive.Judgement{1: receive.LedgerForgotten, 95: receive.LedgerSeen, 98: receive.LedgerSeen, 100: receive.LedgerNew} {
			if got := l.Judge(opened(n)); got != want {
				t.Errorf("restart %v, message %d: %v, want %v", restart, n, got, want)
			}
		}
		l.Close()
	}
}

func TestLedgerSurvivesEveryFault(t *testing.T) {
	const commits = 14
	script := func(fs *faultfs.FS) (promised int) {
		l, err := receive.OpenLedger("out.ledger", ledgerOn(fs, receive.LedgerConfig{}))
		if err != nil {
			return 0
		}
		defer l.Close()
		l.SetGrowth(400) // it is replaced in between
		for n := range commits {
			if err := l.Commit(receive.Output{Length: int64(n + 1)}, opened(n)); err != nil {
				if l.Commit(receive.Output{Length: 99}, opened(n)) == nil {
					t.Error("it goes on after a failed write")
				}
				return promised
			}
			promised = n + 1
		}
		return promised
	}
	faultfs.Sweep(t, script, func(t *testing.T, fs *faultfs.FS, promised int) {
		l := openLedger(t, fs)
		kept := int(l.Output().Length)
		if kept < promised || kept > promised+1 {
			t.Fatalf("%d commits are there, %d were promised", kept, promised)
		}
		for n := range commits {
			want := receive.LedgerSeen
			if n >= kept {
				want = receive.LedgerNew
			}
			if got := l.Judge(opened(n)); got != want {
				t.Errorf("message %d of %d: %v", n, kept, got)
			}
		}
		if err := l.Commit(receive.Output{Length: 50}, opened(kept)); err != nil {
			t.Fatal(err)
		}
		l.Close()
		l = openLedger(t, fs.Crash(faultfs.DropUnsynced, 0))
		if l.Output().Length != 50 || l.Judge(opened(kept)) != receive.LedgerSeen {
			t.Error("what was committed after the crash is gone")
		}
		if left := fs.Unsynced(); len(left) > 0 {
			t.Errorf("a crash could still take %v", left)
		}
	})
}

func TestDamagedLedgerIsRefusedAndKept(t *testing.T) {
	fs := faultfs.New()
	l := openLedger(t, fs)
	for n := range 10 {
		if err := l.Commit(receive.Output{Length: int64(n)}, opened(n)); err != nil {
			t.Fatal(err)
		}
	}
	l.Close()
	whole := fs.Get("out.ledger")
	for at := int64(0); at < int64(len(whole))-200; at += 7 {
		broken := fs.Snapshot()
		broken.FlipBit("out.ledger", 8*at+at%8)
		before := broken.Get("out.ledger")
		_, err := receive.OpenLedger("out.ledger", ledgerOn(broken, receive.LedgerConfig{}))
		var damaged *send.DamagedFileError
		if !errors.As(err, &damaged) {
			t.Errorf("byte %d: %v", at, err)
		}
		if string(broken.Get("out.ledger")) != string(before) {
			t.Errorf("byte %d: the file was changed", at)
		}
	}
}

func TestLedgerIsLocked(t *testing.T) {
	name := filepath.Join(t.TempDir(), "l")
	l, err := receive.OpenLedger(name, receive.LedgerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := receive.OpenLedger(name, receive.LedgerConfig{}); !errors.Is(err, durable.ErrLocked) {
		t.Errorf("a second one: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if l, err = receive.OpenLedger(name, receive.LedgerConfig{}); err != nil {
		t.Fatal(err)
	}
	l.Close()
}

// A killed process may have left in memory what its disk has not. A receiver that starts again
// acts on it, so it must be on the disk by then.
func TestWhatALedgerHasReadIsDurable(t *testing.T) {
	fs := faultfs.New()
	ledger := openLedger(t, fs)
	disk := faultfs.KilledInSync(t, fs, func() error { return ledger.Commit(receive.Output{}, opened(1)) })
	for range 2 {
		if j := openLedger(t, disk).Judge(opened(1)); j != receive.LedgerSeen {
			t.Errorf("the ledger says %v", j)
		}
		disk = disk.Crash(faultfs.DropUnsynced, 0)
	}
}

func FuzzLedgerPayload(f *testing.F) {
	fs := faultfs.New()
	l := openLedger(f, fs)
	if err := l.Commit(receive.Output{Length: 1}, opened(1), opened(2), opened(3)); err != nil {
		f.Fatal(err)
	}
	if err := l.Rewrite(receive.Output{Length: 2}); err != nil {
		f.Fatal(err)
	}
	if err := l.Commit(receive.Output{Length: 3}, opened(4), opened(15)); err != nil {
		f.Fatal(err)
	}
	f.Add([]byte{1, 2})
	addPayloads(f, fs.Get("out.ledger"))
	f.Fuzz(func(t *testing.T, payload []byte) { _ = receive.DecodeLedger(payload) })
}

func addPayloads(f *testing.F, data []byte) {
	n := 0
	if _, err := framelog.Scan("f", data, func(_ int64, p []byte) error { n++; f.Add(p); return nil }); err != nil || n < 2 {
		f.Fatal(n, err)
	}
}
