package crash_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sealmq/sealmq/internal/testing/crash"
	"github.com/sealmq/sealmq/internal/testing/mariadb"
	"github.com/sealmq/sealmq/internal/testing/netns"
	"github.com/sealmq/sealmq/internal/testing/program"
	"github.com/sealmq/sealmq/internal/testing/redis"
)

var (
	kills = flag.Int("kills", 5, "how often TestKill and TestKillRoles kill")
	parts = flag.Int("partitions", 1, "how often TestPartitions cuts two hosts off from each other; 1 leaves the broker's queue out")
	lasts = flag.Duration("partition", 5*time.Second, "how long each of these partitions lasts")
	cuts  = flag.Int("cuts", 6, "how often TestPowerLoss cuts the power")
	seed  = flag.Int64("seed", 0, "seed of a run (0: a new one)")
	exe   = flag.String("sealmq", "", "a sealmq program to test (default: it is built)")
)

func TestMain(m *testing.M) {
	flag.Parse()
	code := m.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	program.Remove()
	os.Exit(code)
}

// config is the configuration of both kinds of runs.
func config(t *testing.T, dir string, n int) crash.Config {
	t.Helper()
	cfg := crash.Config{Exe: *exe, Dir: dir, Cuts: n, Seed: *seed}
	if cfg.Exe == "" {
		cfg.Exe = program.Path(t)
	}
	if cfg.Seed == 0 {
		cfg.Seed = time.Now().UnixNano() % 1_000_000_000
	}
	if end, ok := t.Deadline(); ok {
		cfg.Deadline = end.Add(-4 * time.Minute)
	}
	return cfg
}

// judge prints the summary and fails the test for every problem.
func judge(t *testing.T, r *crash.Report, err error) {
	t.Helper()
	t.Log(r)
	for _, p := range r.Problems {
		t.Error(p)
	}
	if err != nil {
		t.Error(err)
	}
	if r.OK() && (r.Delivered == 0 || r.Cuts == 0) {
		t.Error("nothing was tested")
	}
}

func TestKill(t *testing.T) {
	t.Parallel()
	r, err := crash.Kill(t.Context(), config(t, filepath.Join(t.TempDir(), "data"), *kills))
	judge(t, r, err)
}

// TestKillRoles kills the roles of a pipeline at random, and the servers that they use.
func TestKillRoles(t *testing.T) {
	t.Parallel()
	t.Run("queue of the broker", func(t *testing.T) {
		r, err := crash.Pipeline(t.Context(), config(t, filepath.Join(t.TempDir(), "data"), *kills))
		judge(t, r, err)
	})
	t.Run("Redis and MariaDB", func(t *testing.T) {
		cfg := config(t, filepath.Join(t.TempDir(), "data"), *kills)
		cfg.Redis, cfg.MariaDB = redis.Run(t), mariadb.Require(t, mariadb.Start)
		t.Cleanup(func() { cfg.MariaDB.Close() })
		r, err := crash.Pipeline(t.Context(), cfg)
		judge(t, r, err)
	})
}

// TestPartitions cuts hosts of a pipeline off from each other, at random. With -v it says how
// each partition went.
func TestPartitions(t *testing.T) {
	if testing.Short() {
		t.Skip("it waits for a network")
	}
	server := mariadb.Require(t, mariadb.Start)
	t.Cleanup(func() { server.Close() })
	for _, queue := range []string{"Redis", "broker"} {
		t.Run(queue, func(t *testing.T) {
			if queue == "broker" && *parts == 1 {
				t.Skip("one partition is for Redis; with -partitions there are more")
			}
			network := netns.Make(t)
			cfg := config(t, t.TempDir(), *parts)
			cfg.MariaDB = server
			if queue == "Redis" {
				cfg.Redis = redis.Run(t)
			}
			r, err := crash.Partition(t.Context(), cfg, network, *lasts, t.Logf)
			judge(t, r, err)
		})
	}
}

// TestRevocationApart: roles on hosts of their own refuse a revoked certificate within a second,
// whichever main server was told, and also when they start without one.
func TestRevocationApart(t *testing.T) {
	if testing.Short() {
		t.Skip("a second is short for a race detector and its neighbours")
	}
	server := mariadb.Require(t, mariadb.Start)
	t.Cleanup(func() { server.Close() })
	cfg := config(t, t.TempDir(), 0)
	cfg.MariaDB, cfg.Redis = server, redis.Run(t)
	slowest, err := crash.Revocation(t.Context(), cfg, netns.Make(t), t.Logf)
	if err != nil {
		t.Error(err)
	}
	if slowest > 10*time.Second { // a busy machine needs longer than a second
		t.Errorf("it took up to %v", slowest)
	}
}
