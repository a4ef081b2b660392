package sender_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/internal/sender"
	"github.com/sealmq/sealmq/seal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var key = sync.OnceValue(func() *seal.PrivateKey {
	k, err := seal.Generate(seal.CipherMQRSA, seal.MinRSABits)
	if err != nil {
		panic(err)
	}
	return k
})

// broker answers publishes as the test says.
type broker struct {
	answer func(n int, m client.Message) error // n counts publishes from one
	n      int
	bodies map[string][]string // by message id, in the order of the publishes
	stored []string            // texts
}

func (b *broker) PublishAsync(_ context.Context, m client.Message, confirmed func(error)) error {
	b.n++
	if b.bodies == nil {
		b.bodies = make(map[string][]string)
	}
	b.bodies[m.ID] = append(b.bodies[m.ID], string(m.Body))
	var err error
	if b.answer != nil {
		err = b.answer(b.n, m)
	}
	if err == nil {
		_, text, openErr := key().Open(m.Body)
		if openErr != nil {
			return openErr
		}
		b.stored = append(b.stored, string(text))
	}
	confirmed(err)
	return nil
}

func (b *broker) Flush(context.Context) error { return nil }

func texts(list ...string) func() ([]byte, error) {
	return func() ([]byte, error) {
		if len(list) == 0 {
			return nil, io.EOF
		}
		text := list[0]
		list = list[1:]
		return []byte(text), nil
	}
}

func newSender(b *broker) *sender.Sender {
	return sender.New(sender.Config{Publisher: b, Key: key().Public(), Exchange: "x", RoutingKey: "k"})
}

func TestSendsInOrder(t *testing.T) {
	var want []string
	for i := range 500 {
		want = append(want, fmt.Sprint("text ", i))
	}
	b := &broker{}
	s := newSender(b)
	if err := s.Run(t.Context(), texts(want...)); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, b.stored); d != "" {
		t.Error(d)
	}
	st := s.Stats()
	if st.Read != 500 || st.Confirmed != 500 || st.Refused != 0 || st.Retried != 0 || st.ConfirmP50 == 0 {
		t.Errorf("%+v", st)
	}
}

func TestRetriesWithTheSameBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		full := &sealmq.Error{Code: sealmq.QueueFull, Message: "queue 'q' is full"}
		start := time.Now()
		b := &broker{answer: func(n int, m client.Message) error {
			if time.Since(start) < 20*time.Second {
				return full
			}
			return nil
		}}
		s := newSender(b)
		if err := s.Run(t.Context(), texts("a", "b", "c")); err != nil {
			t.Fatal(err)
		}
		got := slices.Sorted(slices.Values(b.stored))
		if d := cmp.Diff([]string{"a", "b", "c"}, got); d != "" {
			t.Error(d)
		}
		if len(b.bodies) != 3 {
			t.Errorf("%d message ids for three texts", len(b.bodies))
		}
		for id, bodies := range b.bodies {
			if len(slices.Compact(bodies)) != 1 {
				t.Errorf("message %s was sealed anew for a retry", id)
			}
		}
		// 0.1, 0.2, 0.4 … 5, 5, 5 seconds: some ten rounds, not hundreds.
		if st := s.Stats(); st.Retried < 3 || st.Retried > 40 || st.Confirmed != 3 {
			t.Errorf("%+v", st)
		}
	})
}

// Whoever waits hears why, once for each reason, and counts messages, not attempts.
func TestTellsWhyItWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		full := &sealmq.Error{Code: sealmq.QueueFull, Message: "queue 'q' is full"}
		start := time.Now()
		b := &broker{answer: func(int, client.Message) error {
			switch waited := time.Since(start); {
			case waited < 20*time.Second:
				return full
			case waited < 40*time.Second:
				return sealmq.ErrNoStorage
			}
			return nil
		}}
		var told []string
		var first time.Duration
		s := sender.New(sender.Config{Publisher: b, Key: key().Public(), Exchange: "x", RoutingKey: "k", Waiting: func(reason error) {
			if told = append(told, reason.Error()); len(told) == 1 {
				first = time.Since(start)
			}
		}})
		if err := s.Run(t.Context(), texts("a")); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff([]string{full.Error(), sealmq.ErrNoStorage.Error()}, told); d != "" {
			t.Error(d)
		}
		if st := s.Stats(); first != time.Second || st.Waited != 1 || st.Retried <= 2 || st.Unknown != 0 {
			t.Errorf("told after %v, %+v", first, st)
		}
	})
}

func TestGivesUpWhenThereIsNoRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		b := &broker{answer: func(int, client.Message) error { return sealmq.ErrNoStorage }}
		s := sender.New(sender.Config{Publisher: b, Key: key().Public(), Exchange: "x", RoutingKey: "k", GiveUp: 7 * time.Second})
		err := s.Run(t.Context(), texts("a"))
		if !errors.Is(err, sealmq.ErrNoStorage) || time.Since(start) != 7*time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		if st := s.Stats(); st.Unknown != 0 || st.Confirmed != 0 {
			t.Errorf("%+v", st)
		}
	})
}

func TestFirstRefusalForGoodEndsTheRun(t *testing.T) {
	b := &broker{answer: func(n int, m client.Message) error {
		if n == 3 {
			return sealmq.ErrNoExchange
		}
		return nil
	}}
	s := newSender(b)
	many := func() ([]byte, error) { return []byte("text"), nil }
	if err := s.Run(t.Context(), many); !errors.Is(err, sealmq.ErrNoExchange) {
		t.Errorf("%v", err)
	}
	if st := s.Stats(); st.Refused != 1 || st.Confirmed < 2 {
		t.Errorf("%+v", st)
	}
}

func TestErrorsOfTheSource(t *testing.T) {
	broken := errors.New("broken pipe")
	n := 0
	next := func() ([]byte, error) {
		if n++; n > 2 {
			return nil, broken
		}
		return []byte("text"), nil
	}
	if err := newSender(&broker{}).Run(t.Context(), next); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
	if err := newSender(&broker{}).Run(t.Context(), texts("a", "")); err == nil {
		t.Error("an empty text was sent")
	}
}

func TestEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		b := &broker{answer: func(int, client.Message) error { return sealmq.ErrNoStorage }}
		if err := newSender(b).Run(ctx, texts("a")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
	})
}

func collect(next func() ([]byte, error)) (list []string, err error) {
	for {
		text, err := next()
		if err == io.EOF {
			return list, nil
		}
		if err != nil {
			return list, err
		}
		list = append(list, string(text))
	}
}

func TestSources(t *testing.T) {
	long := strings.Repeat("x", 100_000)
	for input, want := range map[string][]string{
		"":                       nil,
		"\n\n":                   nil,
		"a":                      {"a"},
		"a\nb\r\n\n c \nd":       {"a", "b", " c ", "d"},
		long + "\n" + long + "y": {long, long + "y"},
	} {
		got, err := collect(sender.Lines("input", strings.NewReader(input)))
		if err != nil {
			t.Errorf("%.20q: %v", input, err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%.20q: %s", input, d)
		}
	}
	over := strings.Repeat("x", sender.MaxTextBytes+1)
	if _, err := collect(sender.Lines("input", strings.NewReader("a\n"+over+over))); err == nil || !strings.Contains(err.Error(), "line 2 of input") {
		t.Errorf("a line that is too long: %v", err)
	}
	if got, err := collect(sender.Lines("input", strings.NewReader(over[1:]+"\r\n"))); err != nil || len(got) != 1 {
		t.Errorf("the longest line: %v", err)
	}
	if got, err := collect(sender.Whole("input", strings.NewReader("a\n\nb\n"))); err != nil || len(got) != 1 || got[0] != "a\n\nb\n" {
		t.Errorf("%q, %v", got, err)
	}
	for _, input := range []string{"", over} {
		if _, err := collect(sender.Whole("input", strings.NewReader(input))); err == nil {
			t.Errorf("%d bytes were taken", len(input))
		}
	}
}
