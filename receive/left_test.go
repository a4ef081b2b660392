package receive_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/testing/testca"
	"github.com/sealmq/sealmq/receive"
	"github.com/sealmq/sealmq/seal"
	"github.com/sealmq/sealmq/send"
)

// used is a ledger that has something in it.
func used(t *testing.T) *receive.Ledger {
	t.Helper()
	l := receive.NewLedger(receive.LedgerConfig{})
	if err := l.Commit(receive.Output{}, opened(1)); err != nil {
		t.Fatal(err)
	}
	return l
}

func strangersKeys(t *testing.T) *seal.Keyring {
	t.Helper()
	key, err := seal.Generate(seal.DefaultSuite, 0)
	if err != nil {
		t.Fatal(err)
	}
	ring, err := seal.NewKeyring(key)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

// forStranger sends what bob's key does not open.
func (e *ends) forStranger(t *testing.T, n int) {
	t.Helper()
	s := e.sender(t, e.dial(t, "alice"), func(cfg *send.Config) {
		cfg.Keys = map[string]*seal.PublicKey{"bob": generate(t, seal.DefaultSuite)}
	})
	for i := range n {
		e.sends(t, s, fmt.Sprint("poison ", i))
	}
}

// Whatever is wrong with what a receiver was started with, it moves nothing, however often
// it is started, and whatever it has received before.
func TestAWrongStartEmptiesNoQueue(t *testing.T) {
	for name, change := range map[string]func(*receive.Config){
		"key": func(cfg *receive.Config) { cfg.Keys = strangersKeys(t) },
		"authority": func(cfg *receive.Config) {
			cfg.Verifier = testca.New(t).Verifier()
		},
		"name":  func(cfg *receive.Config) { cfg.Names = []string{"bert"} },
		"suite": func(cfg *receive.Config) { cfg.Suites = []seal.Suite{seal.HPKEX25519} },
	} {
		for _, ledger := range []*receive.Ledger{nil, used(t)} {
			t.Run(fmt.Sprint(name, " used ", ledger != nil), func(t *testing.T) {
				inBubble(t, func(t *testing.T, e *ends) {
					e.inbox(t, sealmq.QueueOptions{DeliveryLimit: 2, Prefetch: 3})
					e.garbage(t, 1)
					const n = 11
					s := e.sender(t, e.dial(t, "alice"), nil)
					for i := range n {
						e.sends(t, s, fmt.Sprint("text ", i))
					}
					for range 4 { // more often than the queue's delivery limit
						c := e.dial(t, "bob")
						r := e.receiver(t, c, ledger, change)
						list, err := within(t, r, 20*time.Second)
						var unopened *receive.UnopenedError
						if !errors.Is(err, context.DeadlineExceeded) || !errors.As(r.Unopened(), &unopened) || unopened.Messages != n {
							t.Fatalf("%q, %v, %v", texts(list), err, r.Unopened())
						}
						c.Close() // as the hurried do, without giving anything back
					}
					if in, dead := e.left(t, "inbox"), e.left(t, "inbox.dead"); in != n || dead != 1 {
						t.Errorf("%d are left and %d dead, want %d and the garbage", in, dead, n)
					}
					if all := gather(t, e.receiver(t, e.dial(t, "bob"), ledger, nil), n); len(all) != n {
						t.Errorf("%q", texts(all))
					}
				})
			})
		}
	}
}

// Messages that do not open stop no receiver with good keys, also one that takes one at a
// time. They stay where they are.
func TestPoisonInFrontStopsNobody(t *testing.T) {
	for prefetch, poison := range map[int]int{1: 1, 2: 100} {
		t.Run(fmt.Sprint(prefetch), func(t *testing.T) {
			inBubble(t, func(t *testing.T, e *ends) {
				e.inbox(t, sealmq.QueueOptions{DeliveryLimit: 2})
				e.forStranger(t, poison)
				e.sends(t, e.sender(t, e.dial(t, "alice"), nil), "one", "two", "three")
				c := e.dial(t, "bob")
				r := e.receiver(t, c, nil, func(cfg *receive.Config) { cfg.Prefetch = prefetch })
				gather(t, r, 3)
				if err := c.Flush(t.Context()); err != nil {
					t.Fatal(err)
				}
				if list, err := within(t, r, time.Hour); err == nil {
					t.Fatalf("%q", texts(list))
				}
				in, dead, st := e.left(t, "inbox"), e.left(t, "inbox.dead"), r.Stats()
				if in != poison || dead != 0 || st.Refused != 0 || st.Stayed != uint64(poison) || r.Unopened() != nil {
					t.Errorf("%d are left, %d dead, %+v, %v", in, dead, st, r.Unopened())
				}
				// Later each time, up to five minutes: eight times in the first five minutes, and
				// then twelve an hour.
				q, err := c.Queue(t.Context(), "inbox")
				if n := q.Delivered / uint64(poison); err != nil || n < 15 || n > 25 {
					t.Errorf("in an hour each was delivered %d times, %v", n, err)
				}
			})
		})
	}
}

// A key that is taken away in mid-run moves nothing either: the file in its place may be the
// wrong one. What waits for a key is opened when the key comes.
func TestALostKeyEmptiesNoQueue(t *testing.T) {
	inBubble(t, func(t *testing.T, e *ends) {
		e.bind(t)
		s := e.sender(t, e.dial(t, "alice"), nil)
		wrong := strangersKeys(t)
		keys := wrong
		r := e.receiver(t, e.dial(t, "bob"), nil, func(cfg *receive.Config) {
			cfg.Reload = func(context.Context) (*seal.Keyring, error) { return keys, nil }
		})
		e.sends(t, s, "one")
		gather(t, r, 1)
		r.SetKeys(wrong)
		e.sends(t, s, "two")
		if list, err := within(t, r, time.Hour); err == nil || r.Stats().Stayed != 1 || r.Stats().Refused != 0 {
			t.Fatalf("%q, %v, %+v", texts(list), err, r.Stats())
		}
		keys = e.keys
		if list, err := within(t, r, 6*time.Minute); err != nil || texts(list) != "two" || r.Stats().Refused != 0 {
			t.Errorf("%q, %v, %+v", texts(list), err, r.Stats())
		}
	})
}

// With DeadLetter, messages that do not open are moved.
func TestDeadLetterMovesWhatDoesNotOpen(t *testing.T) {
	inBubble(t, func(t *testing.T, e *ends) {
		e.bind(t)
		e.forStranger(t, 2)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		lines := 0
		r := e.receiver(t, e.dial(t, "bob"), nil, func(cfg *receive.Config) {
			cfg.DeadLetter = true
			cfg.Log = slog.New(onLog{f: func(string) {
				if lines++; lines == 2 {
					cancel()
				}
			}})
		})
		if list, err := r.Next(ctx, 0); !errors.Is(err, context.Canceled) {
			t.Fatalf("%q, %v", texts(list), err)
		}
		if r.Stats().Refused != 2 || r.Unopened() != nil {
			t.Errorf("%+v, %v", r.Stats(), r.Unopened())
		}
	})
}
