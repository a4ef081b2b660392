package listener_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/sealmq/sealmq/internal/testing/testca"
	"github.com/sealmq/sealmq/internal/testing/testnode"
	"github.com/sealmq/sealmq/internal/testing/transcript"
)

const transcripts = "../protocol/text/testdata/transcripts"

// TestTranscripts replays every transcript over mutual TLS, as written, byte by byte,
// and cut at random into TLS records.
func TestTranscripts(t *testing.T) {
	ca := testca.New(t)
	for _, name := range transcript.Names(t, transcripts) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tr := transcript.Load(t, transcripts, name)
			cuts := map[string]transcript.Cutter{"whole": transcript.Whole}
			longest := slices.Max(tr.Sent())
			if longest < 8<<10 {
				cuts["byte by byte"] = transcript.Bytewise
			}
			for seed := range 3 {
				r := rand.New(rand.NewPCG(uint64(seed), 1))
				points := make([]int, 20)
				for i := range points {
					points[i] = 1 + r.IntN(longest)
				}
				cuts[fmt.Sprintf("seed %d", seed)] = transcript.CutAt(points...)
			}
			for how, cut := range cuts {
				if err := tr.Play(start(t, ca, nil).dialer, cut); err != nil {
					t.Errorf("%s: %v", how, err)
				}
			}
			if err := tr.Play(startNode(t, testnode.Config{CA: ca}).dialer, transcript.Whole); err != nil {
				t.Errorf("on the local engine: %v", err)
			}
		})
	}
}

// TestT16TwoConsumers is the transcript T16: each message goes to one of two consumers,
// and what one of them held goes to the other one when it leaves.
func TestT16TwoConsumers(t *testing.T) {
	ca := testca.New(t)
	t.Run("model", func(t *testing.T) { twoConsumers(t, start(t, ca, nil)) })
	t.Run("local engine", func(t *testing.T) { twoConsumers(t, startNode(t, testnode.Config{CA: ca})) })
}

func twoConsumers(t *testing.T, n *node) {
	a, b, c := n.connect("a"), n.connect("b"), n.connect("c")
	a.do("bind q x k", "Queue bound")
	for _, p := range []*peer{a, b} {
		p.do("prefetch 5", "Prefetch 5")
		p.do("consume q", "Subscribed to queue")
	}
	for i := range 10 {
		c.do(fmt.Sprintf(`publish x k {"message_id":"m%d"}`, i), fmt.Sprintf("ACK m%d", i))
	}
	var held, got []string
	for range 5 {
		held = append(held, strings.Fields(a.next())[1])
		got = append(got, strings.Fields(b.next())[1])
	}
	a.do("ping", "Pong")
	b.do("ping", "Pong")
	for _, id := range held {
		if slices.Contains(got, id) {
			t.Errorf("%s went to both", id)
		}
	}
	_ = a.tcp.Close()
	b.send("prefetch 10")
	var want, after []string
	for _, id := range held {
		want = append(want, fmt.Sprintf(`Message: %s {"message_id":"%s"}`, id, id))
	}
	for len(after) < len(want) { // the reply may come before, after or among them
		if line := b.next(); line != "Prefetch 10" {
			after = append(after, line)
		}
	}
	if !slices.Equal(after, want) {
		t.Errorf("the other consumer received %q, want %q", after, want)
	}
}
