package broker_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/broker"
	"github.com/sealmq/sealmq/engine"
	"github.com/sealmq/sealmq/engine/enginetest"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// TestDefinitionsGolden shows what is stored. Data of a released version must stay
// readable, so a change here needs a new version and a way to read the old one.
func TestDefinitionsGolden(t *testing.T) {
	n := open(t)
	n.must(n.declareExchange(alice, "orders", broker.Topic))
	n.must(n.declareExchange(alice, "é", broker.Fanout))
	n.must(n.bind(alice, "q", "orders", "eu.*.#"))
	n.must(n.bind(alice, "q/1", "x", "k"))
	_, err := n.putKey(alice, "alice", []byte("0123456789abcdef0123456789abcdef"))
	n.must(err)
	var b strings.Builder
	for _, d := range n.engine.Definitions() {
		b.WriteString(d.Key + " = " + string(d.Value) + "\n")
	}
	path := filepath.Join("testdata", "definitions.golden")
	if *update {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	n.must(err)
	if diff := cmp.Diff(string(want), b.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// prepared is a model with definitions and one queue, and what New says about it.
func prepared(t *testing.T, definitions ...string) (engine.Engine, *broker.Broker, *broker.Metrics, error) {
	t.Helper()
	e := enginetest.NewModel(enginetest.Config{})
	t.Cleanup(func() { e.Close() })
	e.DeclareQueue("q", sealmq.QueueOptions{}, 0, func(engine.QueueInfo, bool, error) {})
	for _, d := range definitions {
		key, value, _ := strings.Cut(d, " = ")
		e.Define([]engine.Definition{{Key: key, Value: []byte(value)}}, func(error) {})
	}
	m := broker.NewMetrics()
	b, err := broker.New(broker.Config{Engine: e, Metrics: m})
	return e, b, m, err
}

func TestDefinitionsThatAreNotUnderstood(t *testing.T) {
	for _, tc := range []struct{ name, definition, want string }{
		{"exchange of the future", `exchange/x = {"v":3,"kind":"direct","durable":true}`, `"exchange/x" has version 3`},
		{"binding of the future", `binding/q x k = {"v":2}`, `"binding/q x k" has version 2`},
		{"key of the future", `key/a = {"v":3}`, `"key/a" has version 3`},
		{"unknown kind", `grant/alice = {"v":1}`, `"grant/alice" is of an unknown kind`},
		{"unknown member", `exchange/x = {"v":1,"kind":"direct","alternate":"y"}`, `"exchange/x" is damaged`},
		{"unknown member of a binding", `binding/q x k = {"v":1,"arguments":{}}`, `"binding/q x k" is damaged`},
		{"unknown exchange kind", `exchange/x = {"v":1,"kind":"headers"}`, `"exchange/x" is damaged`},
		{"no version", `exchange/x = {"kind":"direct"}`, `"exchange/x" is damaged`},
		{"no JSON", `exchange/x = direct`, `"exchange/x" is damaged`},
		{"no value", `key/a = `, `"key/a" is damaged`},
		{"two names", `binding/q x = {"v":1}`, `"binding/q x" is damaged`},
		{"no name", `exchange/ = {"v":1,"kind":"direct"}`, `"exchange/" is damaged`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, _, _, err := prepared(t, `exchange/good = {"v":1,"kind":"direct"}`, tc.definition)
			if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "good") {
				t.Errorf("error %v, want one about %s", err, tc.want)
			}
		})
	}
	_, _, _, err := prepared(t, `exchange/x = {"v":2}`, `key/a = {"v":2}`)
	if err == nil || !strings.Contains(err.Error(), "exchange/x") || !strings.Contains(err.Error(), "key/a") {
		t.Errorf("error %v, want both problems", err)
	}
}

// TestDanglingBindings has what a crash between the steps of a deletion can leave.
func TestDanglingBindings(t *testing.T) {
	e, b, m, err := prepared(t,
		`exchange/x = {"v":1,"kind":"direct"}`,
		`binding/q x k = {"v":1}`,
		`binding/gone x k = {"v":1}`,
		`binding/q gone k = {"v":1}`,
		`binding/gone gone k = {"v":1}`)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]broker.Binding{{Queue: "q", Exchange: "x", Key: "k"}}, b.Bound(admin)); diff != "" {
		t.Errorf("bindings (-want +got):\n%s", diff)
	}
	if n := len(e.Definitions()); n != 2 {
		t.Errorf("%d definitions are left, want the exchange and the binding: %q", n, e.Definitions())
	}
	if text, _ := page(t, m); !strings.Contains(text, "sealmq_broker_dangling_bindings_total 3\n") {
		t.Errorf("the removed bindings are not counted:\n%s", text)
	}
}

// TestCrashWhileDeletingAQueue cuts the power between the two steps of a deletion.
func TestCrashWhileDeletingAQueue(t *testing.T) {
	n := open(t)
	n.must(n.bind(alice, "q", "x", "k"))
	n.must(n.bind(alice, "r", "x", "k"))
	n.engine.Define([]engine.Definition{{Key: "binding/q x k"}}, func(error) {})
	n.disk.Crash(t)
	n.start()
	n.stored("x", "k", "1")
	n.holds("q")
	n.holds("r", "1")
	n.must(n.bind(alice, "q", "x", "k"))
	n.stored("x", "k", "2")
	n.holds("q", "2")
}

func TestManyDefinitionsLoad(t *testing.T) {
	n := open(t)
	const queues = 300
	for i := range queues {
		q := strings.Repeat("q", 1+i%50) + string(rune('a'+i/50))
		n.DeclareQueue(alice, q, nil, func(error) {})
		n.Bind(alice, q, "x", q, func(error) {})
		n.Bind(alice, q, "x", "all", func(error) {})
	}
	counts := n.Counts()
	n.restart()
	if diff := cmp.Diff(counts, n.Counts()); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
	n.stored("x", "all", "1")
	for _, info := range n.queues(admin) {
		if info.Ready != 1 {
			t.Errorf("queue %s has %d", info.Name, info.Ready)
		}
	}
}

func TestNewNeedsAnEngine(t *testing.T) {
	if _, err := broker.New(broker.Config{}); err == nil || sealmq.CodeOf(err) != "" {
		t.Errorf("error %v", err)
	}
}
