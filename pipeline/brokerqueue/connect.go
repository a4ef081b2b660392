package brokerqueue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sealmq/sealmq"
)

// Times of attempts to connect and to declare.
const (
	firstPause     = 100 * time.Millisecond
	longestPause   = 5 * time.Second
	attemptTimeout = 15 * time.Second // longer than a client takes to dial
)

// attempt is one try to connect and to declare, which several calls wait for.
type attempt struct {
	done chan struct{}
	err  error // set before done is closed
}

// refusal is an error that another attempt would only meet again.
type refusal struct{ err error }

func (r *refusal) Error() string { return r.err.Error() }
func (r *refusal) Unwrap() error { return r.err }

// away is the error of a call while there is no queue.
func away(why error) error {
	return &sealmq.Error{Code: sealmq.Unavailable, Message: "the queue cannot be reached; try again", Err: why}
}

// ready returns the connection once it is there and the queue is declared. If it is not, it
// waits for an attempt, up to ctx; in the pause after one that failed it fails at once.
func (q *Queue) ready(ctx context.Context) (sealmq.Connection, error) {
	q.mu.Lock()
	switch {
	case q.closed:
		q.mu.Unlock()
		return nil, away(sealmq.ErrClosed)
	case q.declared:
		defer q.mu.Unlock()
		return q.conn, nil
	case q.attempt == nil && time.Now().Before(q.next):
		defer q.mu.Unlock()
		return nil, away(q.failed)
	case q.attempt == nil:
		q.attempt = &attempt{done: make(chan struct{})}
		go q.try(q.attempt, q.conn)
	}
	a := q.attempt
	q.mu.Unlock()
	select {
	case <-a.done:
	case <-ctx.Done():
		return nil, away(ctx.Err())
	}
	if a.err != nil {
		return nil, away(a.err)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.conn, nil
}

// try makes one attempt. It is not bounded by the call that began it: that one may have less
// patience than a handshake takes.
func (q *Queue) try(a *attempt, conn sealmq.Connection) {
	ctx, cancel := context.WithTimeout(q.life, attemptTimeout)
	defer cancel()
	var err error
	if conn == nil {
		if conn, err = q.connect(ctx); err != nil {
			conn = nil
			if !sealmq.CodeOf(err).Info().Retry {
				err = &refusal{err}
			}
		}
	}
	if err == nil {
		if err = declare(ctx, conn); sealmq.CodeOf(err) != "" && !sealmq.CodeOf(err).Info().Retry {
			err = &refusal{err}
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.conn, q.attempt, q.declared = conn, nil, err == nil
	switch {
	case err != nil:
		if q.failed == nil && q.life.Err() == nil {
			q.log.Warn("the queue of the pipeline cannot be used; trying again", "error", err)
		}
		q.pause = min(max(firstPause, 2*q.pause), longestPause)
		q.failed, q.next = err, time.Now().Add(q.pause)
	case q.failed != nil:
		q.log.Info("the queue of the pipeline is there")
		q.failed, q.pause = nil, 0
	}
	a.err = err
	close(a.done)
}

// lookAt notes an answer that says that the queue was deleted: it is declared again with the
// next call. It returns the error that fits.
func (q *Queue) lookAt(err error) error {
	if !errors.Is(err, sealmq.ErrNoQueue) && !errors.Is(err, sealmq.ErrNoExchange) && !errors.Is(err, sealmq.ErrUnroutable) {
		return err
	}
	q.mu.Lock()
	q.declared = false
	q.mu.Unlock()
	return away(fmt.Errorf("it was deleted and is made again: %w", err))
}
