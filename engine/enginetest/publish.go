package enginetest

import (
	"bytes"
	"fmt"
	"unsafe"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
)

var publishChecks = []check{
	{name: "content is kept", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{MaxLineBytes: 1 << 20})
		every := make([]byte, 256)
		for i := range every {
			every[i] = byte(i)
		}
		messages := []sealmq.Message{
			message("plain"),
			{ID: "é/ü-1", Publisher: "sha256:00ff", Exchange: "ex", Key: "a.b", Published: start, Body: []byte("x")},
			{ID: "every-byte", Publisher: "p", Exchange: "x", Key: "k", Published: start, Body: every, Properties: every},
			{ID: "empty", Publisher: "p", Exchange: "x", Key: "k", Published: start},
			{Publisher: "p", Exchange: "x", Key: "k", Published: start, Body: []byte("without an id")},
			{ID: "large", Publisher: "p", Exchange: "x", Key: "k", Published: start, Body: bytes.Repeat(every, 2000)},
		}
		for _, m := range messages {
			h.outcome(engine.Stored, "", m, "q")
		}
		seen := make(map[sealmq.DeliveryTag]bool)
		for i, d := range h.consumer("q", 0).take(len(messages)) {
			h.content(d, messages[i])
			if d.Queue != "q" || d.Attempt != 1 || d.Redelivered() || d.DeathReason != "" || d.DeathQueue != "" {
				h.Errorf("first delivery of %s: queue %q, attempt %d, death %q in %q",
					d.ID, d.Queue, d.Attempt, d.DeathReason, d.DeathQueue)
			}
			if seen[d.Tag] {
				h.Errorf("tag %v was given twice", d.Tag)
			}
			seen[d.Tag] = true
		}
	}},
	{name: "what is handed in belongs to the caller again", run: reuseBuffers},
	{name: "into several queues", run: func(h *harness) {
		for _, q := range []string{"a", "b", "c"} {
			h.queue(q, sealmq.QueueOptions{})
		}
		h.outcome(engine.Stored, "", message("m"), "a", "c")
		h.holds("a", 1, 0)
		h.holds("b", 0, 0)
		h.holds("c", 1, 0)
		a, c := h.consumer("a", 0), h.consumer("c", 0)
		a.ack(a.gets("m")...)
		h.holds("a", 0, 0)
		d := c.gets("m")
		h.content(d[0], message("m"))
		c.ack(d...)
		h.holds("c", 0, 0)
	}},
	{name: "all queues or none", run: func(h *harness) {
		h.queue("wide", sealmq.QueueOptions{})
		h.queue("narrow", sealmq.QueueOptions{MaxMessages: 1}, "first")
		for _, queues := range [][]string{{"wide", "narrow"}, {"narrow", "wide"}} {
			r := h.outcome(engine.Refused, sealmq.QueueFull, message("second"), queues...)
			if r.Queue != "narrow" {
				h.Errorf("%v: queue %q is said to have refused", queues, r.Queue)
			}
			h.settled()
			if n := h.info("wide").Ready; n != 0 {
				h.Fatalf("%v: refused by one queue and stored in another", queues)
			}
		}
	}},
	{name: "stops before a message without its queue", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{})
		h.queue("full", sealmq.QueueOptions{MaxMessages: 1}, "first")
		p := func(id string, queues ...string) engine.Publish {
			return engine.Publish{Message: message(id), Queues: queues}
		}
		h.stops(2, p("a", "q"), p("b", "q"), p("c", "q", "none"), p("d", "q"))
		h.stops(0, p("c", "none", "q"))
		h.stops(0, p("c", "full", "none"))
		is(h, h.info("full").Refused, 0, "a queue is said to have refused %d messages that were not taken")
		h.outcome(engine.Repeated, "", message("a"), "none")
		h.put("q", "c", "d")
		h.consumer("q", 0).gets("a", "b", "c", "d")
	}},
	{name: "a message without a queue is unrouted", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{}, "a")
		for _, id := range []string{"a", "b", ""} { // known or not
			h.outcome(engine.Unrouted, sealmq.Unroutable, message(id))
		}
		results := h.publish(engine.Publish{Message: message("c")}, engine.Publish{Message: message("d"), Queues: []string{"q"}}).must()
		if results[0].Outcome != engine.Unrouted || results[1].Outcome != engine.Stored {
			h.Errorf("results %+v", results)
		}
		h.put("q", "b")
		h.consumer("q", 0).gets("a", "d", "b")
	}},
	{name: "one batch, many answers", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{MaxMessages: 3})
		other := message("a")
		other.Body = []byte("other")
		var batch []engine.Publish
		for _, m := range []sealmq.Message{message("a"), message("a"), other, message("b"), message("c"), message("d")} {
			batch = append(batch, engine.Publish{Message: m, Queues: []string{"q"}})
		}
		want := []engine.Outcome{engine.Stored, engine.Repeated, engine.Conflict, engine.Stored, engine.Stored, engine.Refused}
		codes := []sealmq.Code{"", "", sealmq.Duplicate, "", "", sealmq.QueueFull}
		results := h.publish(batch...).must()
		if len(results) != len(want) {
			h.Fatalf("%d results for %d messages", len(results), len(want))
		}
		for i, r := range results {
			if r.Outcome != want[i] || sealmq.CodeOf(r.Err) != codes[i] {
				h.Errorf("message %d: outcome %d with error %v, want %d with code %q", i, r.Outcome, r.Err, want[i], codes[i])
			}
		}
		h.consumer("q", 0).gets("a", "b", "c")
	}},
	{name: "answers come in the order of the calls", run: func(h *harness) {
		h.queue("q", sealmq.QueueOptions{})
		const n = 200
		order := make(chan int, n)
		for i := range n {
			batch := []engine.Publish{{Message: message(fmt.Sprint(i % 150)), Queues: []string{"q"}}}
			begin(h, "publish", func(done func(struct{}, error)) {
				h.engine.Publish(batch, func([]engine.PublishResult) { order <- i; done(struct{}{}, nil) })
			})
		}
		h.settled()
		for i := range n {
			if got := <-order; got != i {
				h.Fatalf("answer %d came when %d was due", got, i)
			}
		}
	}},
	{name: "an empty batch is answered", run: func(h *harness) {
		is(h, len(h.publish().must()), 0, "%d results for nothing")
		h.define().must()
		h.session().settle().must()
	}},
}

// reuseBuffers hands everything in as parts of one buffer and overwrites it as soon as
// the call returned, as a connection does with its read buffer.
func reuseBuffers(h *harness) {
	var buffer []byte
	part := func(s string) string {
		at := len(buffer)
		buffer = append(buffer, s...)
		return unsafe.String(unsafe.SliceData(buffer[at:]), len(s))
	}
	scribble := func() {
		for i := range buffer {
			buffer[i] = '!'
		}
		buffer = buffer[:0]
	}
	buffer = make([]byte, 0, 4096)

	declared := h.declare(part("q"), nil)
	scribble()
	m := message("m-1")
	m.Properties = []byte("properties")
	batch := []engine.Publish{{
		Message: sealmq.Message{
			ID: part(m.ID), Publisher: part(m.Publisher), Exchange: part(m.Exchange), Key: part(m.Key),
			Published: m.Published, Properties: []byte(m.Properties), Body: bytes.Clone(m.Body),
		},
		Queues: []string{part("q")},
	}}
	body, properties := batch[0].Message.Body, batch[0].Message.Properties
	published := h.publish(batch...)
	scribble()
	clear(body)
	clear(properties)
	clear(batch[0].Queues)
	clear(batch)
	declared.must()
	h.stored(published)
	m.Properties = []byte("properties")

	value := []byte("value")
	defined := h.define(engine.Definition{Key: part("key"), Value: value})
	scribble()
	clear(value)
	defined.must()
	if got := h.engine.Definitions(); len(got) != 1 || got[0].Key != "key" || string(got[0].Value) != "value" {
		h.Errorf("definitions %q", got)
	}

	c := h.session()
	consumed := c.consume(part("q"), 0)
	scribble()
	consumed.must()
	d := c.gets("m-1")
	h.content(d[0], m)
	settled := c.settle(engine.Settlement{Tag: d[0].Tag, Verdict: engine.Dead, Reason: part("reason")})
	scribble()
	settled.must()
	if got := h.session().fetch("q.dead"); got.DeathReason != "reason" {
		h.Errorf("reason %q", got.DeathReason)
	}
}
