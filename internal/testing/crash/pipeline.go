package crash

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"time"

	_ "modernc.org/sqlite" // to read the rows without the product

	"github.com/sealmq/sealmq/internal/testing/pipelineproc"
	"github.com/sealmq/sealmq/internal/testing/redis"
)

// pipelineClient is the client that submits.
const pipelineClient = "crash-01"

// Pipeline kills random roles of a pipeline while clients submit messages over HTTPS, and
// checks in the end that every message that was answered with 202 is exactly one row that
// says delivered. The error says why a run could not go on.
func Pipeline(ctx context.Context, cfg Config) (r *Report, err error) {
	r = &Report{Kind: "role kill", Seed: cfg.Seed}
	began := time.Now()
	rng := rand.New(rand.NewPCG(uint64(cfg.Seed), 2))
	settings := append([]string{"SEALMQ_PROXY_RATE=-1", "SEALMQ_WORKER_RETRY_INTERVAL=1s"}, env...)
	if cfg.Redis != nil {
		settings = append(settings, "SEALMQ_REDIS_ADDR="+cfg.Redis.Addr(), "SEALMQ_REDIS_PASSWORD="+cfg.Redis.Password())
	}
	p, err := pipelineproc.New(pipelineproc.Config{Exe: cfg.Exe, Data: cfg.Dir, Log: func(string) io.Writer { return cfg.Log }, Timeout: patience, Env: settings})
	if err != nil {
		return r, err
	}
	ctx, cancel := context.WithCancel(ctx)
	var load submissions
	defer func() {
		cancel()
		load.running.Wait()
		p.KillAll()
		load.report(r)
		r.Elapsed = time.Since(began)
	}()
	if err := p.StartAll(ctx); err != nil {
		return r, err
	}
	client, err := p.Client(pipelineClient, patience)
	if err != nil {
		return r, err
	}
	load.start(ctx, p.URL(pipelineproc.Proxy), client, rng)
	for r.Cuts < cfg.Cuts && !cfg.late() {
		pause(ctx, moment(rng))
		if err := crashRoles(ctx, p, cfg.Redis, rng, r); err != nil {
			return r, fmt.Errorf("after %d kills: %w", r.Cuts, err)
		}
	}
	if err := load.finish(ctx); err != nil {
		return r, err
	}
	database := filepath.Join(cfg.Dir, "pipeline", "records.db")
	if err := waitDelivered(ctx, database, load.answered()); err != nil {
		return r, err
	}
	if err := p.StopAll(ctx); err != nil {
		return r, err
	}
	if out, err := exec.CommandContext(ctx, cfg.Exe, "journal", "check", "--data", cfg.Dir).CombinedOutput(); err != nil {
		return r, fmt.Errorf("check the journal: %w: %s", err, out)
	}
	return r, load.judge(database, r)
}

// redisServer is the name of the queue's server among what is killed.
const redisServer = "redis"

// crashRoles kills one role, or sometimes two at once, perhaps one again while it starts, and
// starts them again. The server of the queue is one of them if there is one.
func crashRoles(ctx context.Context, p *pipelineproc.Pipeline, queue *redis.Server, rng *rand.Rand, r *Report) error {
	all := pipelineproc.Roles
	if queue != nil {
		all = append([]string{redisServer}, all...)
	}
	kill := func(role string) {
		r.Cuts++
		if role == redisServer {
			queue.Kill()
		} else {
			p.Kill(role)
		}
	}
	victims := []string{all[rng.IntN(len(all))]}
	if second := all[rng.IntN(len(all))]; second != victims[0] && rng.IntN(4) == 0 {
		victims = append(victims, second)
	}
	for _, role := range victims {
		kill(role)
	}
	pause(ctx, time.Duration(rng.IntN(400))*time.Millisecond)
	if rng.IntN(5) == 0 && victims[0] != redisServer {
		early, cancel := context.WithTimeout(ctx, time.Duration(rng.IntN(200))*time.Millisecond)
		if p.Start(early, victims[0]) == nil {
			p.Kill(victims[0])
		}
		cancel()
		r.Cuts++
		r.EarlyCuts++
	}
	for _, role := range victims {
		var err error
		if role == redisServer {
			err = queue.Restart()
		} else {
			err = p.Start(ctx, role)
		}
		if err != nil {
			return fmt.Errorf("start %s: %w", role, err)
		}
	}
	return ctx.Err()
}

// waitDelivered waits until n rows say delivered, or until the patience is over: what is
// missing then is lost.
func waitDelivered(ctx context.Context, database string, n int) error {
	db, err := openRows(database)
	if err != nil {
		return err
	}
	defer db.Close()
	for began := time.Now(); time.Since(began) < patience; {
		var delivered int
		if err := db.QueryRowContext(ctx, "SELECT COUNT(*) FROM messages WHERE status = 'delivered'").Scan(&delivered); err != nil {
			return err
		}
		if delivered >= n {
			return nil
		}
		if !pause(ctx, 50*time.Millisecond) {
			return ctx.Err()
		}
	}
	return nil
}

func openRows(path string) (*sql.DB, error) {
	return sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(10000)&_pragma=query_only(1)")
}
