package text_test

import (
	"testing"
	"time"

	"github.com/sealmq/sealmq/broker"
	"github.com/sealmq/sealmq/engine"
	"github.com/sealmq/sealmq/engine/enginetest"
)

// reporter is an engine that says for how long it remembers ids.
type reporter struct {
	engine.Engine
	horizon engine.DedupHorizon
}

func (r *reporter) DedupHorizon() engine.DedupHorizon { return r.horizon }

func TestWhoamiTellsTheDedupHorizon(t *testing.T) {
	eng := &reporter{Engine: enginetest.NewModel(enginetest.Config{})}
	b, err := broker.New(broker.Config{Engine: eng})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close(); eng.Close() })
	n := &node{broker: b, engine: eng, peers: &table{}}
	const who = `Whoami: {"id":"alice","issuer":"test","common_name":"alice","role":"client"`
	for _, step := range []struct {
		horizon engine.DedupHorizon
		want    string
	}{
		{engine.DedupHorizon{Window: time.Minute, MaxIDs: 5}, `,"dedup_window_s":60,"dedup_max_ids":5}`},
		{engine.DedupHorizon{Window: time.Hour, MaxIDs: 5, Covered: 7 * time.Second}, `,"dedup_window_s":3600,"dedup_max_ids":5,"dedup_reach_s":7}`},
		{engine.DedupHorizon{Window: time.Hour, MaxIDs: 5, Covered: time.Millisecond}, `,"dedup_window_s":3600,"dedup_max_ids":5,"dedup_reach_s":0}`},
	} {
		eng.horizon = step.horizon
		n.client(t, "alice").do("whoami", who+step.want)
	}
}
