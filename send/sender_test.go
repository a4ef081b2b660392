package send_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/internal/testing/fakebroker"
	"github.com/sealmq/sealmq/internal/testing/fakeclock"
	"github.com/sealmq/sealmq/internal/testing/faultfs"
	"github.com/sealmq/sealmq/keydir"
	"github.com/sealmq/sealmq/seal"
	"github.com/sealmq/sealmq/seal/ciphermq"
	"github.com/sealmq/sealmq/send"
)

// No key is used for longer than an epoch lasts without being looked up again, and what the
// sender saw of the directory goes with its messages.
func TestSenderLooksKeysUpForEveryEpoch(t *testing.T) {
	w := newTown(t)
	n := w.node
	first, second := generate(t, seal.HPKEX25519), generate(t, seal.HPKEX25519)
	w.publish("bob", first)
	now := fakeclock.New(time.Now())
	c := n.Dial(client.Config{TLS: n.CA.ClientTLS("alice"), Now: now.Now})
	d := w.directory(c)
	signer := w.signs("alice")
	s, err := send.New(t.Context(), c, send.Config{To: []string{"bob"}, Directory: d, EpochAge: time.Minute, Now: now.Now,
		Signer: func() (*seal.Signer, error) { return signer, nil }})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	sealedFor := func(want *seal.PublicKey) {
		t.Helper()
		m, err := s.Seal(t.Context(), "post", "bob", []byte("text"))
		if err != nil {
			t.Fatal(err)
		}
		info, err := seal.Inspect(m.Body, ciphermq.Suites{})
		if err != nil {
			t.Fatal(err)
		}
		if len(info.Keys) != 1 || info.Keys[0] != want.Fingerprint()[:len(info.Keys[0])] {
			t.Errorf("it is sealed for %v, want %s", info.Keys, want.Fingerprint())
		}
	}
	sealedFor(first)
	w.publish("bob", second)
	now.Advance(59 * time.Second)
	sealedFor(first)
	now.Advance(time.Second)
	sealedFor(second)
	if len(d.Checkpoint()) == 0 {
		t.Error("there is no checkpoint to show")
	}
}

// A renewed certificate signs from Rotate on, and until then the epoch goes on with the old one.
func TestRotateAfterARenewal(t *testing.T) {
	w := newTown(t)
	w.publish("bob", generate(t, seal.HPKEX25519))
	c := w.node.Dial(client.Config{TLS: w.node.CA.ClientTLS("alice")})
	signer := w.signs("alice")
	s, err := send.New(t.Context(), c, send.Config{To: []string{"bob"}, Directory: w.directory(c), Signer: func() (*seal.Signer, error) { return signer, nil }})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	epoch := func() string {
		t.Helper()
		m, err := s.Seal(t.Context(), "post", "bob", []byte("text"))
		if err != nil {
			t.Fatal(err)
		}
		var e struct{ Epoch string }
		if err := json.Unmarshal(m.Body, &e); err != nil || e.Epoch == "" {
			t.Fatalf("%v %.200s", err, m.Body)
		}
		return e.Epoch
	}
	first := epoch()
	signer = w.signs("alice")
	if epoch() != first {
		t.Error("the epoch did not go on")
	}
	s.Rotate()
	if epoch() == first {
		t.Error("the old certificate signs on")
	}
}

// skewed is the machine's clock with another time of day.
type skewed struct{ by atomic.Int64 }

func (s *skewed) Now() time.Time { return time.Now().Add(time.Duration(s.by.Load())) }

// While the broker is away a sender goes on with the keys that it knows, for a while; what
// the directory answers when it can be asked counts.
func TestSenderSealsWhileTheBrokerIsAway(t *testing.T) {
	w := newTown(t)
	n := w.node
	w.publish("bob", generate(t, seal.HPKEX25519))
	if err := n.Dial(client.Config{}).Bind(t.Context(), "inbox", "post", "bob"); err != nil {
		t.Fatal(err)
	}
	var now skewed
	c := n.Dial(client.Config{TLS: n.CA.ClientTLS("alice"), Now: now.Now, BackoffMin: time.Millisecond, BackoffMax: 10 * time.Millisecond})
	d := w.directory(c)
	signer := w.signs("alice")
	spool := openSpool(t, spoolOn(faultfs.New(), send.SpoolConfig{}))
	s, err := send.New(t.Context(), c, send.Config{To: []string{"bob"}, Directory: d, Now: now.Now, EpochAge: 15 * time.Minute, KeysFor: time.Hour,
		Signer: func() (*seal.Signer, error) { return signer, nil }, Spool: spool})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, away := range []bool{false, true} {
		if away {
			n.Stop()
		}
		now.by.Add(int64(20 * time.Minute))
		if err := s.SendAsync(t.Context(), "post", "bob", []byte("text"), nil); err != nil {
			t.Fatal(err)
		}
	}
	n.Start()
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}

	n.Stop()
	now.by.Add(int64(time.Hour))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := s.SendAsync(ctx, "post", "bob", []byte("text"), nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("with keys that are too old: %v", err)
	}
	n.Start()
	if err := s.SendAsync(t.Context(), "post", "bob", []byte("text"), nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}

	n.Stop()
	n.FS = faultfs.New() // it has forgotten the key, and says so
	n.Start()
	now.by.Add(int64(20 * time.Minute))
	for { // until it is connected
		if _, err := c.Command(t.Context(), "ping"); err == nil {
			break
		} else if !errors.Is(err, client.ErrInterrupted) {
			t.Fatal(err)
		}
	}
	if err := s.SendAsync(t.Context(), "post", "bob", []byte("text"), nil); !errors.Is(err, keydir.ErrRollback) {
		t.Errorf("the directory has no key any more: %v", err)
	}
}

// What the spool holds is sealed: it needs no key, and a directory that has none does not
// hold it up.
func TestSpoolIsSentWhenKeysAreNotFound(t *testing.T) {
	w := newTown(t)
	n := w.node
	if err := n.Dial(client.Config{}).Bind(t.Context(), "inbox", "x", "k"); err != nil {
		t.Fatal(err)
	}
	c := n.Dial(client.Config{TLS: n.CA.ClientTLS("alice")})
	d := w.directory(c)
	spool := filled(t, 100, send.SpoolConfig{})
	if _, err := send.New(t.Context(), c, send.Config{To: []string{"bob"}, Directory: d, Spool: spool}); !errors.Is(err, sealmq.ErrNoKey) {
		t.Errorf("%v", err)
	}
	if spool.Len() != 0 {
		t.Errorf("%d messages were not sent", spool.Len())
	}
}

// late is a context that ends once an answer has arrived, before the caller that waits for both gets
// to look.
type late struct {
	context.Context
	before func()
}

func (l late) Done() <-chan struct{} {
	l.before()
	return l.Context.Done()
}

// TestAnswerThatArrivesBeforeTheEnd: an answer counts, even if the caller's context has ended by the
// time it gets to look.
func TestAnswerThatArrivesBeforeTheEnd(t *testing.T) {
	key := generate(t, ciphermq.G5)
	for range 50 { // enough for a select that finds both to take the wrong one
		synctest.Test(t, func(t *testing.T) {
			c, p := fakebroker.New(t).Open(client.Config{})
			s, err := send.New(t.Context(), c, send.Config{To: []string{"bob"}, Keys: map[string]*seal.PublicKey{"bob": key}})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			go io.Copy(io.Discard, p.Conn)
			ctx, cancel := context.WithCancel(t.Context())
			_, err = s.Send(late{ctx, sync.OnceFunc(func() {
				synctest.Wait() // the message is published
				p.Send("Error no_exchange: Exchange 'x' not found\n")
				synctest.Wait()
				cancel()
			})}, "x", "k", []byte("text"))
			var refused *send.RefusedError
			if !errors.As(err, &refused) {
				t.Errorf("%v", err)
			}
		})
		if t.Failed() {
			break
		}
	}
}
