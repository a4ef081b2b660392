package enginetest

import (
	"fmt"
	"reflect"

	"github.com/google/go-cmp/cmp"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
)

func definition(key, value string) engine.Definition {
	return engine.Definition{Key: key, Value: []byte(value)}
}

func (h *harness) definitions(want ...engine.Definition) {
	h.Helper()
	got := h.engine.Definitions()
	if len(want) == 0 && len(got) == 0 || reflect.DeepEqual(want, got) {
		return
	}
	if diff := cmp.Diff(want, got); diff != "" {
		h.Errorf("definitions (-want +got):\n%s", diff)
	}
}

var definitionChecks = []check{
	{name: "set, replace, remove", run: func(h *harness) {
		h.definitions()
		h.define(definition("b", "1"), definition("a", "1"), definition("c", "")).must()
		h.definitions(definition("a", "1"), definition("b", "1"), definition("c", ""))
		h.define(definition("b", "2"), engine.Definition{Key: "a"}, engine.Definition{Key: "none"}).must()
		h.definitions(definition("b", "2"), definition("c", ""))
		h.define(engine.Definition{Key: "d"}, definition("d", "1"), definition("d", "2")).must()
		h.define(definition("e", "1"), engine.Definition{Key: "e"}).must()
		h.definitions(definition("b", "2"), definition("c", ""), definition("d", "2"))
	}},
	{name: "in effect at once", run: func(h *harness) {
		p := h.define(definition("a", "1"))
		h.definitions(definition("a", "1"))
		q := h.define(engine.Definition{Key: "a"})
		h.definitions()
		p.must()
		q.must()
	}},
	{name: "any bytes", run: func(h *harness) {
		every := make([]byte, 0, 70_000)
		for len(every) < cap(every) {
			every = append(every, byte(len(every)))
		}
		want := []engine.Definition{
			{Key: "binding/q x \x00\n", Value: every},
			{Key: "key/é", Value: []byte{0}},
		}
		h.define(want...).must()
		h.definitions(want...)
	}},
}

var definitionRestartChecks = []restartCheck{
	{name: "kept", run: func(h *harness, restart func()) {
		var want []engine.Definition
		for i := range 500 {
			want = append(want, definition(fmt.Sprintf("k%03d", i), fmt.Sprint(i)))
		}
		h.define(want...).must()
		h.define(engine.Definition{Key: "k100"}, definition("k101", "new"), definition("k102", "")).must()
		want[101].Value, want[102].Value = []byte("new"), []byte{}
		want = append(want[:100], want[101:]...)
		for range 3 {
			restart()
			h.definitions(want...)
		}
	}},
	{name: "all or none, in the order of the calls", run: func(h *harness, restart func()) {
		h.queue("q", sealmq.QueueOptions{})
		for i := range 50 {
			// What is called first is also kept first; only the last is awaited.
			h.define(definition("a", fmt.Sprint(i)), definition("b", fmt.Sprint(i)))
			h.publish(engine.Publish{Message: message(fmt.Sprint(i)), Queues: []string{"q"}})
		}
		h.settled()
		restart()
		got := h.engine.Definitions()
		if len(got) != 3 || string(got[0].Value) != "49" || string(got[1].Value) != "49" {
			h.Errorf("definitions %q", got)
		}
		h.holds("q", 50, 0)
	}},
}
