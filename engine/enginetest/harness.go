package enginetest

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
	"github.com/sealmq/sealmq/internal/testing/fakeclock"
)

// start is where the fake clock begins.
var start = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

// everything is more than any test has waiting.
const everything = 1 << 30

// harness is one test's engine. Its methods fail the test when the engine does not do
// what they are named after.
type harness struct {
	testing.TB
	opener Opener
	clock  *fakeclock.Clock
	cfg    Config
	engine engine.Engine
	// patience is how long something that must happen may take.
	patience time.Duration
	calls    []*call
}

// call counts how often a done function ran.
type call struct {
	what string
	runs atomic.Int32
}

func newHarness(tb testing.TB, opener Opener, patience time.Duration) *harness {
	fake := fakeclock.New(start)
	h := &harness{TB: tb, opener: opener, clock: fake, patience: patience}
	h.cfg = Config{Clock: fake}
	return h
}

// open opens the engine; the test's end closes it.
func (h *harness) open() {
	h.engine = h.opener.Open(h, h.cfg)
}

// finish closes the engine and checks that everything was answered once.
func (h *harness) finish() {
	if h.engine != nil {
		closed := make(chan error, 1)
		go func() { closed <- h.engine.Close() }()
		select {
		case err := <-closed:
			if err != nil {
				h.Errorf("close: %v", err)
			}
		case <-time.After(h.patience):
			h.Error("Close did not return")
		}
	}
	for _, c := range h.calls {
		if n := c.runs.Load(); n != 1 {
			h.Errorf("done of %s ran %d times, want once", c.what, n)
		}
	}
}

// reopen closes the engine and opens it again.
func (h *harness) reopen() {
	h.Helper()
	if err := h.engine.Close(); err != nil {
		h.Fatalf("close: %v", err)
	}
	h.open()
}

// crash cuts the power and opens the engine again.
func (h *harness) crash() {
	h.Helper()
	c, ok := h.opener.(Crasher)
	if !ok {
		h.Skip("the opener is no Crasher")
	}
	c.Crash(h)
	h.open()
}

// pending is a call whose answer is not awaited yet.
type pending[T any] struct {
	h    *harness
	what string
	ch   chan result[T]
}

type result[T any] struct {
	value T
	err   error
}

// begin makes a call. The done function that it hands out may run at any time.
func begin[T any](h *harness, what string, call_ func(done func(T, error))) *pending[T] {
	c := &call{what: what}
	h.calls = append(h.calls, c)
	p := &pending[T]{h: h, what: what, ch: make(chan result[T], 1)}
	call_(func(v T, err error) {
		if c.runs.Add(1) == 1 {
			p.ch <- result[T]{v, err}
		}
	})
	return p
}

// wait returns the answer.
func (p *pending[T]) wait() (T, error) {
	p.h.Helper()
	select {
	case r := <-p.ch:
		return r.value, r.err
	case <-time.After(p.h.patience):
		p.h.Fatalf("%s was not answered", p.what)
		panic("unreachable")
	}
}

// answered reports whether the answer has come.
func (p *pending[T]) answered() bool { return len(p.ch) > 0 }

// must is wait for a call that must succeed.
func (p *pending[T]) must() T {
	p.h.Helper()
	v, err := p.wait()
	if err != nil {
		p.h.Fatalf("%s: %v", p.what, err)
	}
	return v
}

// fails is wait for a call that must fail with a code.
func (p *pending[T]) fails(code sealmq.Code) {
	p.h.Helper()
	if _, err := p.wait(); sealmq.CodeOf(err) != code {
		p.h.Errorf("%s: error %v, want code %s", p.what, err, code)
	}
}

type nothing = struct{}

// plain adapts a done function without a value.
func plain(f func(done func(error))) func(func(nothing, error)) {
	return func(done func(nothing, error)) { f(func(err error) { done(nothing{}, err) }) }
}

func (h *harness) declare(name string, o *sealmq.QueueOptions) *pending[bool] {
	options, compare := declaration(o)
	return begin(h, "declare "+name, func(done func(bool, error)) {
		h.engine.DeclareQueue(name, options, compare, func(_ engine.QueueInfo, created bool, err error) { done(created, err) })
	})
}

// declaration is what a declaration with all options says, or with none.
func declaration(o *sealmq.QueueOptions) (sealmq.QueueOptions, engine.Fields) {
	if o == nil {
		return sealmq.QueueOptions{}, 0
	}
	return *o, engine.AllFields
}

// queue declares a queue that does not exist, and puts messages with the given ids into it.
func (h *harness) queue(name string, o sealmq.QueueOptions, ids ...string) {
	h.Helper()
	if !h.declare(name, &o).must() {
		h.Fatalf("queue %s was there already", name)
	}
	if len(ids) > 0 {
		h.put(name, ids...)
	}
}

func (h *harness) remove(name string) *pending[int] {
	return h.removeIf(name, 0)
}

func (h *harness) removeIf(name string, only engine.If) *pending[int] {
	return begin(h, "delete "+name, func(done func(int, error)) { h.engine.DeleteQueue(name, only, done) })
}

func (h *harness) purge(name string) *pending[int] {
	return begin(h, "purge "+name, func(done func(int, error)) { h.engine.PurgeQueue(name, done) })
}

func (h *harness) define(batch ...engine.Definition) *pending[nothing] {
	return begin(h, "define", plain(func(done func(error)) { h.engine.Define(batch, done) }))
}

// settled returns when everything that was called before is on stable storage.
func (h *harness) settled() {
	h.Helper()
	h.define(engine.Definition{Key: "enginetest/settled", Value: []byte("1")}).must()
}

func (h *harness) info(name string) engine.QueueInfo {
	h.Helper()
	info, err := h.engine.Queue(name)
	if err != nil {
		h.Fatalf("queue %s: %v", name, err)
	}
	return info
}

func (h *harness) all() []engine.QueueInfo {
	h.Helper()
	list, err := h.engine.Queues()
	if err != nil {
		h.Fatalf("queues: %v", err)
	}
	return list
}

// eventually waits for a condition that has nothing to signal it.
func (h *harness) eventually(what string, ok func() bool) {
	h.Helper()
	deadline := time.After(h.patience)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			h.Fatalf("did not happen: %s", what)
		}
	}
}

// holds waits until a queue has these numbers of waiting and unacknowledged messages.
func (h *harness) holds(name string, ready, unacked int) {
	h.Helper()
	var info engine.QueueInfo
	h.eventually(fmt.Sprintf("queue %s has %d ready and %d unacked", name, ready, unacked), func() bool {
		info, _ = h.engine.Queue(name)
		return info.Ready == ready && info.Unacked == unacked
	})
}

// message makes a message whose body is unlike others.
func message(id string) sealmq.Message {
	return sealmq.Message{
		ID:        id,
		Publisher: "publisher-1",
		Exchange:  "x",
		Key:       "k",
		Published: start.Add(-time.Second),
		Body:      []byte(`{"message_id":"` + id + `"}`),
	}
}

// ids returns n ids that begin with a prefix.
func ids(prefix string, n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("%s-%04d", prefix, i)
	}
	return list
}

func (h *harness) publish(batch ...engine.Publish) *pending[[]engine.PublishResult] {
	return begin(h, "publish", func(done func([]engine.PublishResult, error)) {
		taken := h.engine.Publish(batch, func(results []engine.PublishResult) { done(slices.Clone(results), nil) })
		if taken != len(batch) {
			h.Errorf("%d of %d messages were taken", taken, len(batch))
		}
	})
}

// one publishes one message and returns its result.
func (h *harness) one(m sealmq.Message, queues ...string) engine.PublishResult {
	h.Helper()
	results := h.publish(engine.Publish{Message: m, Queues: queues}).must()
	if len(results) != 1 {
		h.Fatalf("%d results for one message", len(results))
	}
	return results[0]
}

// digested is one for a message whose content is compared by a digest.
func (h *harness) digested(m sealmq.Message, digest string, queues ...string) engine.PublishResult {
	h.Helper()
	m.Digest = []byte(digest)
	return h.one(m, queues...)
}

// stops publishes messages and checks that the engine takes as many as it should, before
// one that names a queue which does not exist.
func (h *harness) stops(want int, batch ...engine.Publish) {
	h.Helper()
	results := begin(h, "publish", func(done func([]engine.PublishResult, error)) {
		if taken := h.engine.Publish(batch, func(r []engine.PublishResult) { done(slices.Clone(r), nil) }); taken != want {
			h.Errorf("%d messages were taken, want %d", taken, want)
		}
	}).must()
	if len(results) != want {
		h.Errorf("%d results for %d messages that were taken", len(results), want)
	}
	for i, r := range results {
		if r.Outcome != engine.Stored {
			h.Errorf("message %d: outcome %d, error %v", i, r.Outcome, r.Err)
		}
	}
}

// outcome publishes one message and checks what becomes of it.
func (h *harness) outcome(want engine.Outcome, code sealmq.Code, m sealmq.Message, queues ...string) engine.PublishResult {
	h.Helper()
	r := h.one(m, queues...)
	if r.Outcome != want || sealmq.CodeOf(r.Err) != code {
		h.Fatalf("publish %s to %s: outcome %d with error %v, want outcome %d with code %q",
			m.ID, queues, r.Outcome, r.Err, want, code)
	}
	return r
}

// put stores messages with the given ids in one queue, in one batch.
func (h *harness) put(queue string, ids ...string) {
	h.Helper()
	var batch []engine.Publish
	for _, id := range ids {
		batch = append(batch, engine.Publish{Message: message(id), Queues: []string{queue}})
	}
	for i, r := range h.publish(batch...).must() {
		if r.Outcome != engine.Stored {
			h.Fatalf("publish %s to %s: outcome %d, error %v", ids[i], queue, r.Outcome, r.Err)
		}
	}
}

// stored checks that what is published, one message, is stored.
func (h *harness) stored(p *pending[[]engine.PublishResult]) {
	h.Helper()
	if r := p.must()[0]; r.Outcome != engine.Stored {
		h.Fatalf("publish: outcome %d, error %v", r.Outcome, r.Err)
	}
}

// is checks a number. The format says what it is.
func is[N int | int64 | uint64](h *harness, got, want N, format string) {
	h.Helper()
	if got != want {
		h.Errorf(format+", want %d", got, want)
	}
}

func (h *harness) sameIDs(list []sealmq.Delivery, want ...string) {
	h.Helper()
	var got []string
	for _, d := range list {
		got = append(got, d.ID)
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		h.Fatalf("messages (-want +got):\n%s", diff)
	}
}

// content checks everything about a delivery that comes from its publisher.
func (h *harness) content(d sealmq.Delivery, want sealmq.Message) {
	h.Helper()
	got := d.Message
	if !bytes.Equal(got.Body, want.Body) {
		h.Errorf("message %s has another body of %d bytes, want %d", want.ID, len(got.Body), len(want.Body))
	}
	got.Body, want.Body = nil, nil // a Diff of a large one takes seconds
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		h.Errorf("message %s (-want +got):\n%s", want.ID, diff)
	}
}

func described(list []sealmq.Delivery) string {
	var b strings.Builder
	for _, d := range list {
		fmt.Fprintf(&b, "%s(%d) ", d.ID, d.Attempt)
	}
	if b.Len() == 0 {
		return "nothing"
	}
	return strings.TrimSpace(b.String())
}
