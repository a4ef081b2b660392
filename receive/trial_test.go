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
			other := testca.New(t)
			cfg.Verifier = other.Verifier()
		},
		"name":  func(cfg *receive.Config) { cfg.Names = []string{"bert"} },
		"suite": func(cfg *receive.Config) { cfg.Suites = []seal.Suite{seal.HPKEX25519} },
	} {
		for _, ledger := range []*receive.Ledger{nil, used(t)} {
			t.Run(fmt.Sprint(name, " used ", ledger != nil), func(t *testing.T) {
				inBubble(t, func(t *testing.T, e *ends) {
					e.inbox(t, sealmq.QueueOptions{DeliveryLimit: 2, Prefetch: 3})
					e.garbage(t, 1)
					const n = receive.UnopenedTrial + 1
					s := e.sender(t, e.dial(t, "alice"), nil)
					for i := range n {
						e.sends(t, s, fmt.Sprint("text ", i))
					}
					for range 4 { // more often than the queue's delivery limit
						c := e.dial(t, "bob")
						r := e.receiver(t, c, ledger, change)
						list, err := within(t, r, 20*time.Second)
						var unopened *receive.UnopenedError
						if !errors.As(err, &unopened) {
							t.Fatalf("%q, %v", texts(list), err)
						}
						if _, again := within(t, r, time.Second); !errors.As(again, &unopened) || r.Unopened() == nil {
							t.Errorf("it goes on: %v", again)
						}
						c.Close() // as the hurried do, without giving anything back
					}
					if in, dead := e.left(t, "inbox"), e.left(t, "inbox.dead"); in != n || dead != 1 {
						t.Errorf("%d are left and %d dead, want %d and the garbage", in, dead, n)
					}
					if all := gather(t, e.receiver(t, e.dial(t, "bob"), ledger, nil), n); string(all[0].Text) != "text 0" {
						t.Errorf("the first is %q", all[0].Text)
					}
				})
			})
		}
	}
}

// A few messages that do not open stop nobody whose keys are good: the ones behind them are
// looked at, also by one who takes one at a time, and then these go where they belong.
func TestPoisonInFrontStopsNobody(t *testing.T) {
	for _, ledger := range []*receive.Ledger{nil, used(t)} {
		for prefetch, poison := range map[int]int{1: 1, 2: receive.UnopenedTrial - 1} {
			t.Run(fmt.Sprint(prefetch, " used ", ledger != nil), func(t *testing.T) {
				inBubble(t, func(t *testing.T, e *ends) {
					e.bind(t)
					e.forStranger(t, poison)
					e.sends(t, e.sender(t, e.dial(t, "alice"), nil), "one", "two", "three")
					c := e.dial(t, "bob")
					r := e.receiver(t, c, ledger, func(cfg *receive.Config) { cfg.Prefetch = prefetch })
					gather(t, r, 3)
					if err := c.Flush(t.Context()); err != nil {
						t.Fatal(err)
					}
					if in, dead := e.left(t, "inbox"), e.left(t, "inbox.dead"); in != 0 || dead != poison || r.Stats().Refused != uint64(poison) {
						t.Errorf("%d are left, %d dead, %+v", in, dead, r.Stats())
					}
					// What was kept aside has not widened what is in hand for good.
					e.sends(t, e.sender(t, e.dial(t, "alice"), nil), "a", "b", "c", "d")
					next(t, r)
					if err := c.Ping(t.Context()); err != nil {
						t.Fatal(err)
					}
					if q, err := c.Queue(t.Context(), "inbox"); err != nil || q.Unacked > prefetch {
						t.Errorf("%+v, %v", q, err)
					}
				})
			})
		}
	}
}

// Who has received before looks far before it ends: a sender may have used an old key for
// long.
func TestMuchPoisonInFrontStopsNobodyWhoHasReceivedBefore(t *testing.T) {
	inBubble(t, func(t *testing.T, e *ends) {
		e.bind(t)
		const poison = 5 * receive.UnopenedTrial
		e.forStranger(t, poison)
		e.sends(t, e.sender(t, e.dial(t, "alice"), nil), "one")
		r := e.receiver(t, e.dial(t, "bob"), used(t), func(cfg *receive.Config) { cfg.Prefetch = 1 })
		if gather(t, r, 1); r.Stats().Refused != poison {
			t.Errorf("%+v", r.Stats())
		}
	})
}

func TestAReceiverLooksOnlySoFar(t *testing.T) {
	inBubble(t, func(t *testing.T, e *ends) {
		e.bind(t)
		s := e.sender(t, e.dial(t, "alice"), nil)
		for i := range receive.MaxUnopenedTrial + 10 {
			if err := s.SendAsync(t.Context(), "post", "bob", fmt.Append(nil, i), nil); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, ledger := range []*receive.Ledger{nil, used(t)} {
			most := receive.UnopenedTrial
			if ledger != nil {
				most = receive.MaxUnopenedTrial
			}
			r := e.receiver(t, e.dial(t, "bob"), ledger, func(cfg *receive.Config) {
				cfg.Keys, cfg.Prefetch = strangersKeys(t), 1
			})
			var unopened *receive.UnopenedError
			if _, err := within(t, r, 30*time.Second); !errors.As(err, &unopened) || unopened.Messages != most {
				t.Errorf("%v, want %d", err, most)
			}
			if q, err := e.dial(t, "bob").Queue(t.Context(), "inbox"); err != nil || q.Unacked != 0 {
				t.Errorf("it has not given everything back: %+v, %v", q, err)
			}
		}
	})
}

// A key that is taken away in mid-run makes a new start: the file in its place may be the
// wrong one. What waits for a key is opened when the key comes.
func TestALostKeyEmptiesNoQueue(t *testing.T) {
	inBubble(t, func(t *testing.T, e *ends) {
		e.bind(t)
		s := e.sender(t, e.dial(t, "alice"), nil)
		ring, keys := make(chan *seal.Keyring, 2), e.keys
		held := make(chan struct{}, 10)
		c := e.dial(t, "bob")
		r := e.receiver(t, c, nil, func(cfg *receive.Config) {
			cfg.Reload = func(context.Context) (*seal.Keyring, error) {
				select {
				case keys = <-ring:
				default:
				}
				return keys, nil
			}
			cfg.Log = slog.New(onLog{f: func(line string) {
				if line == "message cannot be opened and is kept aside until one can" {
					held <- struct{}{}
				}
			}})
		})
		e.sends(t, s, "one")
		gather(t, r, 1)
		r.SetKeys(strangersKeys(t))
		ring <- strangersKeys(t)
		e.sends(t, s, "two")
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		go func() {
			<-held
			cancel()
		}()
		if list, err := r.Next(ctx, 0); !errors.Is(err, context.Canceled) || r.Stats().Refused != 0 {
			t.Fatalf("%q, %v, %+v", texts(list), err, r.Stats())
		}
		r.SetKeys(e.keys)
		if all := gather(t, r, 1); texts(all) != "two" || r.Stats().Refused != 0 {
			t.Errorf("%q, %+v", texts(all), r.Stats())
		}
	})
}

// Whoever says so has what does not open moved from the first message on.
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
