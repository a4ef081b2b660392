package httpkit

import (
	"cmp"
	"container/list"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Defaults of a RateLimiter.
const (
	DefaultRate       = 1000
	DefaultMaxClients = 10_000
)

// Rate is how much a client may do.
type Rate struct {
	// PerSecond is the sustained rate: 0 blocks the client, a negative one is no limit.
	PerSecond int
	// Burst is how much it may do at once (default twice PerSecond).
	Burst int
}

// RateLimiter limits clients. It is safe for concurrent use.
type RateLimiter struct {
	max int

	mu      sync.Mutex
	each    Rate
	buckets map[string]*list.Element // of *bucket
	recent  list.List                // the most recently used first
}

type bucket struct {
	client string
	*rate.Limiter
}

// NewRateLimiter makes a limiter with a rate for each client. It remembers at most maxClients
// (0: DefaultMaxClients) at a time; a client that it has forgotten begins with a full burst.
func NewRateLimiter(each Rate, maxClients int) *RateLimiter {
	return &RateLimiter{each: each, max: cmp.Or(maxClients, DefaultMaxClients), buckets: make(map[string]*list.Element)}
}

// SetRate changes the rate for each client. What a client has used up stays so.
func (l *RateLimiter) SetRate(each Rate) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.each = each
	if each.PerSecond <= 0 {
		return // no bucket is asked
	}
	now := time.Now()
	for _, e := range l.buckets {
		b := e.Value.(*bucket)
		b.SetLimitAt(now, rate.Limit(each.PerSecond))
		b.SetBurstAt(now, cmp.Or(each.Burst, 2*each.PerSecond))
	}
}

// Quota is what a RateLimiter has decided.
type Quota struct {
	OK         bool
	Limit      int // a second; negative: none
	Remaining  int // may be done at once
	Reset      time.Time
	RetryAfter time.Duration
}

// Take takes n from what a client may do. If it may not do n, nothing is taken.
func (l *RateLimiter) Take(client string, n int, now time.Time) Quota {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.each
	switch {
	case r.PerSecond < 0:
		return Quota{OK: true, Limit: -1}
	case r.PerSecond == 0:
		return Quota{Reset: now.Add(time.Hour), RetryAfter: time.Hour}
	case r.Burst <= 0:
		r.Burst = 2 * r.PerSecond
	}
	b := l.bucket(client, r)
	q := Quota{OK: b.AllowN(now, n), Limit: r.PerSecond}
	tokens := b.TokensAt(now)
	q.Remaining = max(0, int(tokens))
	q.Reset = now.Add(seconds(float64(r.Burst)-tokens, r))
	if !q.OK {
		q.RetryAfter = max(time.Second, seconds(float64(min(n, r.Burst))-tokens, r))
	}
	return q
}

func seconds(tokens float64, r Rate) time.Duration {
	return time.Duration(math.Ceil(max(0, tokens)/float64(r.PerSecond)*1e9)) * time.Nanosecond
}

// bucket finds or makes the bucket of a client. The caller holds l.mu.
func (l *RateLimiter) bucket(client string, r Rate) *bucket {
	if e := l.buckets[client]; e != nil {
		l.recent.MoveToFront(e)
		return e.Value.(*bucket)
	}
	if l.recent.Len() >= l.max {
		oldest := l.recent.Back()
		delete(l.buckets, oldest.Value.(*bucket).client)
		l.recent.Remove(oldest)
	}
	b := &bucket{client, rate.NewLimiter(rate.Limit(r.PerSecond), r.Burst)}
	l.buckets[client] = l.recent.PushFront(b)
	return b
}

// SetHeaders tells the client its quota: X-RateLimit-Limit, -Remaining and -Reset. A
// client without a limit is told nothing.
func (q Quota) SetHeaders(h http.Header) {
	if q.Limit < 0 {
		return
	}
	values := []string{strconv.Itoa(q.Limit), strconv.Itoa(q.Remaining), strconv.FormatInt(q.Reset.Unix()+1, 10)}
	h["X-Ratelimit-Limit"], h["X-Ratelimit-Remaining"], h["X-Ratelimit-Reset"] = values[0:1:1], values[1:2:2], values[2:3:3]
}

// Err is the answer 429, or nil if the quota is OK. what is what was counted: "messages".
func (q Quota) Err(what string) error {
	if q.OK {
		return nil
	}
	return &Error{Code: CodeRateLimitExceeded, Message: fmt.Sprintf("Rate limit exceeded: %d %s per second", q.Limit, what), RetryAfter: q.RetryAfter}
}
