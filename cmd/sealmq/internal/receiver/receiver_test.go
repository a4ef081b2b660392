package receiver_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/cmd/sealmq/internal/jsonl"
	"github.com/sealmq/sealmq/cmd/sealmq/internal/receiver"
	"github.com/sealmq/sealmq/internal/testing/faultfs"
	"github.com/sealmq/sealmq/receive"
	"github.com/sealmq/sealmq/seal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const name = "out.jsonl"

// queue delivers messages as a receive.Receiver does.
type queue struct {
	t         *testing.T
	fs        *faultfs.FS // to look at the file when a commit comes
	waiting   []receive.Received
	committed []string
	returned  []string
	output    receive.Output
	stats     receive.Stats
	began     time.Time
	again     time.Duration // what is given back comes every so often
}

func message(id, text string) receive.Received {
	m := &seal.Message{ID: id, Text: []byte(text), Exchange: "x", RoutingKey: "k"}
	m.Sender.ID = "alice"
	return receive.Received{Message: m, Delivery: &sealmq.Delivery{Message: sealmq.Message{ID: id}}}
}

func (q *queue) Next(ctx context.Context, limit int) ([]receive.Received, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if len(q.waiting) == 0 {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	n := len(q.waiting)
	if limit > 0 {
		n = min(n, limit)
	}
	list := q.waiting[:n]
	q.waiting = q.waiting[n:]
	return list, nil
}

func (q *queue) Commit(output receive.Output, list ...receive.Received) error {
	for _, m := range list {
		q.committed = append(q.committed, m.ID)
		if q.fs == nil {
			continue
		}
		// Whatever a power cut leaves now must hold the message.
		for _, mode := range faultfs.CrashModes {
			left := string(q.fs.Snapshot().Crash(mode, 1).Get(name))
			if !strings.Contains(left[:output.Length], `"message_id":"`+m.ID+`"`) {
				q.t.Errorf("%s was committed before it was on stable storage", m.ID)
			}
		}
	}
	q.output = output
	return nil
}

func (q *queue) Nack(delay time.Duration, list ...receive.Received) error {
	for _, m := range list {
		q.returned = append(q.returned, fmt.Sprint(m.ID, " ", delay))
	}
	return nil
}

func (q *queue) Unopened() error { return nil }
func (q *queue) Stats() receive.Stats {
	st := q.stats
	if q.again > 0 {
		st.Undecided = uint64(time.Since(q.began) / q.again)
		st.Stayed = st.Undecided
	}
	return st
}

func newQueue(t *testing.T, n int) *queue {
	q := &queue{t: t}
	for i := range n {
		q.waiting = append(q.waiting, message(fmt.Sprint("id-", i), fmt.Sprint("text ", i)))
	}
	return q
}

func TestCommitsWhatIsOnStableStorage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(t, 20)
		q.fs = faultfs.New()
		file, err := jsonl.Open(q.fs, name, 0, 0, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		began := time.Now()
		r := receiver.New(receiver.Config{Source: q, File: file, Idle: time.Second})
		if err := r.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if time.Since(began) != time.Second {
			t.Errorf("it ended after %v", time.Since(began))
		}
		text := string(q.fs.Get(name))
		if len(q.committed) != 20 || strings.Count(text, "\n") != 20 || q.output != (receive.Output{Length: int64(len(text)), Messages: 20}) {
			t.Errorf("%d committed, output %+v", len(q.committed), q.output)
		}
		if !strings.Contains(text, `"sender":"alice"`) {
			t.Errorf("a line is %q", text[:200])
		}
		if st := r.Stats(); st.Received != 20 || st.Bytes == 0 {
			t.Errorf("%+v", st)
		}
	})
}

// A message that is returned and comes again and again does not keep Idle from ending Run.
func TestIdleDoesNotWaitForWhatStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(t, 0)
		q.began, q.again = time.Now(), 300*time.Millisecond
		if err := receiver.New(receiver.Config{Source: q, Do: func(context.Context, *receive.Received) error { return nil }, Idle: time.Second}).Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if time.Since(q.began) != time.Second {
			t.Errorf("it ended after %v", time.Since(q.began))
		}
	})
}

func TestCountTakesNoMore(t *testing.T) {
	q := newQueue(t, 20)
	file, err := jsonl.Open(faultfs.New(), name, 0, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	r := receiver.New(receiver.Config{Source: q, File: file, Count: 5})
	if err := r.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(q.waiting) != 15 || len(q.committed) != 5 {
		t.Errorf("%d are left, %d are committed", len(q.waiting), len(q.committed))
	}
}

func TestFailedFileEndsTheRun(t *testing.T) {
	fs := faultfs.New()
	file, err := jsonl.Open(fs, name, 0, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	fs.Fail(faultfs.Sync, 1, faultfs.Fault{})
	q := newQueue(t, 3)
	if err := receiver.New(receiver.Config{Source: q, File: file}).Run(t.Context()); !errors.Is(err, faultfs.EIO) || len(q.committed) > 0 {
		t.Errorf("%v, %d committed", err, len(q.committed))
	}
}

// A message whose command fails is delivered again later; an interrupted one at once.
func TestCommandsAreCommittedOneByOne(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	q := newQueue(t, 5)
	var failed []string
	r := receiver.New(receiver.Config{Source: q,
		Do: func(_ context.Context, m *receive.Received) error {
			switch m.ID {
			case "id-1":
				return errors.New("exit status 1")
			case "id-3":
				cancel()
				return errors.New("killed")
			}
			return nil
		},
		Failed: func(m *receive.Received, err error, again time.Duration) {
			failed = append(failed, fmt.Sprint(m.ID, " ", err, " ", again))
		},
	})
	if err := r.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"id-0", "id-2"}, q.committed); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"id-1 1s"}, q.returned); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"id-1 exit status 1 1s"}, failed); d != "" {
		t.Error(d)
	}
}
