package mainserver_test

import (
	"cmp"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/pipeline"
)

// TestTimeline: a message's page can tell its story, with what is not kept of it.
func TestTimeline(t *testing.T) {
	s := newServer(t, nil)
	s.register("acme-01", "m-1", "m-2")
	var updates []pipeline.Update
	for n := 1; n <= 60; n++ {
		updates = append(updates, pipeline.Update{MessageID: "m-1", ClientID: "acme-01", State: pipeline.Queued, Attempts: n, Error: "503", Worker: "worker-1", At: time.Now().Add(time.Duration(n) * time.Millisecond)})
	}
	deliver := toJSON(map[string]any{"worker_id": "worker-2", "messages": []pipeline.Item{s.attempt("m-1", 63), s.attempt("m-2", 1)}})
	worker := s.as(sealmq.RoleWorker)
	if a := s.ask(worker, "POST", "/api/v1/internal/messages/status", toJSON(map[string]any{"updates": updates})); a.StatusCode != 200 {
		t.Fatal(a.body)
	}
	if a := s.ask(worker, "POST", "/api/v1/internal/messages/deliver", deliver); a.StatusCode != 200 {
		t.Fatal(a.body)
	}
	story := func(id string) (list []string) {
		a := s.want(200, "GET", "/api/v1/clients/acme-01/messages/"+id+"/timeline", "")
		if a.m["workers"] != float64(1) {
			t.Errorf("%v workers are connected", a.m["workers"])
		}
		events, _ := a.m["events"].([]any)
		for _, v := range events {
			e, _ := v.(map[string]any)
			list = append(list, fmt.Sprint(e["event"], " ", e["attempt"], " ", cmp.Or(e["proxy_id"], e["worker_id"]), " ", e["omitted"]))
		}
		return list
	}
	long := story("m-1")
	if len(long) != 52 || long[1] != "failed 1 worker-1 <nil>" || long[11] != "failed 21 worker-1 10" || long[51] != "delivered 63 worker-2 2" {
		t.Errorf("%d events: %v", len(long), long)
	}
	if got := story("m-2"); !slices.Equal(got, []string{"accepted <nil> proxy <nil>", "delivered 1 worker-2 <nil>"}) {
		t.Errorf("%v", got)
	}
}

// attempt is an item of acme-01 at an attempt.
func (s *server) attempt(id string, n int) pipeline.Item {
	it := s.item("acme-01", id)
	it.AttemptCount = n
	return it
}
