package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/cmd/sealmq/internal/bench"
	"github.com/sealmq/sealmq/internal/brokerproc"
	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/internal/metrics"
	"github.com/sealmq/sealmq/mtls"
)

// benchBroker is the broker that is measured: a running one, or a child process.
type benchBroker struct {
	client      client.Config
	metricsAddr string

	// Of a child process only.
	process    *brokerproc.Process
	began      time.Time // when it was started
	data       string
	temporary  bool // remove the folder at the end
	kill       bool // end the broker as a crash would
	fileSystem string
	syncTime   time.Duration
}

func (f *benchFlags) broker(cmd *cobra.Command) (*benchBroker, error) {
	if !f.running {
		return f.startBroker(cmd)
	}
	cfg, err := f.connect.config()
	if err != nil {
		return nil, err
	}
	return &benchBroker{client: cfg, metricsAddr: f.metricsAddr, fileSystem: "unknown"}, nil
}

// startBroker starts "sealmq serve" in the folder of --dir or in a temporary one.
func (f *benchFlags) startBroker(cmd *cobra.Command) (*benchBroker, error) {
	b := &benchBroker{data: f.dir, kill: f.Phase == bench.Publish}
	err := b.prepareFolder(f.Phase == bench.Both)
	if err == nil {
		err = b.start(cmd, f.brokerProfile, brokerproc.Config{})
	}
	if err != nil {
		return nil, errors.Join(err, b.close())
	}
	return b, nil
}

// prepareFolder makes the folder, or a temporary one in it, and measures the disk below it.
func (b *benchBroker) prepareFolder(temporary bool) (err error) {
	if temporary {
		if b.data, err = os.MkdirTemp(b.data, "sealmq-bench-"); err != nil {
			return fmt.Errorf("make a folder for the broker: %w", err)
		}
		b.temporary = true
	} else if err := durable.MkdirAll(durable.OS(), b.data, 0o700); err != nil {
		return fmt.Errorf("make a folder for the broker: %w", err)
	}
	inMemory := false
	if b.fileSystem, inMemory, err = bench.FileSystem(b.data); err != nil {
		return err
	}
	if inMemory {
		return withHint(fmt.Errorf("folder %s is in memory (%s), where a sync costs nothing", filepath.Dir(b.data), b.fileSystem),
			"name a folder on a disk with --dir")
	}
	b.syncTime, err = bench.SyncTime(b.data)
	return err
}

// start starts the process. cfg may have roles and an environment.
func (b *benchBroker) start(cmd *cobra.Command, profile string, cfg brokerproc.Config) (err error) {
	if cfg.Exe, err = os.Executable(); err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	cfg.Data, cfg.Log = b.data, cmd.ErrOrStderr()
	cfg.Env = append(cfg.Env, "SEALMQ_LOG_LEVEL=warn")
	if path := cmd.Flag("config"); path.Changed {
		cfg.Args = append(cfg.Args, "--config", path.Value.String())
	}
	if profile != "" {
		cfg.Args = append(cfg.Args, "--cpuprofile", profile)
	}
	b.began = time.Now()
	if b.process, err = brokerproc.Start(cmd.Context(), cfg); err != nil {
		return err
	}
	b.client.Addr, b.metricsAddr = b.process.Addr, b.process.MetricsAddr
	b.client.TLS, err = mtls.ClientConfig(mtls.FilesIn(ca.In(b.data).Certs(), ca.AdminName), mtls.ClientOptions{})
	return err
}

// stopTimeout is how long a started broker may take to end.
const stopTimeout = 30 * time.Second

// close ends a broker that was started here and removes its temporary folder.
func (b *benchBroker) close() (err error) {
	if b.process != nil {
		ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
		defer cancel()
		if b.kill {
			b.process.Kill()
		} else {
			err = b.process.Stop(ctx)
		}
	}
	if b.temporary {
		err = errors.Join(err, os.RemoveAll(b.data))
	}
	return err
}

func (b *benchBroker) dial(ctx context.Context, window int) (*client.Client, error) {
	cfg := b.client
	cfg.Window = window
	c, err := client.Dial(ctx, cfg)
	return c, explain(err)
}

// The broker's metrics that the figures are computed from.
const (
	metricCPU   = "process_cpu_seconds_total"
	metricRSS   = "process_resident_memory_bytes"
	metricSyncs = "sealmq_journal_syncs_total"
	metricDisk  = "sealmq_journal_disk_bytes"
)

func (b *benchBroker) sample(ctx context.Context) (s bench.Sample, err error) {
	if b.metricsAddr == "" {
		return s, nil
	}
	m, err := metrics.Scrape(ctx, b.metricsAddr)
	return bench.Sample{
		CPU:       time.Duration(m[metricCPU] * float64(time.Second)),
		RSS:       int64(m[metricRSS]),
		Syncs:     uint64(m[metricSyncs]),
		DiskBytes: int64(m[metricDisk]),
	}, err
}

// manifestName is the file that "--phase publish" writes beside the broker's own files.
const manifestName = "bench.json"

func writeManifest(dir string, m bench.Manifest) error {
	text, err := json.Marshal(m)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, manifestName), text, 0o600)
	}
	if err != nil {
		return fmt.Errorf("write what was published: %w", err)
	}
	return nil
}

func readManifest(dir string) (m bench.Manifest, err error) {
	text, err := os.ReadFile(filepath.Join(dir, manifestName))
	if err == nil {
		err = json.Unmarshal(text, &m)
	}
	if err != nil {
		return m, withHint(fmt.Errorf("read what was published: %w", err), "publish first: sealmq bench --phase publish --messages N --dir %s", dir)
	}
	return m, nil
}
