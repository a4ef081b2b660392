package local_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
	"github.com/sealmq/sealmq/engine/local"
)

// BenchmarkPublishTakeAck measures the engine alone: batches of 64 messages of 370
// bytes, a window of four batches, one consumer that acknowledges at once.
func BenchmarkPublishTakeAck(b *testing.B) { publishTakeAck(b, 0) }

// BenchmarkBesideIdleQueues is the same beside 10,000 queues in which nothing happens.
func BenchmarkBesideIdleQueues(b *testing.B) { publishTakeAck(b, 10_000) }

func publishTakeAck(b *testing.B, idle int) {
	e := mustOpen(b, local.Config{Dir: b.TempDir()})
	declare(b, e, "q", nil)
	for i := range idle {
		e.DeclareQueue(fmt.Sprintf("idle-%d", i), sealmq.QueueOptions{}, 0, func(engine.QueueInfo, bool, error) {})
	}
	const batch = 64
	notify := make(chan struct{}, 1)
	s := e.NewSession(engine.SessionConfig{Notify: func() {
		select {
		case notify <- struct{}{}:
		default:
		}
	}})
	s.Consume("q", engine.ConsumeOptions{Prefetch: 1000}, func(error) {})
	body := bytes.Repeat([]byte("x"), 330)
	received := make(chan struct{})
	go func() {
		defer close(received)
		for n := 0; n < b.N; {
			<-notify
			for {
				ds, err := s.Take(nil, 64, 64<<10)
				if err != nil {
					b.Error(err)
				}
				if len(ds) == 0 {
					break
				}
				n += len(ds)
				acks := make([]engine.Settlement, len(ds))
				for i, d := range ds {
					acks[i] = engine.Settlement{Tag: d.Tag, Verdict: engine.Ack}
				}
				s.Settle(acks, func(error) {})
			}
		}
	}()
	window := make(chan struct{}, 4)
	reqs := make([]engine.Publish, batch)
	b.ReportAllocs()
	b.ResetTimer()
	for n := 0; n < b.N; n += batch {
		window <- struct{}{}
		k := min(batch, b.N-n)
		for i := range k {
			reqs[i] = message(fmt.Sprintf("message-%d", n+i), "", "q")
			reqs[i].Message.Body = body
		}
		e.Publish(reqs[:k], func([]engine.PublishResult) { <-window })
	}
	<-received
}
