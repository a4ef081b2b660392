package send

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sealmq/sealmq/client"
)

// spoolClockSkew is how far the clock may be set back before the ages of what was put in
// earlier say nothing any more.
const spoolClockSkew = time.Minute

// ErrSpoolTooOld says that messages of a spool are older than what the broker surely
// remembers: to send them again may deliver them twice.
var ErrSpoolTooOld = errors.New("unconfirmed messages are too old to be sent again safely")

// SpoolTooOldError lists the messages. If they did not arrive, or may arrive twice, call
// Spool.Renew; if they arrived, call Spool.Drop.
type SpoolTooOldError struct {
	Entries []SpoolEntry // oldest first, without bodies
	Horizon time.Duration
}

// Error names some of the messages.
func (e *SpoolTooOldError) Error() string {
	const show = 5
	ids := make([]string, 0, show)
	for _, entry := range e.Entries[:min(show, len(e.Entries))] {
		ids = append(ids, entry.ID)
	}
	more := ""
	if n := len(e.Entries) - len(ids); n > 0 {
		more = fmt.Sprintf(" and %d more", n)
	}
	return fmt.Sprintf("%v: %s%s (older than %v, or from before the clock was set back)", ErrSpoolTooOld, strings.Join(ids, ", "), more, e.Horizon.Round(time.Millisecond))
}

// Hint says how to go on.
func (e *SpoolTooOldError) Hint() string {
	return "find out whether they arrived; then either publish them again, knowing that some may arrive twice, or drop them"
}

// Unwrap makes it an ErrSpoolTooOld.
func (e *SpoolTooOldError) Unwrap() error { return ErrSpoolTooOld }

// CheckAge returns a *SpoolTooOldError if there are messages that may not be published
// again. If the clock shows less than the time of the newest one, their ages are not known,
// and all of them count as too old.
func (s *Spool) CheckAge() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.cfg.Now()
	n := len(s.pending)
	back := n > 0 && s.pending[n-1].time.Sub(now) > spoolClockSkew
	old := s.entries(func(p *spooled) bool { return !p.renewed && (back || s.tooOld(p.time, now)) })
	if len(old) == 0 {
		return nil
	}
	return &SpoolTooOldError{Entries: old, Horizon: s.horizon}
}

// learn takes the horizon that a Sender's broker allows.
func (s *Spool) learn(c *client.Client) {
	horizon := c.Horizon(s.cfg.Horizon)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.horizon = horizon
}

func (s *Spool) tooOld(t, now time.Time) bool {
	age := now.Sub(t)
	return age > s.horizon || age < -spoolClockSkew
}

const aCentury = 100 * 365 * 24 * time.Hour

// since returns since when a message may have been published, by the clock of the client: in
// the future if it may be sent again in any case, and long ago if nobody knows. The error
// wraps ErrNotInSpool.
func (s *Spool) since(seq uint64, now time.Time) (time.Time, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.unsettledEntry(seq)
	if err != nil {
		return time.Time{}, err
	}
	age := s.cfg.Now().Sub(p.time)
	switch {
	case p.renewed:
		age = -aCentury
	case age < -spoolClockSkew:
		age = aCentury
	default:
		age = max(age, 0)
	}
	return now.Add(-age), nil
}

// Renew allows messages to be published again although they are old: some may arrive
// twice. It holds until the spool is closed.
func (s *Spool) Renew(ids ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.pending {
		p.renewed = p.renewed || slices.Contains(ids, p.id)
	}
}
