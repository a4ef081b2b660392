package crash

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"github.com/sealmq/sealmq/internal/testing/mariadb"
	"github.com/sealmq/sealmq/internal/testing/redis"
)

// Config says what to run. Exe and Dir are required.
type Config struct {
	Exe  string // the sealmq program
	Dir  string // an empty folder
	Cuts int
	Seed int64
	Log  io.Writer // nil discards the broker's log
	// Deadline ends a run early, with fewer cuts; zero is none.
	Deadline time.Time
	// Redis has the queue of a pipeline and is killed like its roles. If it is nil, the broker has it.
	Redis *redis.Server
	// MariaDB has the rows of a pipeline and is killed like its roles. If it is nil, they are in SQLite.
	MariaDB *mariadb.Server
}

// late reports whether the run should end.
func (c *Config) late() bool { return !c.Deadline.IsZero() && time.Now().After(c.Deadline) }

// round is after how many cuts the queues are drained and everything is checked.
const round = 25

// Kill kills a broker again and again. The error says why a run could not go on, for
// example because the broker did not start; the report is complete up to there.
func Kill(ctx context.Context, cfg Config) (r *Report, err error) {
	r = &Report{Kind: "kill", Seed: cfg.Seed}
	began := time.Now()
	rng := rand.New(rand.NewPCG(uint64(cfg.Seed), 1))
	ledger := NewLedger(cfg.Seed, publishers)
	h := &Host{Exe: cfg.Exe, Data: cfg.Dir, Log: cfg.Log}
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		cancel()
		h.Kill()
		r.add(ledger)
		r.Torn = h.Torn
		r.Elapsed = time.Since(began)
	}()
	for r.Cuts < cfg.Cuts && !cfg.late() {
		l := &load{host: h, ledger: ledger}
		err := killRound(ctx, l, r, rng, min(round, cfg.Cuts-r.Cuts))
		for _, p := range l.problems {
			r.problem("%s", p)
		}
		if err != nil {
			return r, fmt.Errorf("after %d kills: %w", r.Cuts, err)
		}
		if !r.OK() || ledger.Counts().Problems != nil {
			break // keep the folder as it is for the diagnosis
		}
	}
	return r, nil
}

// killRound kills the broker that many times under load and then checks everything.
func killRound(ctx context.Context, l *load, r *Report, rng *rand.Rand, kills int) error {
	h := l.host
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		cancel()
		h.Kill()
		l.publish.Wait()
		l.consume.Wait()
	}()
	early := func() error {
		kills--
		r.Cuts++
		r.EarlyCuts++
		return h.Flash(ctx, time.Duration(rng.Int64N(int64(100*time.Millisecond))))
	}
	if kills > 1 {
		if err := early(); err != nil {
			return err
		}
	}
	if err := h.Start(ctx); err != nil {
		return err
	}
	if err := l.declare(ctx); err != nil {
		return err
	}
	l.start(ctx, rng)
	for kills > 0 {
		pause(ctx, moment(rng))
		kills--
		r.Cuts++
		if err := h.Kill(); err != nil {
			return err
		}
		for kills > 0 && rng.IntN(4) == 0 {
			if err := early(); err != nil {
				return err
			}
		}
		if err := h.Start(ctx); err != nil {
			return err
		}
	}
	if err := l.complete(ctx); err != nil {
		return err
	}
	// An acknowledged message must not come again after another kill.
	if err := h.Kill(); err != nil {
		return err
	}
	if err := h.Start(ctx); err != nil {
		return err
	}
	if err := l.drain(ctx); err != nil {
		return err
	}
	return h.Inspect(ctx)
}

// moment is how long a broker works before it dies: mostly short, sometimes long enough to
// fill many segments.
func moment(rng *rand.Rand) time.Duration {
	if rng.IntN(12) == 0 {
		return 2 * time.Second
	}
	return time.Duration(20+rng.IntN(200)*(1+rng.IntN(6))) * time.Millisecond
}
