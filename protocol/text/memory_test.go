package text_test

import (
	"testing"
	"time"

	"github.com/sealmq/sealmq/broker"
	"github.com/sealmq/sealmq/broker/enginetest"
)

// rememberer is an engine that says for how long it remembers ids.
type rememberer struct {
	broker.Engine
	memory broker.Memory
}

func (r *rememberer) Memory() broker.Memory { return r.memory }

func TestWhoamiTellsTheMemory(t *testing.T) {
	engine := &rememberer{Engine: enginetest.NewModel(enginetest.Config{})}
	b, err := broker.New(broker.Config{Engine: engine})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close(); engine.Close() })
	n := &node{broker: b, engine: engine, peers: &table{}}
	const who = `Whoami: {"id":"alice","issuer":"test","common_name":"alice","role":"client"`
	for _, step := range []struct {
		memory broker.Memory
		want   string
	}{
		{broker.Memory{Window: time.Minute, MaxIDs: 5}, `,"dedup_window_s":60,"dedup_max_ids":5}`},
		{broker.Memory{Window: time.Hour, MaxIDs: 5, Reach: 7 * time.Second}, `,"dedup_window_s":3600,"dedup_max_ids":5,"dedup_reach_s":7}`},
		{broker.Memory{Window: time.Hour, MaxIDs: 5, Reach: time.Millisecond}, `,"dedup_window_s":3600,"dedup_max_ids":5,"dedup_reach_s":0}`},
	} {
		engine.memory = step.memory
		n.client(t, "alice").do("whoami", who+step.want)
	}
}
