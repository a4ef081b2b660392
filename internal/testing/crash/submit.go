package crash

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/sealmq/sealmq/api/proxyapi"
)

const (
	submitters  = 6
	largest     = 20 // messages of a request
	batchOne    = 3  // one request in so many is a batch
	repeatedOne = 15 // one message in so many is submitted again later
)

// submissions is the load of a pipeline, and what it was answered.
type submissions struct {
	proxies  []*proxyapi.ClientWithResponses // each request goes to any
	running  sync.WaitGroup
	finished chan struct{} // closed when no more messages are to be submitted

	mu       sync.Mutex
	next     int
	ids      map[string]string // of answered messages, by the client's own key
	repeats  int
	problems []string
}

// start begins to submit to proxies. It stops when ctx ends, or at finish.
func (s *submissions) start(ctx context.Context, hc *http.Client, rng *rand.Rand, proxies ...string) {
	for _, url := range proxies {
		c, _ := proxyapi.NewClientWithResponses(url, proxyapi.WithHTTPClient(hc)) // the address is well formed
		s.proxies = append(s.proxies, c)
	}
	s.finished, s.ids = make(chan struct{}), make(map[string]string)
	for range submitters {
		rng := rand.New(rand.NewPCG(rng.Uint64(), rng.Uint64()))
		s.running.Go(func() {
			defer hc.CloseIdleConnections()
			s.submit(ctx, rng)
		})
	}
}

// finish waits until every message that was begun is answered.
func (s *submissions) finish(ctx context.Context) error {
	close(s.finished)
	s.running.Wait()
	return ctx.Err()
}

func (s *submissions) answered() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.ids)
}

// submit submits messages, each until it is answered.
func (s *submissions) submit(ctx context.Context, rng *rand.Rand) {
	for ctx.Err() == nil {
		select {
		case <-s.finished:
			return
		default:
		}
		n := 1
		if rng.IntN(batchOne) == 0 {
			n = 1 + rng.IntN(largest)
		}
		var list []proxyapi.Submission
		s.mu.Lock()
		for range n {
			key := s.next
			if rng.IntN(repeatedOne) == 0 && s.ids[keyOf(key/2)] != "" {
				key /= 2
			} else {
				s.next++
			}
			list = append(list, submission(key))
		}
		s.mu.Unlock()
		for len(list) > 0 && ctx.Err() == nil {
			if list = s.try(ctx, s.proxies[rng.IntN(len(s.proxies))], list); len(list) > 0 {
				pause(ctx, time.Duration(5+rng.IntN(50))*time.Millisecond)
			}
		}
		pause(ctx, time.Duration(rng.IntN(10))*time.Millisecond)
	}
}

func keyOf(n int) string { return fmt.Sprint("key-", n) }

// submission is message n; it is always the same.
func submission(n int) proxyapi.Submission {
	return proxyapi.Submission{MessageID: keyOf(n), SenderNumber: fmt.Sprintf("+49152%08d", n), MessageBody: fmt.Sprint("the text of message ", n)}
}

// try submits messages once and returns those that were not answered.
func (s *submissions) try(ctx context.Context, proxy *proxyapi.ClientWithResponses, list []proxyapi.Submission) (again []proxyapi.Submission) {
	if len(list) == 1 {
		r, err := proxy.SubmitMessageWithResponse(ctx, nil, list[0])
		switch {
		case err != nil || r.StatusCode() >= http.StatusInternalServerError:
			return list
		case r.JSON202 == nil:
			s.problem("%s was answered %s: %s", list[0].MessageID, r.Status(), r.Body)
			return nil
		}
		s.accept(list[0].MessageID, r.JSON202.MessageID)
		return nil
	}
	r, err := proxy.SubmitBatchWithResponse(ctx, proxyapi.SubmissionBatch{Messages: list})
	switch {
	case err != nil || r.StatusCode() >= http.StatusInternalServerError:
		return list
	case r.JSON200 == nil || len(r.JSON200.Results) != len(list):
		s.problem("a batch was answered %s: %s", r.Status(), r.Body)
		return nil
	}
	for i, res := range r.JSON200.Results {
		switch res.Status {
		case proxyapi.SubmissionResultStatusQueued:
			s.accept(list[i].MessageID, res.MessageID)
		case proxyapi.SubmissionResultStatusInvalid, proxyapi.SubmissionResultStatusConflict:
			s.problem("%s is %s: %s", list[i].MessageID, res.Status, res.Detail)
		default: // the queue was away
			again = append(again, list[i])
		}
	}
	return again
}

// accept notes that a message was answered.
func (s *submissions) accept(key, id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if before := s.ids[key]; before != "" {
		s.repeats++
		if before != id {
			s.describe("%s has the ids %s and %s", key, before, id)
		}
	}
	s.ids[key] = id
}

func (s *submissions) problem(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.describe(format, args...)
}

// describe keeps a problem. The caller has the lock.
func (s *submissions) describe(format string, args ...any) {
	if len(s.problems) < maxProblems {
		s.problems = append(s.problems, fmt.Sprintf(format, args...))
	}
}

// report adds what the load saw.
func (s *submissions) report(r *Report) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r.Attempted, r.Confirmed, r.Redelivered = s.next, len(s.ids), s.repeats
	for _, p := range s.problems {
		r.problem("%s", p)
	}
}

// judge compares the rows of a database with the answers.
func (s *submissions) judge(db *sql.DB, r *Report) error {
	rows, err := db.Query("SELECT client_id, client_key, message_id, status FROM messages")
	if err != nil {
		return err
	}
	defer rows.Close()
	seen := make(map[string]int)
	for rows.Next() {
		var client, key, id, status string
		if err := rows.Scan(&client, &key, &id, &status); err != nil {
			return err
		}
		seen[key]++
		switch want := s.ids[key]; {
		case client != pipelineClient || want == "":
			r.Invented++
			r.problem("there is a row of %s for %q, which was not answered", client, key)
		case id != want:
			r.Altered++
			r.problem("%s was answered with the id %s, and its row has %s", key, want, id)
		case seen[key] > 1:
			r.Duplicates++
			r.problem("%s has %d rows", key, seen[key])
		case status == "delivered":
			r.Delivered++
		default:
			r.Lost++
			r.problem("%s is %s", key, status)
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	for key := range s.ids {
		if seen[key] == 0 {
			r.Lost++
			r.problem("%s was answered with 202 and has no row", key)
		}
	}
	return nil
}
