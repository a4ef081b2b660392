// Package cached keeps what many ask for and what costs something to find out.
package cached

import (
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
)

// A Value is found out at most once in a while, however many ask for it. Its zero value was
// never found out. It is safe for concurrent use.
type Value[T any] struct {
	finding singleflight.Group

	mu   sync.Mutex
	at   time.Time // when it was found out, or was tried to be
	last T
}

// Get returns the value as find returned it at most age ago, or calls find. No two calls of find
// run at a time: a caller that asks meanwhile waits for the one that runs. If find returns an error, the
// value stays what it was, and is not tried again before age is over.
func (v *Value[T]) Get(age time.Duration, find func() (T, error)) T {
	if last, ok := v.recent(age); ok {
		return last
	}
	_, _, _ = v.finding.Do("", func() (any, error) {
		if _, ok := v.recent(age); ok { // found out since we looked
			return nil, nil
		}
		found, err := find()
		v.mu.Lock()
		defer v.mu.Unlock()
		if err == nil {
			v.last = found
		}
		v.at = time.Now()
		return nil, nil
	})
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.last
}

func (v *Value[T]) recent(age time.Duration) (T, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.last, !v.at.IsZero() && time.Since(v.at) < age
}
