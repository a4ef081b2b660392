package broker_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/broker"
	"github.com/sealmq/sealmq/engine"
)

// page is what a scrape would show, without the comments, and what is wrong with it.
func page(t *testing.T, c prometheus.Collector) (text string, problems []promlint.Problem) {
	t.Helper()
	registry := prometheus.NewRegistry()
	if err := registry.Register(c); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, f := range families {
		for _, m := range f.GetMetric() {
			b.WriteString(f.GetName())
			for _, l := range m.GetLabel() {
				fmt.Fprintf(&b, "{%s=%q}", l.GetName(), l.GetValue())
			}
			fmt.Fprintf(&b, " %v\n", m.GetCounter().GetValue()+m.GetGauge().GetValue())
		}
	}
	problems, err = promlint.NewWithMetricFamilies(families).Lint()
	if err != nil {
		t.Fatal(err)
	}
	return b.String(), problems
}

func TestMetrics(t *testing.T) {
	n := open(t)
	m := broker.NewMetrics()
	b, err := broker.New(broker.Config{Engine: n.engine, Metrics: m, Limits: broker.Limits{Queues: 7}})
	n.must(err)
	n.Broker = b
	n.must(n.declareQueue(alice, "q", &sealmq.QueueOptions{MaxMessages: 2}))
	n.must(n.bind(alice, "q", "x", "k"))
	p := func(exchange, id string) engine.Publish {
		return engine.Publish{Message: sealmq.Message{Exchange: exchange, Key: "k", ID: id}}
	}
	conflict := p("x", "1")
	conflict.Message.Body = []byte("other")
	n.publish(alice, p("x", "1"), p("x", "1"), conflict, p("none", "2"), p("x", "3"), p("x", "4"), p("none", "5"))
	c := n.consumer(bob, "q")
	list, err := c.Take(nil, 10, everything)
	n.must(err)
	n.must(n.do(func(done func(error)) {
		c.Settle([]engine.Settlement{{Tag: list[0].Tag, Verdict: engine.Extend}, {Tag: list[1].Tag, Verdict: engine.Extend},
			{Tag: list[1].Tag, Verdict: engine.Return, Uncounted: true}}, done)
	}))
	f := n.fetch(c, "q")
	list[1] = f.Delivery
	n.must(n.do(func(done func(error)) {
		c.Settle([]engine.Settlement{{Tag: list[0].Tag, Verdict: engine.Ack}, {Tag: list[1].Tag, Verdict: engine.Return}}, done)
	}))
	n.fetch(c, "q")
	n.code(sealmq.Denied, n.RequireAdmin(bob, "reset_stats"))
	want := `
sealmq_broker_consumers 1
sealmq_broker_dangling_bindings_total 0
sealmq_broker_definitions{kind="binding"} 1
sealmq_broker_definitions{kind="chain"} 0
sealmq_broker_definitions{kind="exchange"} 1
sealmq_broker_definitions{kind="key"} 0
sealmq_broker_definitions{kind="key_log"} 0
sealmq_broker_definitions{kind="queue"} 1
sealmq_broker_definitions_limit{kind="binding"} 1e+06
sealmq_broker_definitions_limit{kind="chain"} 10000
sealmq_broker_definitions_limit{kind="exchange"} 10000
sealmq_broker_definitions_limit{kind="key"} 100000
sealmq_broker_definitions_limit{kind="key_log"} 1e+06
sealmq_broker_definitions_limit{kind="queue"} 7
sealmq_broker_definitions_per_identity_limit{kind="binding"} 100000
sealmq_broker_definitions_per_identity_limit{kind="exchange"} 1000
sealmq_broker_definitions_per_identity_limit{kind="queue"} 7
sealmq_broker_definitions_refused_total{kind="binding"}{limit="all"} 0
sealmq_broker_definitions_refused_total{kind="binding"}{limit="identity"} 0
sealmq_broker_definitions_refused_total{kind="exchange"}{limit="all"} 0
sealmq_broker_definitions_refused_total{kind="exchange"}{limit="identity"} 0
sealmq_broker_definitions_refused_total{kind="queue"}{limit="all"} 0
sealmq_broker_definitions_refused_total{kind="queue"}{limit="identity"} 0
sealmq_broker_deliveries_total 4
sealmq_broker_denials_total{command="admin"} 1
sealmq_broker_publishes_total{outcome="conflict"} 1
sealmq_broker_publishes_total{outcome="refused"} 3
sealmq_broker_publishes_total{outcome="repeated"} 1
sealmq_broker_publishes_total{outcome="stored"} 2
sealmq_broker_refusals_total{reason="bad_name"} 0
sealmq_broker_refusals_total{reason="denied"} 0
sealmq_broker_refusals_total{reason="duplicate"} 1
sealmq_broker_refusals_total{reason="limit_reached"} 0
sealmq_broker_refusals_total{reason="no_exchange"} 2
sealmq_broker_refusals_total{reason="no_queue"} 0
sealmq_broker_refusals_total{reason="no_storage"} 0
sealmq_broker_refusals_total{reason="not_sealed"} 0
sealmq_broker_refusals_total{reason="other"} 0
sealmq_broker_refusals_total{reason="queue_full"} 1
sealmq_broker_refusals_total{reason="too_large"} 0
sealmq_broker_refusals_total{reason="unavailable"} 0
sealmq_broker_refusals_total{reason="unroutable"} 0
sealmq_broker_settlements_total{verdict="ack"} 1
sealmq_broker_settlements_total{verdict="dead"} 0
sealmq_broker_settlements_total{verdict="drop"} 0
sealmq_broker_settlements_total{verdict="extend"} 2
sealmq_broker_settlements_total{verdict="release"} 1
sealmq_broker_settlements_total{verdict="return"} 1
`
	got, _ := page(t, m)
	if diff := cmp.Diff(strings.TrimPrefix(want, "\n"), got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestMetricsAreCleanAndBounded(t *testing.T) {
	m := broker.NewMetrics()
	n := open(t)
	b, err := broker.New(broker.Config{Engine: n.engine, Metrics: m})
	n.must(err)
	n.Broker = b
	for i := range 300 {
		name := fmt.Sprint("name-", i)
		n.must(n.bind(alice, name, name, name))
		n.one("missing-"+name, name, name)
		n.code(sealmq.Denied, n.RequireAdmin(bob, name))
		n.code(sealmq.Denied, n.deleteExchange(bob, name))
	}
	text, problems := page(t, m)
	if got := strings.Count(text, "\n"); got > 50 {
		t.Errorf("%d series", got)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	for _, name := range []string{"alice", "bob", "name-7"} {
		if strings.Contains(text, name) {
			t.Errorf("%q is in the metrics", name)
		}
	}
}
