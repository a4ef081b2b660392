package mainserver_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq/audit"
	"github.com/sealmq/sealmq/pipeline"
)

const retryJobs = "/api/v1/messages/retry-jobs"

// ended waits for the end of a job.
func (s *server) ended(id string) answer {
	s.Helper()
	for deadline := time.Now().Add(time.Minute); ; {
		a := s.want(200, "GET", retryJobs+"/"+id, "")
		if a.str("state") != "running" {
			return a
		}
		if time.Now().After(deadline) {
			s.Fatalf("the job does not end: %s", a.body)
		}
	}
}

// states are the states of messages, in the order of ids.
func (s *server) states(ids ...string) (list []string) {
	s.Helper()
	for _, id := range ids {
		client, id, _ := strings.Cut(id, "/")
		a := s.want(200, "GET", "/api/v1/clients/"+client+"/messages/"+id, "")
		list = append(list, a.str("status"))
	}
	return list
}

func TestRetryJob(t *testing.T) {
	s := newServer(t, nil)
	for i := range 3 {
		s.fail("acme-01", fmt.Sprintf("f-%d", i))
	}
	s.fail("acme-02", "other")
	s.fail("acme-03", "gone")
	s.queue.set(func() { s.queue.dead = s.queue.dead[:len(s.queue.dead)-1] })
	job := s.want(202, "POST", retryJobs, `{"client_id":"acme-01"}`)
	end := s.ended(job.str("id"))
	if end.str("state") != "done" || end.m["looked"] != 3.0 || end.m["requeued"] != 3.0 || end.m["missing"] != 0.0 || end.str("started_by") != "admin-test" {
		t.Errorf("%s", end.body)
	}
	if got := s.states("acme-01/f-0", "acme-01/f-1", "acme-01/f-2", "acme-02/other"); fmt.Sprint(got) != "[queued queued queued failed]" {
		t.Errorf("%v", got)
	}
	// Named ones: the rows of those that are there follow, whatever the others are.
	job = s.want(202, "POST", retryJobs, `{"items":[{"client_id":"acme-03","message_id":"gone"},{"client_id":"acme-02","message_id":"other"}]}`)
	end = s.ended(job.str("id"))
	if end.m["requeued"] != 1.0 || end.m["missing"] != 1.0 {
		t.Errorf("%s", end.body)
	}
	if got := s.states("acme-02/other", "acme-03/gone"); fmt.Sprint(got) != "[queued failed]" {
		t.Errorf("%v", got)
	}
	s.want(422, "POST", retryJobs, `{"items":[{"client_id":"a","message_id":"b"}],"client_id":"a"}`)
	list := s.want(200, "GET", "/api/v1/audit?event_type=messages_retried", "")
	if len(list.items()) != 2 || !strings.Contains(list.body, "failed messages of client acme-01") {
		t.Errorf("%s", list.body)
	}
	timeline := s.want(200, "GET", "/api/v1/clients/acme-01/messages/f-0/timeline", "")
	if !strings.Contains(timeline.body, `"event":"given_up"`) || !strings.Contains(timeline.body, `"event":"requeued"`) {
		t.Errorf("%s", timeline.body)
	}
}

// TestRetryJobOfTwoTabs: the same work is done once, anybody can look at it and cancel it, and
// few jobs run at a time.
func TestRetryJobOfTwoTabs(t *testing.T) {
	s := newServer(t, nil)
	s.fail("acme-01", "f-1")
	s.fail("acme-01", "f-2")
	held := make(chan struct{})
	s.queue.set(func() { s.queue.held = held })
	s.writes.onNext(func() { s.want(200, "GET", retryJobs, "") }) // a write that hangs holds nobody else up
	first := s.want(202, "POST", retryJobs, `{}`)
	if again := s.want(202, "POST", retryJobs, `{}`); again.str("id") != first.str("id") {
		t.Errorf("a second tab began another job: %s", again.body)
	}
	for i := range 3 {
		s.want(202, "POST", retryJobs, fmt.Sprintf(`{"items":[{"client_id":"acme-01","message_id":"other-%d"},{"client_id":"acme-01","message_id":"f-1"}]}`, i))
	}
	s.want(409, "POST", retryJobs, `{"client_id":"acme-01"}`)
	if list := s.want(200, "GET", retryJobs, ""); len(list.items()) != 4 || list.items()[3]["id"] != first.str("id") {
		t.Errorf("%s", list.body)
	}
	s.want(200, "POST", retryJobs+"/"+first.str("id")+"/cancel", "")
	other := s.want(200, "GET", retryJobs, "")
	second, _ := other.items()[0]["id"].(string)
	s.want(200, "POST", retryJobs+"/"+second+"/cancel", "")
	close(held)
	if end := s.ended(second); end.str("state") != "cancelled" || end.m["looked"] != 1.0 {
		t.Errorf("%s", end.body)
	}
	s.ended(first.str("id"))
	s.want(200, "POST", retryJobs+"/"+first.str("id")+"/cancel", "")
}

// TestRetryJobAfterARestart: a job whose process has ended shows as interrupted, and its work can
// be started again.
func TestRetryJobAfterARestart(t *testing.T) {
	s := newServer(t, nil)
	s.fail("acme-01", "f-1")
	const id = "0195839e7a4000c0ffee"
	old := fmt.Sprintf(`{"id":%q,"state":"running","total":{"count":2,"exact":true},"looked":1,"requeued":1,"missing":0,"started_at":"2026-03-01T08:15:30Z","updated_at":"2026-03-01T08:15:30Z"}`, id)
	s.must(s.store.PutNote(s.Context(), "retry_job", id, old))
	if a := s.want(200, "GET", retryJobs+"/"+id, ""); a.str("state") != "interrupted" {
		t.Errorf("%s", a.body)
	}
	job := s.want(202, "POST", retryJobs, `{}`)
	if end := s.ended(job.str("id")); end.str("state") != "done" || end.m["requeued"] != 1.0 {
		t.Errorf("%s", end.body)
	}
	for i := range 30 {
		s.must(s.store.PutNote(s.Context(), "retry_job", fmt.Sprintf("%020d", i), "{}"))
	}
	if list, err := s.store.Notes(s.Context(), "retry_job"); err != nil || len(list) != 20 || !strings.Contains(list[0], job.str("id")) {
		t.Errorf("%d jobs are kept, %v", len(list), err)
	}
}

// TestRetryJobEndsBeforeTheStop: what a job has done is on record when the listener has stopped.
func TestRetryJobEndsBeforeTheStop(t *testing.T) {
	s := newServer(t, nil)
	s.fail("acme-01", "f-1")
	held, holds := make(chan struct{}), make(chan struct{})
	s.queue.set(func() { s.queue.held, s.queue.holds = held, holds })
	s.want(202, "POST", retryJobs, `{}`)
	<-holds
	stopped := make(chan error, 1)
	go func() { stopped <- s.listener.Shutdown(t.Context()) }()
	select {
	case err := <-stopped:
		t.Fatalf("it has stopped while a job runs: %v", err)
	case <-time.After(300 * time.Millisecond): // it waits, as it should
	}
	close(held)
	s.must(<-stopped)
	if jobs, err := s.store.Notes(t.Context(), "retry_job"); err != nil || len(jobs) != 1 || !strings.Contains(jobs[0], `"state":"interrupted"`) || !strings.Contains(jobs[0], `"requeued":1`) {
		t.Errorf("%s, %v", jobs, err)
	}
	if m, err := s.store.Get(t.Context(), "acme-01", "f-1"); err != nil || m.State != pipeline.Queued {
		t.Errorf("the message is %v, %v", m.State, err)
	}
	s.audit.mu.Lock()
	defer s.audit.mu.Unlock()
	if !slices.ContainsFunc(s.audit.list, func(r audit.Record) bool { return r.Command == "messages_retried" }) {
		t.Errorf("the audit has %+v", s.audit.list)
	}
}
