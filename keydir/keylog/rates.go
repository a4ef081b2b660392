package keylog

import (
	"maps"
	"time"

	"github.com/sealmq/sealmq"
)

// A client can change keys ChangeBurst times at once, and then once every ChangePause: the
// log keeps every change for ever, and clients read all of it. The limit does not apply to
// administrators.
const (
	ChangeBurst = 16
	ChangePause = time.Minute
)

// rates remembers the clients that have changed keys lately.
type rates struct {
	full  map[clientOf]time.Time // when the whole burst is available again
	prune int                    // the size at which clients with a whole burst are forgotten
}

// clientOf is a client: the same name of two authorities is two clients.
type clientOf struct{ id, issuer string }

const minRates = 1024

// take counts a change, or refuses it.
func (r *rates) take(id sealmq.Identity, now time.Time) error {
	if id.Role == sealmq.RoleAdmin {
		return nil
	}
	who := clientOf{id.ID, id.Issuer}
	full := r.full[who]
	if full.Before(now) {
		full = now
	}
	full = full.Add(ChangePause)
	latest := now.Add(ChangeBurst * ChangePause)
	if full.After(latest) {
		if full.After(latest.Add(ChangePause)) { // the clock was set back
			r.full[who] = latest
		}
		return &sealmq.Error{Code: sealmq.LimitReached, Message: "too many changes of keys by one client: one a minute is taken"}
	}
	if len(r.full) >= max(r.prune, minRates) {
		maps.DeleteFunc(r.full, func(_ clientOf, t time.Time) bool { return !t.After(now) })
		r.prune = 2 * len(r.full)
	}
	if r.full == nil {
		r.full = make(map[clientOf]time.Time)
	}
	r.full[who] = full
	return nil
}
