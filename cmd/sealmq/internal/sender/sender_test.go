package sender_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/cmd/sealmq/internal/sender"
	"github.com/sealmq/sealmq/internal/clock"
	"github.com/sealmq/sealmq/send"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// out answers publishes as the test says.
type out struct {
	answer func(n int) error // n counts publishes from one

	mu        sync.Mutex
	sealed    int
	texts     []string
	positions []string
	stats     send.Stats
}

func (o *out) Seal(_ context.Context, exchange, key string, text []byte) (sealmq.Message, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(text) == 0 {
		return sealmq.Message{}, errors.New("an empty text")
	}
	o.sealed++
	return sealmq.Message{Exchange: exchange, Key: key, ID: fmt.Sprint("id-", o.sealed), Body: text}, nil
}

func (o *out) Publish(_ context.Context, m sealmq.Message, position []byte, confirmed func(string, error)) error {
	o.mu.Lock()
	o.stats.Taken++
	var err error
	if o.answer != nil {
		err = o.answer(int(o.stats.Taken))
	}
	if err == nil {
		o.stats.Confirmed++
		o.texts = append(o.texts, string(m.Body))
		o.positions = append(o.positions, string(position))
	}
	o.mu.Unlock()
	confirmed(m.ID, err)
	return nil
}

func (o *out) Flush(context.Context) error { return nil }

func (o *out) Stats() send.Stats {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.stats
}

func texts(list ...string) func() (sender.Text, error) {
	i := 0
	return func() (sender.Text, error) {
		if i == len(list) {
			return sender.Text{}, io.EOF
		}
		i++
		return sender.Text{Body: []byte(list[i-1]), Position: fmt.Append(nil, i)}, nil
	}
}

func newSender(o *out, workers int) *sender.Sender {
	return sender.New(sender.Config{Out: o, Exchange: "x", RoutingKey: "k", Workers: workers})
}

func TestSendsInOrder(t *testing.T) {
	for _, workers := range []int{1, 4} {
		var want, positions []string
		for i := range 500 {
			want = append(want, fmt.Sprint("text ", i))
			positions = append(positions, fmt.Sprint(i+1))
		}
		o := &out{}
		s := newSender(o, workers)
		if err := s.Run(t.Context(), texts(want...)); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, o.texts); d != "" {
			t.Error(d)
		}
		if d := cmp.Diff(positions, o.positions); d != "" {
			t.Error(d)
		}
		if st := s.Stats(); st.Read != 500 || st.Confirmed != 500 || st.ConfirmP50 == 0 || st.Bytes == 0 {
			t.Errorf("%+v", st)
		}
	}
}

func TestFirstRefusalForGoodEndsTheRun(t *testing.T) {
	o := &out{answer: func(n int) error {
		if n == 3 {
			return sealmq.ErrNoExchange
		}
		return nil
	}}
	many := func() (sender.Text, error) { return sender.Text{Body: []byte("text")}, nil }
	s := newSender(o, 1)
	if err := s.Run(t.Context(), many); !errors.Is(err, sealmq.ErrNoExchange) {
		t.Errorf("%v", err)
	}
	if st := s.Stats(); st.Confirmed < 2 {
		t.Errorf("%+v", st)
	}
}

// A refusal is the error of a run that is interrupted at the same moment.
func TestRefusalBeforeAnInterruption(t *testing.T) {
	for range 50 { // enough for a select that finds both to take the wrong one
		ctx, cancel := context.WithCancel(t.Context())
		o := &out{answer: func(n int) error {
			if n < 3 {
				return nil
			}
			cancel()
			return sealmq.ErrNoExchange
		}}
		many := func() (sender.Text, error) { return sender.Text{Body: []byte("text")}, nil }
		if err := newSender(o, 1).Run(ctx, many); !errors.Is(err, sealmq.ErrNoExchange) {
			t.Fatalf("%v", err)
		}
	}
}

// The error of a text that is refused or cannot be sealed names its place.
func TestErrorsNameTheText(t *testing.T) {
	o := &out{answer: func(n int) error {
		if n == 2 {
			return sealmq.ErrNoExchange
		}
		return nil
	}}
	lines := sender.Lines("input", strings.NewReader("\na\n\nb\nc")).From(10, 0)
	var at *sender.TextError
	if err := newSender(o, 1).Run(t.Context(), lines.Next); !errors.Is(err, sealmq.ErrNoExchange) || !errors.As(err, &at) || at.Place != "line 14 of input" {
		t.Errorf("%v", err)
	}
	one := func() (sender.Text, error) { return sender.Text{Source: "empty.txt"}, nil }
	if err := newSender(&out{}, 1).Run(t.Context(), one); err == nil || err.Error() != "empty.txt: an empty text" {
		t.Errorf("%v", err)
	}
}

func TestErrorsOfTheSource(t *testing.T) {
	broken := errors.New("broken pipe")
	n := 0
	next := func() (sender.Text, error) {
		if n++; n > 2 {
			return sender.Text{}, broken
		}
		return sender.Text{Body: []byte("text")}, nil
	}
	if err := newSender(&out{}, 1).Run(t.Context(), next); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
	if err := newSender(&out{}, 1).Run(t.Context(), texts("a", "")); err == nil {
		t.Error("an empty text was sent")
	}
}

func TestTrialTextsKeepTheirRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		o := &out{}
		if err := newSender(o, 1).Run(t.Context(), sender.Paced(t.Context(), clock.System, 5, sender.Trial(11))); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took != 2*time.Second || len(o.texts) != 11 {
			t.Errorf("%d texts in %v", len(o.texts), took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := newSender(o, 1).Run(ctx, sender.Paced(ctx, clock.System, 1, sender.Trial(100))); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
	})
}

func collect(s *sender.Source) (list []string, err error) {
	for {
		text, err := s.Next()
		if err == io.EOF {
			return list, nil
		}
		if err != nil {
			return list, err
		}
		list = append(list, string(text.Body))
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
		source := sender.Lines("input", strings.NewReader(input))
		got, err := collect(source)
		if err != nil {
			t.Errorf("%.20q: %v", input, err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%.20q: %s", input, d)
		}
		if source.Offset() != int64(len(input)) {
			t.Errorf("%.20q: it ends at byte %d", input, source.Offset())
		}
	}
	source := sender.Lines("input", strings.NewReader("a\n\nbc\nd"))
	for _, want := range []int64{2, 6, 7} {
		if _, err := source.Next(); err != nil || source.Offset() != want {
			t.Errorf("offset %d, %v, want %d", source.Offset(), err, want)
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
