package text_test

import (
	"fmt"
	"testing"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/broker"
	"github.com/sealmq/sealmq/engine"
	"github.com/sealmq/sealmq/engine/enginetest"
	"github.com/sealmq/sealmq/protocol"
	"github.com/sealmq/sealmq/protocol/text"
)

// nowhere is an engine that stores nothing and has endless messages, so that what is
// measured is the protocol.
type nowhere struct {
	engine.Engine
	results []engine.PublishResult
}

func (e *nowhere) Publish(batch []engine.Publish, done func([]engine.PublishResult)) int {
	done(e.results[:len(batch)])
	return len(batch)
}

func (e *nowhere) NewSession(cfg engine.SessionConfig) engine.Session {
	return &endless{notify: cfg.Notify, body: []byte(sample(256))}
}

type endless struct {
	engine.Session
	notify func()
	body   []byte
	ids    [256]string
	next   uint64
	held   int
}

func (s *endless) Consume(_ string, _ engine.ConsumeOptions, done func(error)) sealmq.SubscriptionID {
	for i := range s.ids {
		s.ids[i] = fmt.Sprintf("p0-%08d-receiver_1", i)
	}
	done(nil)
	s.notify()
	return 1
}

func (s *endless) Take(dst []sealmq.Delivery, most, maxBytes int) ([]sealmq.Delivery, error) {
	for n := 0; n < most && maxBytes > 0 && s.held < 200; n++ {
		d := sealmq.Delivery{Queue: "q", Attempt: 1, Tag: sealmq.DeliveryTag{Seq: s.next}}
		d.ID, d.Body = s.ids[s.next%256], s.body
		dst = append(dst, d)
		s.next++
		s.held++
		maxBytes -= len(s.body)
	}
	return dst, nil
}

func (s *endless) Settle(batch []engine.Settlement, done func(error)) {
	s.held -= len(batch)
	done(nil)
	s.notify()
}

func (s *endless) Unacked() int { return s.held }
func (s *endless) Close(bool)   {}

func benchNode(b *testing.B) *node {
	model := enginetest.NewModel(enginetest.Config{})
	eng := &nowhere{Engine: model, results: make([]engine.PublishResult, 4096)}
	for i := range eng.results {
		eng.results[i].Outcome = engine.Stored
	}
	br, err := broker.New(broker.Config{Engine: eng})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { br.Close(); model.Close() })
	return &node{broker: br, engine: eng, peers: &table{}}
}

// BenchmarkPublish is one publish of 256 bytes, 40 of them in a read, with its confirm.
func BenchmarkPublish(b *testing.B) {
	n := benchNode(b)
	s := n.dialWith(protocol.Peer{Identity: client("a", false)}, text.Config{}).session
	defer s.Close()
	s.Input([]byte("bind q x k\n"))
	const batch = 40
	var input []byte
	for range batch {
		input = append(append(input, "publish x k "+sample(256)...), '\n')
	}
	out := make([]byte, 0, 128<<10)
	b.ReportAllocs()
	b.SetBytes(int64(len(input) / batch))
	for i := 0; i < b.N; i += batch {
		s.Input(input)
		out = output(s, out[:0])
	}
}

// BenchmarkDeliver is one push of 256 bytes with its ack and its confirmation.
func BenchmarkDeliver(b *testing.B) {
	n := benchNode(b)
	s := n.dialWith(protocol.Peer{Identity: client("a", false)}, text.Config{}).session
	defer s.Close()
	s.Input([]byte("consume q\n"))
	out := make([]byte, 0, 128<<10)
	for len(output(s, out[:0])) == 0 {
	}
	var acks [256][]byte
	for i := range acks {
		acks[i] = fmt.Appendf(nil, "ack p0-%08d-receiver_1\n", i)
	}
	var input []byte
	const batch = 32
	b.ReportAllocs()
	for i := 0; i < b.N; i += batch {
		input = input[:0]
		for j := range batch {
			input = append(input, acks[(i+j)%256]...)
		}
		s.Input(input)
		out = output(s, out[:0])
	}
}
