package text_test

import (
	"testing"
	"time"

	"github.com/sealmq/sealmq/broker"
	"github.com/sealmq/sealmq/engine"
	"github.com/sealmq/sealmq/engine/enginetest"
)

// rememberer is an engine that says for how long it remembers ids.
type rememberer struct {
	engine.Engine
	memory engine.Memory
}

func (r *rememberer) Memory() engine.Memory { return r.memory }

func TestWhoamiTellsTheMemory(t *testing.T) {
	eng := &rememberer{Engine: enginetest.NewModel(enginetest.Config{})}
	b, err := broker.New(broker.Config{Engine: eng})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close(); eng.Close() })
	n := &node{broker: b, engine: eng, peers: &table{}}
	const who = `Whoami: {"id":"alice","issuer":"test","common_name":"alice","role":"client"`
	for _, step := range []struct {
		memory engine.Memory
		want   string
	}{
		{engine.Memory{Window: time.Minute, MaxIDs: 5}, `,"dedup_window_s":60,"dedup_max_ids":5}`},
		{engine.Memory{Window: time.Hour, MaxIDs: 5, Reach: 7 * time.Second}, `,"dedup_window_s":3600,"dedup_max_ids":5,"dedup_reach_s":7}`},
		{engine.Memory{Window: time.Hour, MaxIDs: 5, Reach: time.Millisecond}, `,"dedup_window_s":3600,"dedup_max_ids":5,"dedup_reach_s":0}`},
	} {
		eng.memory = step.memory
		n.client(t, "alice").do("whoami", who+step.want)
	}
}
