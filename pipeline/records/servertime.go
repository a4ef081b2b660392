package records

import (
	"context"
	"time"

	"github.com/sealmq/sealmq/internal/clock"
)

const (
	// askTimeEvery is how often the server of the database is asked for the time.
	askTimeEvery = 10 * time.Second
	// quickAnswer is how long such an answer may take to be better than an older one.
	quickAnswer = time.Second
)

// serverTime is what the server's clock showed when the own one showed something.
type serverTime struct{ own, server time.Time }

// Now is the time of day by the clock of the database's server: main servers that share it agree
// on it, whatever their own clocks say. It is the own clock for a file, and until the server has
// been asked.
func (s *Store) Now() time.Time {
	own := s.cfg.Clock.Now()
	if t := s.asked.Load(); t != nil {
		return t.server.Add(own.Sub(t.own))
	}
	return own
}

// ClockAhead is by how much the clock of the database's server is ahead of the own one; it is
// negative if it is behind.
func (s *Store) ClockAhead() time.Duration {
	own := s.cfg.Clock.Now().Round(0) // what the own clock shows, not what has passed
	return s.Now().Round(0).Sub(own)
}

// askTime asks the server of the database for the time.
func (s *Store) askTime(ctx context.Context) error {
	if s.d == &sqliteDialect {
		return nil
	}
	asked := s.cfg.Clock.Now()
	var server time.Time
	if err := s.read.QueryRowContext(ctx, "SELECT UTC_TIMESTAMP(6)").Scan(&server); err != nil {
		return err
	}
	took := s.cfg.Clock.Now().Sub(asked)
	if took <= quickAnswer || s.asked.Load() == nil {
		s.asked.Store(&serverTime{asked.Add(took / 2), server})
	}
	return nil
}

// followTime keeps the time of the server until the store is closed.
func (s *Store) followTime(ctx context.Context) {
	tick := time.NewTicker(askTimeEvery)
	defer tick.Stop()
	for differed := false; ; {
		if ahead := s.ClockAhead(); clock.Differ(ahead) != differed {
			differed = !differed
			if differed {
				s.cfg.Log.Warn("the clock of this machine differs from that of the database; set it: logins and links go by the database's", "database_ahead", ahead.Round(time.Second).String())
			} else {
				s.cfg.Log.Info("the clock of this machine is that of the database again")
			}
		}
		select {
		case <-s.closed:
			return
		case <-tick.C:
		}
		if s.usable() == nil {
			_ = s.askTime(ctx) // the next time will do; health says that the database is away
		}
	}
}
