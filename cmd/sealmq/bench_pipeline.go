package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq/api/mainapi"
	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/cmd/sealmq/internal/bench"
	"github.com/sealmq/sealmq/internal/brokerproc"
	"github.com/sealmq/sealmq/mtls"
	"github.com/sealmq/sealmq/pipeline"
)

// benchPipelineFlags are the flags of "sealmq bench pipeline".
type benchPipelineFlags struct {
	bench.PipelineOptions
	connect           *connectFlags
	proxyURL, mainURL string // of a running node, or both empty
	dir               string
	cpuProfile        string
	nodeProfile       string
}

func newBenchPipelineCmd() *cobra.Command {
	var f benchPipelineFlags
	cmd := standalone(&cobra.Command{
		Use:   "pipeline",
		Short: "Measure throughput and latency of the pipeline",
		Long: `Submit messages over HTTPS with mutual TLS, wait until they are delivered, and compare the rows of the
database with the answers. Print the rates, latencies, losses and duplicates.

Without --proxy-url it starts a node with all roles in a temporary folder, with no limit of the rate. The
folder must be on a real disk; choose one with --dir. Settings come from --config, for example
main.database to measure another database.

The time of a submission ends with its answer; the end-to-end time ends when the row says the message was
delivered. With --rate both begin when the request was due.`,
		Example: `  sealmq bench pipeline --connections 64 --batch 1
  sealmq bench pipeline --connections 64 --batch 100 --duration 10s --json
  sealmq bench pipeline --rate 1000`,
	}, f.run)
	cmd.Flag("json").Usage = "print one JSON object"
	fl := cmd.Flags()
	fl.IntVar(&f.Connections, "connections", bench.DefaultConnections, "number of connections that submit")
	fl.IntVar(&f.Batch, "batch", 1, fmt.Sprintf("messages in one request, up to %d; 1 uses /submit, more use /submit/batch", bench.MaxBatch))
	fl.IntVar(&f.Rate, "rate", 0, "submit this many messages a second (0: as many as possible)")
	fl.IntVar(&f.Size, "size", bench.DefaultTextSize, "length of a text in characters")
	fl.DurationVar(&f.Duration, "duration", bench.DefaultDuration, "how long to submit")
	fl.StringVar(&f.dir, "dir", "", "`folder` for the temporary one of the node that is started")
	f.connect = addIdentityFlags(cmd, "submit and ask")
	fl.StringVar(&f.proxyURL, "proxy-url", "", "measure the running proxy at this `address`, https://host:port; the certificate must be an administrator's")
	fl.StringVar(&f.mainURL, "main-url", "", "`address` of its main server, https://host:port")
	fl.StringVar(&f.cpuProfile, "cpuprofile", "", "write a CPU profile of the load generator to `file`")
	fl.StringVar(&f.nodeProfile, "node-cpuprofile", "", "write a CPU profile of the started node to `file`")
	return cmd
}

func (f *benchPipelineFlags) run(a call) (err error) {
	if (f.proxyURL == "") != (f.mainURL == "") {
		return usagef("--proxy-url and --main-url must be used together")
	}
	if f.proxyURL != "" && f.dir != "" {
		return usagef("--proxy-url and --dir cannot be combined: a running node has its own folder")
	}
	if err := notZero(a.cmd, "connections", "batch", "size", "duration"); err != nil {
		return err
	}
	if err := f.Validate(); err != nil {
		return usage(err, "")
	}
	if !a.asJSON {
		f.Progress = func(text string) { a.note("%s", text) }
	}
	node, err := f.node(a.cmd)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, node.close()) }()
	stopProfile, err := startProfile(f.cpuProfile)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stopProfile()) }()
	res, err := bench.MeasurePipeline(a.ctx, f.PipelineOptions)
	if err != nil {
		return err
	}
	res.FileSystem, res.SyncP50 = node.fileSystem, float64(node.syncTime.Nanoseconds())/1000
	return errors.Join(a.facts(nil, res, pipelineFacts(res)...), res.Failed())
}

// node is what is measured: a running node, or one that is started here.
func (f *benchPipelineFlags) node(cmd *cobra.Command) (*benchBroker, error) {
	if f.proxyURL != "" {
		files, err := f.connect.files()
		if err == nil {
			err = f.reach(files, f.proxyURL, f.mainURL)
		}
		return &benchBroker{fileSystem: "unknown"}, err
	}
	b := &benchBroker{data: f.dir}
	err := b.prepareFolder(true)
	if err == nil {
		err = b.start(cmd, f.nodeProfile, brokerproc.Config{Roles: roles, Env: []string{"SEALMQ_PROXY_RATE=-1"}})
	}
	if err == nil {
		f.Sample = b.sample
		err = f.reach(mtls.FilesIn(ca.In(b.data).Certs(), ca.AdminName), "https://"+b.process.ProxyAddr, "https://"+b.process.MainAddr)
	}
	if err != nil {
		return nil, errors.Join(err, b.close())
	}
	return b, nil
}

// reach says where to submit, and how to read what is stored.
func (f *benchPipelineFlags) reach(files mtls.Files, proxyURL, mainURL string) error {
	if err := errors.Join(checkHTTPS("--proxy-url", proxyURL), checkHTTPS("--main-url", mainURL)); err != nil {
		return err
	}
	u, err := url.Parse(proxyURL)
	if err != nil {
		return err
	}
	if f.Addr = u.Host; u.Port() == "" {
		f.Addr += ":443"
	}
	if f.TLS, err = mtls.ClientConfig(files, mtls.ClientOptions{}); err != nil {
		return err
	}
	certs, err := mtls.ReadCertificates(files.Cert)
	if err != nil {
		return err
	}
	names := mtls.Names(certs[0])
	if len(names) == 0 {
		return fmt.Errorf("certificate %s has no name", files.Cert)
	}
	clientID := names[0]
	c, err := newAPICaller(files, "main")
	if err != nil {
		return err
	}
	client, err := mainapi.NewClientWithResponses(mainURL, mainapi.WithHTTPClient(c))
	if err != nil {
		return err
	}
	f.Delivered = func(ctx context.Context) (int, error) {
		page, err := searchMessages(ctx, client, mainapi.MessageSearch{ClientID: clientID, Status: pipeline.Delivered, Limit: 1})
		return int(page.Total.Count), err
	}
	f.Rows = func(ctx context.Context, since time.Time, use func(bench.Row)) error {
		search := mainapi.MessageSearch{ClientID: clientID, From: since, Limit: 500}
		for {
			page, err := searchMessages(ctx, client, search)
			if err != nil {
				return err
			}
			for _, m := range page.Items {
				use(bench.Row{ID: m.MessageID, Delivered: m.Status == pipeline.Delivered, DeliveredAt: m.DeliveredAt})
			}
			if search.Cursor = page.NextCursor; search.Cursor == "" {
				return nil
			}
		}
	}
	return nil
}

func searchMessages(ctx context.Context, c *mainapi.ClientWithResponses, s mainapi.MessageSearch) (mainapi.MessagePage, error) {
	r, err := c.SearchMessagesWithResponse(ctx, s)
	if err != nil {
		return mainapi.MessagePage{}, err
	}
	return *r.JSON200, nil
}

// pipelineFacts are the names and values of a result for people.
func pipelineFacts(r *bench.PipelineResult) (pairs []any) {
	add := func(when bool, name, format string, args ...any) {
		if when {
			pairs = append(pairs, name, fmt.Sprintf(format, args...))
		}
	}
	add(true, "load", "%d connections, %d messages a request, texts of %d characters", r.Connections, r.Batch, r.Size)
	add(true, "rate", "%.0f messages a second submitted, %.0f delivered", r.SubmittedRate, r.DeliveredRate)
	add(true, "submit", "p50 %.3f ms, p99 %.3f ms, p99.9 %.3f ms", r.SubmitP50, r.SubmitP99, r.SubmitP999)
	add(true, "end to end", "p50 %.3f ms, p99 %.3f ms, p99.9 %.3f ms", r.EndToEndP50, r.EndToEndP99, r.EndToEnd999)
	add(true, "messages", "%d submitted, %d refused, %d delivered", r.Submitted, r.Refused, r.Delivered)
	add(true, "checked", "%d lost, %d stored twice", r.Lost, r.Duplicates)
	add(r.NodeRSS > 0, "node", "%.1f µs of CPU a message, %s of memory", r.NodeCPU, mebibytes(r.NodeRSS))
	add(true, "client", "%.1f µs of CPU a message", r.ClientCPU)
	add(r.SyncP50 > 0, "disk", "%s, fdatasync p50 %.0f µs", r.FileSystem, r.SyncP50)
	return pairs
}
