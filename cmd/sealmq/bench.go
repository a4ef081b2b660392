package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/cmd/sealmq/internal/bench"
)

// benchFlags are the flags of "sealmq bench".
type benchFlags struct {
	bench.Options
	idleConnections int
	dir             string
	running         bool          // measure a running broker
	connect         *connectFlags // to that broker
	metricsAddr     string
	cpuProfile      string
	brokerProfile   string
}

func newBenchCmd() *cobra.Command {
	var f benchFlags
	cmd := standalone(&cobra.Command{
		Use:   "bench",
		Short: "Measure throughput and latency of a broker",
		Long: `Publish and consume messages over the real protocol and mutual TLS. Check every message, and print
the rate, latencies, losses, duplicates and costs.

Without --addr it starts a broker of its own in a temporary folder. The folder must be on a real
disk, because a sync in memory costs nothing; choose one with --dir.

To measure a backlog, publish it with --phase publish --messages N --dir FOLDER, which kills the
broker at the end. Then drain it with --phase drain --dir FOLDER.`,
		Example: `  sealmq bench --publishers 4 --consumers 4
  sealmq bench --size 1024 --window 1 --duration 10s --json
  sealmq bench --phase publish --messages 1000000 --dir ./backlog && sealmq bench --phase drain --dir ./backlog
  sealmq bench --idle-connections 2000`,
	}, f.run)
	cmd.Flag("json").Usage = "print one JSON object"
	fl := cmd.Flags()
	fl.IntVar(&f.Publishers, "publishers", 1, "number of publishers, each with its own connection")
	fl.IntVar(&f.Consumers, "consumers", 1, "number of consumers, each with its own connection; 0 measures publishing alone")
	addSizeFlag(fl, &f.Size, "size", bench.DefaultSize, "`size` of a message's opaque body")
	fl.IntVar(&f.Window, "window", bench.DefaultWindow, "maximum number of unconfirmed messages of a publisher")
	fl.IntVar(&f.Prefetch, "prefetch", bench.DefaultPrefetch, "maximum number of unacknowledged messages of a consumer")
	fl.IntVar(&f.Queues, "queues", 1, "number of queues to spread publishers and consumers over")
	fl.IntVar(&f.IdleQueues, "idle-queues", 0, "number of further queues that are bound and get no message")
	fl.Uint64Var(&f.Backlog, "backlog", 0, "number of messages that wait before the measurement begins")
	fl.Uint64Var(&f.Messages, "messages", 0, "stop after publishing this many messages (0: after --duration)")
	fl.DurationVar(&f.Duration, "duration", bench.DefaultDuration, "how long to publish")
	fl.StringVar(&f.Phase, "phase", bench.Both, "`phase` to run: both, publish or drain")
	fl.IntVar(&f.idleConnections, "idle-connections", 0, "measure the memory of this many idle consumers instead")
	fl.StringVar(&f.dir, "dir", "", "`folder` for the broker that is started (default: a temporary one)")
	f.connect = addConnectFlags(cmd)
	fl.Lookup("addr").Usage = "measure the running broker at this address, `host:port`; the certificate flags are for it"
	fl.Lookup("addr").DefValue = ""
	fl.StringVar(&f.metricsAddr, "broker-metrics", "", "`host:port` of the metrics listener of the broker at --addr")
	fl.StringVar(&f.cpuProfile, "cpuprofile", "", "write a CPU profile of the load generator to `file`")
	fl.StringVar(&f.brokerProfile, "broker-cpuprofile", "", "write a CPU profile of the started broker to `file`")
	cmd.AddCommand(newBenchPipelineCmd())
	return cmd
}

func (f *benchFlags) check(cmd *cobra.Command) error {
	f.running = cmd.Flag("addr").Changed
	if err := oneOf("phase", f.Phase, bench.Both, bench.Publish, bench.Drain); err != nil {
		return err
	}
	if err := notZero(cmd, "size", "window", "prefetch", "queues", "duration"); err != nil {
		return err
	}
	switch {
	case f.Publishers == 0 && f.Phase != bench.Drain:
		return usagef("--publishers 0 is only for --phase drain")
	case f.Consumers == 0 && f.Phase == bench.Drain:
		return usagef("--phase drain needs at least one consumer")
	case f.running && f.dir != "":
		return usagef("--addr and --dir cannot be combined: a running broker has its own folder")
	case f.running && f.Phase != bench.Both:
		return usagef("--phase %s cannot be combined with --addr: it starts a broker in the folder --dir", f.Phase)
	case f.Phase != bench.Both && f.dir == "":
		return usagef("--phase %s needs --dir, the folder that keeps the messages", f.Phase)
	case f.Phase == bench.Publish && f.Messages == 0:
		return usagef("--phase publish needs --messages")
	case f.idleConnections < 0:
		return usagef("--idle-connections is negative")
	case f.idleConnections > 0 && f.running && f.metricsAddr == "":
		return usagef("--idle-connections needs --broker-metrics to read the broker's memory")
	case f.running:
		return nil
	}
	for _, name := range []string{"as", "cert", "cert-key", "ca", "server-name", "broker-metrics"} {
		if cmd.Flag(name).Changed {
			return usagef("--%s is only for a running broker, at --addr", name)
		}
	}
	return nil
}

func (f *benchFlags) run(a call) (err error) {
	if err := f.check(a.cmd); err != nil {
		return err
	}
	if !a.asJSON {
		f.Progress = func(text string) { a.note("%s", text) }
	}
	var broker *benchBroker
	f.Dial = func(ctx context.Context, window int) (*client.Client, error) { return broker.dial(ctx, window) }
	f.Sample = func(ctx context.Context) (bench.Sample, error) { return broker.sample(ctx) }
	run, err := f.newRun() // checks the numbers before a broker is started
	if err != nil {
		return err
	}
	if broker, err = f.broker(a.cmd); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, broker.close()) }()

	stopProfile, err := startProfile(f.cpuProfile)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stopProfile()) }()
	if f.idleConnections > 0 {
		res, err := run.MeasureIdle(a.ctx, f.idleConnections)
		if f.running {
			err = errors.Join(err, removeQueues(a.ctx, run))
		}
		if err != nil {
			return err
		}
		return a.report(nil, res, "%d idle consumers: %.1f KiB of the broker's memory each (%s before, %s after)",
			res.Connections, res.RSSPerConnection/1024, mebibytes(res.BrokerRSSBefore), mebibytes(res.BrokerRSS))
	}
	res, err := run.Measure(a.ctx, broker.began)
	if cerr := run.Close(); err == nil { // else its errors only follow from the first one
		err = cerr
	}
	if err == nil && f.Phase == bench.Publish {
		err = writeManifest(f.dir, run.Manifest())
	} else if f.running || err == nil && !broker.temporary {
		err = errors.Join(err, removeQueues(a.ctx, run))
	}
	if err != nil {
		return err
	}
	res.FileSystem, res.SyncP50 = broker.fileSystem, float64(broker.syncTime.Nanoseconds())/1000
	return errors.Join(a.facts(nil, res, benchFacts(res)...), res.Failed())
}

// cleanUpTime is how long an interrupted measurement may take to remove its queues.
const cleanUpTime = 30 * time.Second

// removeQueues removes the queues of a measurement, also one that was interrupted.
func removeQueues(ctx context.Context, run *bench.Run) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTime)
	defer cancel()
	if err := run.Remove(ctx); err != nil {
		return fmt.Errorf("remove the queues of the measurement: %w", err)
	}
	return nil
}

func (f *benchFlags) newRun() (*bench.Run, error) {
	if f.Phase != bench.Drain {
		o := f.Options
		if o.Consumers == 0 && f.idleConnections == 0 {
			o.Phase = bench.Publish
		}
		run, err := bench.New(o)
		return run, usage(err, "")
	}
	m, err := readManifest(f.dir)
	if err != nil {
		return nil, err
	}
	return bench.Resume(f.Options, m)
}
