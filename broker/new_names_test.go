package broker_test

import (
	"testing"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/broker"
	"github.com/sealmq/sealmq/engine"
)

// hidden are names that look like others or like nothing.
var hidden = []string{"a\u200bb", "\u3164", "a\ufe0f", "a\u2800", "a\u202eb", "a\U000e0041", "a\u00ad", "a\u2066b"}

// Names with characters that nobody sees are not made. Those that were made before still work.
func TestHiddenCharactersInNames(t *testing.T) {
	n := open(t)
	n.must(n.declareExchange(alice, "x", broker.Direct))
	n.must(n.declareQueue(alice, "q", nil))
	for _, name := range hidden {
		n.code(sealmq.BadName, n.declareQueue(alice, name, nil))
		n.code(sealmq.BadName, n.declareQueue(alice, name+sealmq.DeadSuffix, nil))
		n.code(sealmq.BadName, n.declareExchange(alice, name, ""))
		n.code(sealmq.BadName, n.bind(alice, name, "x", "k"))
		n.code(sealmq.BadName, n.bind(alice, "q", name, "k"))
		n.code(sealmq.BadName, n.bind(alice, "q", "x", name))
		n.code(sealmq.BadName, errOf(n.putKey(admin, name, bareKey(1))))
	}
	if exchanges := n.Exchanges(alice); len(exchanges) != 1 {
		t.Errorf("%v", exchanges)
	}
	for _, name := range hidden {
		n.must(n.do(func(done func(error)) {
			n.engine.DeclareQueue(name, sealmq.QueueOptions{}, 0, func(_ engine.QueueInfo, _ bool, err error) { done(err) })
		}))
		n.must(n.do(func(done func(error)) {
			n.engine.Define([]engine.Definition{{Key: "exchange/" + name, Value: []byte(`{"v":1,"kind":"direct"}`)}}, done)
		}))
	}
	n.restart()
	for _, name := range hidden {
		n.must(n.declareQueue(alice, name, nil))
		n.must(n.declareExchange(alice, name, broker.Direct))
		n.must(n.bind(admin, name, name, "k"))
	}
}
