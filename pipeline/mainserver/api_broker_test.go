package mainserver_test

import (
	"context"
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/api"
	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/internal/testing/testnode"
	"github.com/sealmq/sealmq/pipeline/brokerview"
	"github.com/sealmq/sealmq/pipeline/mainserver"
)

// fillBroker gives a broker the queue results with two dead letters, and a client that is
// connected as connection 1. It returns the first letter as the API takes it.
func fillBroker(t *testing.T, n *testnode.Node) (letter string) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	c := n.Dial(client.Config{Meta: true, BackoffMin: 1 << 40})
	must(c.Bind(t.Context(), "results", "x", "k"))
	_, err := c.Command(t.Context(), "register_key clinic "+base64.StdEncoding.EncodeToString(append([]byte{9}, make([]byte, 31)...)))
	must(err)
	for _, id := range []string{"d-1", "d-2", "d-3"} {
		must(c.Publish(t.Context(), sealmq.Message{ID: id, Exchange: "x", Key: "k", Body: []byte(`{"message_id":"` + id + `"}`)}))
	}
	sub, err := c.Consume(t.Context(), "results", 10)
	must(err)
	list := make([]sealmq.Delivery, 2)
	for left := 2; left > 0; {
		n, err := sub.Next(t.Context(), list[:left])
		must(err)
		must(sub.Dead("not readable", list[:n]...))
		left -= n
	}
	must(sub.Close(t.Context()))
	dead, err := c.Peek(t.Context(), "results.dead", 0, 1)
	must(err)
	return toJSON(map[string]any{"id": dead[0].ID, "seq": dead[0].Seq})
}

// TestBrokerActsAreOnRecord: who did what to the broker is in the audit log, with the figures.
func TestBrokerActsAreOnRecord(t *testing.T) {
	var node *testnode.Node
	s := newServer(t, withBroker(&node))
	fillBroker(t, node)
	a := s.want(200, "GET", "/api/v1/broker/queue/messages?name=results.dead", "")
	if items := a.items(); len(items) != 2 || items[0]["death_queue"] != "results" || items[0]["death_reason"] != "not readable" || strings.Contains(a.body, "message_id") {
		t.Errorf("dead letters: %s", a.body)
	}
	if a := s.want(200, "POST", "/api/v1/broker/dead/return", `{"queue":"results.dead","all":true}`); a.m["returned"] != 2.0 || a.m["kept"] != 0.0 {
		t.Errorf("returned: %s", a.body)
	}
	if a := s.want(200, "GET", "/api/v1/broker/queue?name=results", ""); a.m["queue"].(map[string]any)["ready"] != 3.0 || a.m["dead_ready"] != nil {
		t.Errorf("after the return: %s", a.body)
	}
	s.want(204, "POST", "/api/v1/broker/connections/1/disconnect", `{"reason":"stolen"}`)
	s.want(200, "POST", "/api/v1/broker/queue/purge?name=results", `{"name":"results"}`)
	s.want(200, "POST", "/api/v1/broker/queue/delete?name=results", `{"name":"results"}`)
	log := s.want(200, "GET", "/api/v1/audit", "").body
	for _, want := range []string{"dead_letters_returned", "broker_connection_closed", "stolen", "broker_queue_purged", `"messages":3`, "broker_queue_deleted", "admin-test"} {
		if !strings.Contains(log, want) {
			t.Errorf("not in the audit log: %s", want)
		}
	}
}

// TestBrokerAway: everything says so in words, and nothing hangs.
func TestBrokerAway(t *testing.T) {
	s := newServer(t, func(_ *server, cfg *mainserver.HandlerConfig) {
		cfg.Broker = brokerview.New(brokerview.Config{Connect: func(context.Context) (sealmq.Manager, error) { return nil, errors.New("refused") }})
	})
	for _, path := range []string{"queues", "queue?name=q", "queue/messages?name=q", "exchanges", "exchange?name=x", "connections"} {
		if a := s.want(503, "GET", "/api/v1/broker/"+path, ""); !strings.Contains(a.body, "cannot be reached") {
			t.Errorf("%s: %s", path, a.body)
		}
	}
	s.want(503, "POST", "/api/v1/broker/queue/purge?name=q", `{"name":"q"}`)
	s.want(503, "POST", "/api/v1/broker/dead/return", `{"queue":"q.dead","all":true}`)
}

// TestNoBroker: a main server without a broker says so to each operation of the broker.
func TestNoBroker(t *testing.T) {
	s := newServer(t, nil)
	operations, err := api.Operations(api.TagMain)
	s.must(err)
	bodies := map[string]string{"queue/purge": `{"name":"q"}`, "queue/delete": `{"name":"q"}`, "dead/return": `{"queue":"q.dead","all":true}`,
		"queues": `{"name":"q"}`, "queue/options": `{}`, "connections/{connection_id}/disconnect": `{"reason":"no reason"}`}
	asked := 0
	for pattern, o := range operations {
		method, path, _ := strings.Cut(pattern, " ")
		rest, isBroker := strings.CutPrefix(path, "/api/v1/broker/")
		if isBroker != (o.Task == "broker") {
			t.Errorf("%s has the tag %s", pattern, o.Task)
		}
		if !isBroker {
			continue
		}
		body := ""
		if method != "GET" {
			body = bodies[rest]
		}
		if a := s.want(503, method, strings.Replace(path, "{connection_id}", "7", 1)+"?name=q", body); !strings.Contains(a.body, "looks after no broker") {
			t.Errorf("%s: %s", pattern, a.body)
		}
		asked++
	}
	if asked != 15 {
		t.Errorf("%d operations were asked for", asked)
	}
}
