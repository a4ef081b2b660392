package accounts

import (
	"context"
	"sync"
	"time"
)

// Failures are the failed tries to log in with an e-mail address, or from a network address.
type Failures struct {
	Count       int
	Since       time.Time // of the first that counts
	LockedUntil time.Time // zero if there were too few
}

// limit locks for a window after most failures within one.
type limit struct {
	most   int
	window time.Duration
}

// take counts a try as failed before it is known: many at the same time must not get more tries
// than one after the other. It says how long to wait if they are locked.
func (l limit) take(f *Failures, now time.Time) (wait time.Duration, ok bool) {
	if now.Before(f.LockedUntil) {
		return f.LockedUntil.Sub(now), false
	}
	if f.Count == 0 || now.Sub(f.Since) >= l.window || now.Before(f.Since) {
		*f = Failures{Since: now}
	}
	if f.Count++; f.Count >= l.most {
		f.LockedUntil = now.Add(l.window)
	}
	return 0, true
}

// over reports whether failures count no more.
func (l limit) over(f *Failures, now time.Time) bool {
	return now.Sub(f.Since) >= l.window && !now.Before(f.LockedUntil)
}

// giveBack undoes take for a try that was not a failure.
func (f *Failures) giveBack() { f.Count, f.LockedUntil = f.Count-1, time.Time{} }

// maxKeys bounds what is kept of failures. Strangers choose addresses: if there are too many,
// some are forgotten.
const maxKeys = 20_000

// addressLimit counts failures by network address, in memory: its window is short, so that a
// restart gives little away.
type addressLimit struct {
	limit
	mu   sync.Mutex
	keys map[string]*Failures
}

func (l *addressLimit) take(address string, now time.Time) (wait time.Duration, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := l.keys[address]
	if f == nil {
		if l.keys == nil {
			l.keys = make(map[string]*Failures)
		}
		if len(l.keys) >= maxKeys {
			l.makeRoom(now)
		}
		f = new(Failures)
		l.keys[address] = f
	}
	return l.limit.take(f, now)
}

func (l *addressLimit) giveBack(address string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if f := l.keys[address]; f != nil {
		if f.giveBack(); f.Count <= 0 {
			delete(l.keys, address)
		}
	}
}

// makeRoom removes what counts no more, or else about a tenth. The lock is held.
func (l *addressLimit) makeRoom(now time.Time) {
	for key, f := range l.keys {
		if l.over(f, now) {
			delete(l.keys, key)
		}
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

// try is a try to guess a password or a code. It counts as failed until it is known better, and
// stays counted if the store cannot take it back then.
type try struct {
	s              *Service
	email, address string
}

// beginTry refuses a try, or counts it. An e-mail address that no account can have is empty: there
// is nothing to guess, and only the network address counts.
func (s *Service) beginTry(ctx context.Context, email, address string) (try, error) {
	t, now := try{s, email, network(address)}, s.now()
	if t.address != "" {
		if wait, ok := s.addresses.take(t.address, now); !ok {
			return t, s.refuse(ErrFlood, wait)
		}
	}
	if email == "" {
		return t, nil
	}
	err := s.changeFailures(ctx, email, func(f *Failures) error {
		if wait, ok := s.failures.take(f, now); !ok {
			return s.refuse(ErrLocked, wait)
		}
		return nil
	})
	if err != nil {
		s.addresses.giveBack(t.address)
	}
	return t, err
}

// changeFailures changes the failures of an e-mail address. The store may forget what began two windows
// ago, which is neither within a window nor locked.
func (s *Service) changeFailures(ctx context.Context, email string, change func(*Failures) error) error {
	return s.cfg.Store.ChangeFailures(ctx, email, s.now().Add(-2*s.failures.window), maxKeys, change)
}

// refuse adds to ErrLocked or ErrFlood until when that is.
func (s *Service) refuse(e *Error, wait time.Duration) error {
	until := s.now().Add(wait + time.Second).UTC().Format("15:04:05")
	return &Error{Kind: e.Kind, Message: e.Message + "; try again at " + until + " UTC", RetryAfter: wait}
}

// undo takes a try back that guessed nothing. The client may have gone by then.
func (t try) undo(ctx context.Context) {
	t.s.addresses.giveBack(t.address)
	if t.email == "" {
		return
	}
	_ = t.s.changeFailures(context.WithoutCancel(ctx), t.email, func(f *Failures) error {
		f.giveBack()
		return nil
	})
}

// succeeded forgets the failures before a try that was right.
func (t try) succeeded(ctx context.Context) error {
	t.s.addresses.giveBack(t.address)
	return t.s.cfg.Store.ForgetFailures(context.WithoutCancel(ctx), t.email)
}
