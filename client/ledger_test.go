package client_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/internal/testing/faultfs"
	"github.com/sealmq/sealmq/seal"
)

// opened makes message n of a sender as an Opener would return it: ten in each epoch, and
// every third of a suite that says nothing of its sender.
func opened(n int) *seal.Message {
	m := &seal.Message{ID: fmt.Sprint("id-", n), Text: fmt.Append(nil, "text ", n), Suite: seal.CipherMQRSA}
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

func openLedger(t testing.TB, fs durable.FS) *client.Ledger {
	t.Helper()
	l, err := client.OpenLedger("out.ledger", client.LedgerConfig{FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func TestLedgerRemembersOverARestart(t *testing.T) {
	fs := faultfs.New()
	l := openLedger(t, fs)
	if l.Output() != (client.Output{}) || l.Judge(opened(1)) != client.LedgerNew {
		t.Error("a new ledger knows something")
	}
	for n := range 5 {
		if err := l.Commit(client.Output{Length: int64(n + 1), Messages: uint64(n + 1)}, opened(n)); err != nil {
			t.Fatal(err)
		}
	}
	l.Close()
	l = openLedger(t, fs.Crash(faultfs.DropUnsynced, 0))
	if d := cmp.Diff(client.Output{Length: 5, Messages: 5}, l.Output()); d != "" {
		t.Error(d)
	}
	for n := range 8 {
		want := client.LedgerSeen
		if n >= 5 {
			want = client.LedgerNew
		}
		if got := l.Judge(opened(n)); got != want {
			t.Errorf("message %d: %v, want %v", n, got, want)
		}
	}
	other := opened(3)
	other.Text = []byte("something else")
	if got := l.Judge(other); got != client.LedgerConflict {
		t.Errorf("another text under a known id: %v", got)
	}
	place := opened(4)
	place.ID = "another-id"
	if got := l.Judge(place); got != client.LedgerConflict {
		t.Errorf("another id at a known place: %v", got)
	}
	stranger := opened(4)
	stranger.Sender.ID = "mallory"
	if got := l.Judge(stranger); got != client.LedgerNew {
		t.Errorf("the same id of another sender: %v", got)
	}
}

// What it cannot remember it does not call new, for senders who can be told apart.
func TestLedgerIsBounded(t *testing.T) {
	for _, restart := range []bool{false, true} {
		fs := faultfs.New()
		cfg := client.LedgerConfig{FS: fs, MaxIDs: 4, Replay: seal.ReplayConfig{MaxEpochs: 2}}
		l, err := client.OpenLedger("l", cfg)
		if err != nil {
			t.Fatal(err)
		}
		for n := range 100 {
			if err := l.Commit(client.Output{}, opened(n)); err != nil {
				t.Fatal(err)
			}
		}
		if restart {
			l.Close()
			if l, err = client.OpenLedger("l", cfg); err != nil {
				t.Fatal(err)
			}
		}
		if l.Len() != 4 {
			t.Errorf("it remembers %d ids", l.Len())
		}
		for n, want := range map[int]client.Judgement{1: client.LedgerForgotten, 95: client.LedgerSeen, 98: client.LedgerSeen, 100: client.LedgerNew} {
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
		l, err := client.OpenLedger("out.ledger", client.LedgerConfig{FS: fs})
		if err != nil {
			return 0
		}
		defer l.Close()
		l.SetGrowth(400) // it is made anew in between
		for n := range commits {
			if err := l.Commit(client.Output{Length: int64(n + 1)}, opened(n)); err != nil {
				if l.Commit(client.Output{Length: 99}, opened(n)) == nil {
					t.Error("it goes on after a failed write")
				}
				return promised
			}
			promised = n + 1
		}
		return promised
	}
	sweep(t, script, func(t *testing.T, fs *faultfs.FS, promised int) {
		l := openLedger(t, fs)
		kept := int(l.Output().Length)
		if kept < promised || kept > promised+1 {
			t.Fatalf("%d commits are there, %d were promised", kept, promised)
		}
		for n := range commits {
			want := client.LedgerSeen
			if n >= kept {
				want = client.LedgerNew
			}
			if got := l.Judge(opened(n)); got != want {
				t.Errorf("message %d of %d: %v", n, kept, got)
			}
		}
		if err := l.Commit(client.Output{Length: 50}, opened(kept)); err != nil {
			t.Fatal(err)
		}
		l.Close()
		l = openLedger(t, fs.Crash(faultfs.DropUnsynced, 0))
		if l.Output().Length != 50 || l.Judge(opened(kept)) != client.LedgerSeen {
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
		if err := l.Commit(client.Output{Length: int64(n)}, opened(n)); err != nil {
			t.Fatal(err)
		}
	}
	l.Close()
	whole := fs.Get("out.ledger")
	for at := int64(0); at < int64(len(whole))-200; at += 7 {
		broken := fs.Snapshot()
		broken.FlipBit("out.ledger", 8*at+at%8)
		before := broken.Get("out.ledger")
		_, err := client.OpenLedger("out.ledger", client.LedgerConfig{FS: broken})
		var damaged *client.DamagedFileError
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
	l, err := client.OpenLedger(name, client.LedgerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.OpenLedger(name, client.LedgerConfig{}); !errors.Is(err, durable.ErrLocked) {
		t.Errorf("a second one: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if l, err = client.OpenLedger(name, client.LedgerConfig{}); err != nil {
		t.Fatal(err)
	}
	l.Close()
}
