package mainserver

import (
	"sync"
	"time"

	"github.com/sealmq/sealmq/pipeline"
)

// recent remembers for a short time which items were delivered. A registration that comes
// after its delivery, as almost all do, then needs neither the database nor the envelope. An
// item without a digest, or with another one than was delivered, is not found.
type recent struct {
	keep time.Duration

	mu         sync.Mutex
	now, older map[recentKey]delivered
	turned     time.Time
}

type recentKey struct{ client, id, digest string }

func keyOf(it *pipeline.Item) recentKey {
	return recentKey{it.ClientID, it.MessageID, string(it.Digest)}
}

// delivered is what a registration is answered with.
type delivered struct {
	row int64
	at  time.Time
}

// maxRecent bounds the messages of one generation: beyond, registrations ask the database.
const maxRecent = 200_000

// add remembers a delivery for keep to twice keep.
func (r *recent) add(it *pipeline.Item, d delivered, now time.Time) {
	if len(it.Digest) == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.turn(now)
	if r.now == nil {
		r.now = make(map[recentKey]delivered)
	}
	if len(r.now) < maxRecent {
		r.now[keyOf(it)] = d
	}
}

func (r *recent) find(it *pipeline.Item, now time.Time) (delivered, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.turn(now)
	key := keyOf(it)
	if d, ok := r.now[key]; ok {
		return d, true
	}
	d, ok := r.older[key]
	return d, ok
}

// turn forgets the older generation. A clock that was set back counts as time that passed.
func (r *recent) turn(now time.Time) {
	if since := now.Sub(r.turned); since < r.keep && since >= 0 {
		return
	}
	r.older, r.now, r.turned = r.now, nil, now
}
