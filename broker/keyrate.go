package broker

import (
	"maps"
	"time"

	"github.com/sealmq/sealmq"
)

// One client can change keys so often at once, and then once in a while: the log keeps
// every change for ever, and everybody who looks a name up for the first time reads it.
// Administrators are not held back.
const (
	KeyChangeBurst = 16
	KeyChangePause = time.Minute
)

// keyRates remembers who has changed keys lately. It belongs to Broker.mu.
type keyRates struct {
	full  map[keyClient]time.Time // when all of the burst is there again
	prune int                     // the size at which those who have all of it are forgotten
}

type keyClient struct{ id, issuer string }

const minKeyRates = 1024

// take counts a change, or refuses it.
func (r *keyRates) take(id Caller, now time.Time) error {
	if id.Role == sealmq.RoleAdmin {
		return nil
	}
	who := keyClient{id.ID, id.Issuer}
	full := r.full[who]
	if full.Before(now) {
		full = now
	}
	full = full.Add(KeyChangePause)
	latest := now.Add(KeyChangeBurst * KeyChangePause)
	if full.After(latest) {
		if full.After(latest.Add(KeyChangePause)) { // the clock was set back
			r.full[who] = latest
		}
		return &sealmq.Error{Code: sealmq.LimitReached, Message: "too many changes of keys by one client: one a minute is taken"}
	}
	if len(r.full) >= max(r.prune, minKeyRates) {
		maps.DeleteFunc(r.full, func(_ keyClient, t time.Time) bool { return !t.After(now) })
		r.prune = 2 * len(r.full)
	}
	if r.full == nil {
		r.full = make(map[keyClient]time.Time)
	}
	r.full[who] = full
	return nil
}
