package accounts

import (
	"sync"
	"time"
)

// limiter counts failures by key. It locks a key for a window once there were most of them
// within one.
type limiter struct {
	most   int
	window time.Duration

	mu   sync.Mutex
	keys map[string]*failed
}

type failed struct {
	since  time.Time // of the first that counts
	count  int
	locked time.Time // until then
}

// maxKeys bounds the memory. Strangers choose keys: if there are too many, some are forgotten.
const maxKeys = 100_000

func (l *limiter) current(key string, now time.Time) *failed {
	f := l.keys[key]
	if f != nil && (now.Sub(f.since) >= l.window || now.Before(f.since)) && !now.Before(f.locked) {
		delete(l.keys, key)
		return nil
	}
	return f
}

// take counts an attempt as failed before it is known: many at the same time must not get more
// tries than one after the other. It says how long to wait if the key is locked.
func (l *limiter) take(key string, now time.Time) (wait time.Duration, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := l.current(key, now)
	if f == nil {
		if l.keys == nil {
			l.keys = make(map[string]*failed)
		}
		if len(l.keys) >= maxKeys {
			l.makeRoom(now)
		}
		f = &failed{since: now}
		l.keys[key] = f
	}
	if now.Before(f.locked) {
		return f.locked.Sub(now), false
	}
	if f.count++; f.count >= l.most {
		f.locked = now.Add(l.window)
	}
	return 0, true
}

// giveBack undoes take for an attempt that was not a failure.
func (l *limiter) giveBack(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := l.keys[key]
	if f == nil {
		return
	}
	f.count--
	f.locked = time.Time{}
	if f.count <= 0 {
		delete(l.keys, key)
	}
}

// forget forgets the failures of a key.
func (l *limiter) forget(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.keys, key)
}

// locked reports whether a key is locked.
func (l *limiter) locked(key string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := l.current(key, now)
	return f != nil && now.Before(f.locked)
}

// makeRoom removes what has ended, or else about a tenth. The lock is held.
func (l *limiter) makeRoom(now time.Time) {
	for key := range l.keys {
		l.current(key, now)
	}
	if len(l.keys) < maxKeys {
		return
	}
	left := maxKeys / 10
	for key := range l.keys { // in random order
		if delete(l.keys, key); left == 0 {
			return
		}
		left--
	}
}
