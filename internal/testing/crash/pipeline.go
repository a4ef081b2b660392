package crash

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	_ "modernc.org/sqlite" // to read the rows without the product

	"github.com/sealmq/sealmq/internal/testing/pipelineproc"
)

// pipelineClient is the client that submits.
const pipelineClient = "crash-01"

// Pipeline kills random roles of a pipeline, and the servers of its queue and of its rows,
// while clients submit messages over HTTPS. It checks in the end that every message that was
// answered with 202 is exactly one row that says delivered. The error says why a run could
// not go on.
func Pipeline(ctx context.Context, cfg Config) (r *Report, err error) {
	r = &Report{Kind: "role kill", Seed: cfg.Seed}
	began := time.Now()
	rng := rand.New(rand.NewPCG(uint64(cfg.Seed), 2))
	v, err := newVictims(cfg)
	if err != nil {
		return r, err
	}
	ctx, cancel := context.WithCancel(ctx)
	var load submissions
	defer func() {
		cancel()
		load.running.Wait()
		v.roles.KillAll()
		load.report(r)
		r.Elapsed = time.Since(began)
	}()
	for _, name := range v.names {
		if v.servers[name] == nil {
			if err := v.roles.Start(ctx, name); err != nil {
				return r, err
			}
		}
	}
	client, err := v.roles.Client(pipelineClient, patience)
	if err != nil {
		return r, err
	}
	load.start(ctx, client, rng, v.roles.URL(pipelineproc.Proxy))
	for r.Cuts < cfg.Cuts && !cfg.late() {
		pause(ctx, moment(rng))
		if err := v.crash(ctx, rng, r); err != nil {
			return r, fmt.Errorf("after %d kills: %w", r.Cuts, err)
		}
	}
	if err := load.finish(ctx); err != nil {
		return r, err
	}
	db, err := sql.Open(v.driver, v.dsn)
	if err != nil {
		return r, err
	}
	defer db.Close()
	if err := waitDelivered(ctx, db, load.answered()); err != nil {
		return r, err
	}
	if err := v.roles.StopAll(ctx); err != nil {
		return r, err
	}
	if cfg.Redis == nil {
		if out, err := exec.CommandContext(ctx, cfg.Exe, "journal", "check", "--data", cfg.Dir).CombinedOutput(); err != nil {
			return r, fmt.Errorf("check the journal: %w: %s", err, out)
		}
	}
	return r, load.judge(db, r)
}

// victims are the processes of a pipeline that are killed.
type victims struct {
	names       []string // in the order in which they are best started
	roles       *pipelineproc.Pipeline
	servers     map[string]server // those that are not roles
	driver, dsn string            // of the rows, to read them without the product
}

// server is another program that a pipeline needs.
type server interface {
	Kill()
	Restart() error
}

func newVictims(cfg Config) (*victims, error) {
	v := &victims{servers: make(map[string]server), names: pipelineproc.Roles,
		driver: "sqlite", dsn: "file:" + filepath.Join(cfg.Dir, "pipeline", "records.db") + "?_pragma=busy_timeout(10000)&_pragma=query_only(1)"}
	// A killed worker comes back under its name, so that what it held is free at once.
	settings := append([]string{"SEALMQ_PROXY_RATE=-1", "SEALMQ_WORKER_RETRY_INTERVAL=1s", "SEALMQ_WORKER_NAME=crash-worker"}, env...)
	if cfg.Redis != nil {
		settings = append(settings, "SEALMQ_REDIS_ADDR="+cfg.Redis.Addr(), "SEALMQ_REDIS_PASSWORD="+cfg.Redis.Password(), "SEALMQ_PIPELINE_BROKER=")
		v.servers["redis"] = cfg.Redis
		v.names = slices.DeleteFunc(slices.Clone(v.names), func(name string) bool { return name == pipelineproc.Broker })
	}
	if cfg.MariaDB != nil {
		url, name, err := cfg.MariaDB.Database()
		if err != nil {
			return nil, err
		}
		settings = append(settings, "SEALMQ_MAIN_DATABASE="+url)
		v.driver, v.dsn = "mysql", cfg.MariaDB.DSN(name)
		v.servers["mariadb"] = cfg.MariaDB
	}
	v.names = append(slices.Sorted(maps.Keys(v.servers)), v.names...)
	var err error
	v.roles, err = pipelineproc.New(pipelineproc.Config{Exe: cfg.Exe, Data: cfg.Dir, Log: func(string) io.Writer { return cfg.Log }, Timeout: patience, Env: settings})
	return v, err
}

func (v *victims) kill(name string, r *Report) {
	r.Cuts++
	if s := v.servers[name]; s != nil {
		s.Kill()
	} else {
		v.roles.Kill(name)
	}
}

func (v *victims) start(ctx context.Context, name string) (err error) {
	if s := v.servers[name]; s != nil {
		err = s.Restart()
	} else {
		err = v.roles.Start(ctx, name)
	}
	if err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	return nil
}

// crash kills one process, or sometimes two at once, perhaps one role again while it starts,
// and starts them again in any order.
func (v *victims) crash(ctx context.Context, rng *rand.Rand, r *Report) error {
	dead := []string{v.names[rng.IntN(len(v.names))]}
	if second := v.names[rng.IntN(len(v.names))]; second != dead[0] && rng.IntN(4) == 0 {
		dead = append(dead, second)
	}
	for _, name := range dead {
		v.kill(name, r)
	}
	pause(ctx, time.Duration(rng.IntN(400))*time.Millisecond)
	if rng.IntN(5) == 0 && v.servers[dead[0]] == nil {
		early, cancel := context.WithTimeout(ctx, time.Duration(rng.IntN(200))*time.Millisecond)
		if v.roles.Start(early, dead[0]) == nil {
			v.roles.Kill(dead[0])
		}
		cancel()
		r.Cuts++
		r.EarlyCuts++
	}
	for _, name := range dead {
		if err := v.start(ctx, name); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// waitDelivered waits until n rows say delivered, or until there were no more of them for as
// long as the patience lasts: what is missing then is lost.
func waitDelivered(ctx context.Context, db *sql.DB, n int) error {
	most := -1
	for began := time.Now(); time.Since(began) < patience; {
		var delivered int
		if err := db.QueryRowContext(ctx, "SELECT COUNT(*) FROM messages WHERE status = 'delivered'").Scan(&delivered); err != nil {
			return err
		}
		if delivered >= n {
			return nil
		}
		if delivered > most {
			most, began = delivered, time.Now()
		}
		if !pause(ctx, 200*time.Millisecond) {
			return ctx.Err()
		}
	}
	return nil
}
