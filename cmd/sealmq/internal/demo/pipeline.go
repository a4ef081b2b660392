package demo

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sealmq/sealmq/api/mainapi"
	"github.com/sealmq/sealmq/api/proxyapi"
	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/internal/brokerproc"
	"github.com/sealmq/sealmq/internal/clock"
	"github.com/sealmq/sealmq/mtls"
	"github.com/sealmq/sealmq/pipeline"
)

// The names of the pipeline's clients. The first one's certificate is stolen at the end.
const (
	Client      = "acme-01"
	OtherClient = "acme-02"
)

// PipelineResult counts what happened to the messages that were submitted over HTTPS.
type PipelineResult struct {
	Submitted int `json:"submitted"` // messages that were answered with 202
	Delivered int `json:"delivered"` // rows of these in the database that say delivered
	// Lost messages were answered and have no such row; Duplicates are rows beyond one for
	// each. Both must be 0.
	Lost           int `json:"lost"`
	Duplicates     int `json:"duplicates"`
	WorkerRestarts int `json:"worker_restarts"`
	// SealedAtRest says that no file of queue, journal and database has a message's text or
	// number, and that the same search finds the keys of the messages, which are not secret,
	// in the journal and in the database.
	SealedAtRest bool `json:"sealed_at_rest"`
}

// TrustResult is how the revocation of a client acted.
type TrustResult struct {
	// RevocationMS is the time from the administrator's call until a call of the client, on
	// its open connection, was refused.
	RevocationMS float64 `json:"revocation_ms"`
	// RevokedRefused says that a new connection was refused too, and that another client was
	// not.
	RevokedRefused bool `json:"revoked_refused"`
}

func (r *PipelineResult) failed() error {
	switch {
	case r.Lost > 0 || r.Duplicates > 0 || r.Delivered != r.Submitted || r.Submitted != pipelineMessages:
		return fmt.Errorf("of %d messages %d were submitted and %d delivered, %d are lost and %d are stored twice",
			pipelineMessages, r.Submitted, r.Delivered, r.Lost, r.Duplicates)
	case r.WorkerRestarts != 1:
		return fmt.Errorf("the worker was restarted %d times, not once", r.WorkerRestarts)
	case !r.SealedAtRest:
		return errors.New("a text or a number can be read in the files of queue, journal or database, or the search does not work")
	}
	return nil
}

func (r *TrustResult) failed() error {
	if !r.RevokedRefused {
		return errors.New("a revoked client was not refused, or another one was")
	}
	return nil
}

const (
	pipelineMessages = 200
	// submitTime is about how long submitting takes. The worker is killed within this time.
	submitTime = time.Second
	// submitConnections is how many requests are under way at a time.
	submitConnections = 4
)

// What each message has. The search must not find the first two, and must find the third.
const (
	pipelineMarker = "the courier rings at the back door"
	senderNumber   = "+4915290871234"
	clientKey      = "demo-order"
)

// role is a process of the pipeline.
type role struct {
	name    string
	process *brokerproc.Process
	log     *os.File
}

// roles are what its process does: the portal is in that of the main server.
func (r *role) roles() []string {
	if r.name == "main" {
		return []string{"main", "portal"}
	}
	return []string{r.name}
}

// RoleLog is the log of a role of the pipeline.
func (d *Demo) RoleLog(name string) string { return filepath.Join(d.cfg.Dir, name+".log") }

// ProxyURL and MainURL are the addresses of proxy and main server.
func (d *Demo) ProxyURL() string { return "https://" + d.proxy.process.ProxyAddr }

// MainURL is described with ProxyURL.
func (d *Demo) MainURL() string { return "https://" + d.main.process.MainAddr }

// startRole starts a role of the pipeline as a process, with the data folder of the broker.
func (d *Demo) startRole(ctx context.Context, r *role) (err error) {
	if r.log == nil {
		if r.log, err = os.OpenFile(d.RoleLog(r.name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
			return fmt.Errorf("open the log of a role: %w", err)
		}
	}
	env := []string{"SEALMQ_LOG_FORMAT=json", "SEALMQ_PIPELINE_BROKER=" + d.process.Addr}
	if r != &d.main {
		env = append(env, "SEALMQ_PIPELINE_MAIN="+d.MainURL())
	}
	r.process, err = brokerproc.Start(ctx, brokerproc.Config{Exe: d.cfg.Exe, Data: d.Data(), Roles: r.roles(), Log: r.log, Env: env})
	return err
}

// startPipeline makes the clients' certificates, and starts main server, proxy and worker.
func (d *Demo) startPipeline(ctx context.Context) error {
	authority, err := ca.Open(d.Data(), ca.Options{})
	if err != nil {
		return err
	}
	for _, name := range []string{Client, OtherClient} {
		if _, err := authority.IssueFiles(ca.Request{Name: name}, "", false); err != nil {
			return fmt.Errorf("issue the certificate of %s: %w", name, err)
		}
	}
	if err := d.startRole(ctx, &d.main); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, r := range []*role{&d.proxy, &d.worker} {
		g.Go(func() error { return d.startRole(ctx, r) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	d.cfg.Say("main server with portal (process %d), proxy (%d) and worker (%d) run", d.main.process.PID, d.proxy.process.PID, d.worker.process.PID)
	return nil
}

// stopPipeline stops the roles that run, the main server last.
func (d *Demo) stopPipeline(ctx context.Context) (err error) {
	for _, r := range []*role{&d.proxy, &d.worker, &d.main} {
		if r.process != nil {
			err = errors.Join(err, r.process.Stop(ctx))
		}
		if r.log != nil {
			err = errors.Join(err, r.log.Close())
		}
	}
	return err
}

// runPipeline submits messages, kills the worker on the way, counts the rows and searches
// the files.
func (d *Demo) runPipeline(ctx context.Context) (*PipelineResult, error) {
	if err := d.startPipeline(ctx); err != nil {
		return nil, err
	}
	d.cfg.Say("%s submits %d messages over HTTPS with its certificate", Client, pipelineMessages)
	answered, restarts, err := d.submitAll(ctx)
	if err != nil {
		return nil, err
	}
	r := &PipelineResult{Submitted: len(answered), WorkerRestarts: restarts}
	d.cfg.Say("all %d were answered with 202", r.Submitted)
	if err := d.countRows(ctx, answered, r); err != nil {
		return nil, err
	}
	r.SealedAtRest, err = d.sealedAtRest()
	return r, err
}

// submitAll submits all messages and returns the ids of those that were answered with 202.
// Half-way it kills the worker and starts it again.
func (d *Demo) submitAll(ctx context.Context) (answered map[string]bool, restarts int, err error) {
	client, closeIdle, err := d.proxyClient(Client)
	if err != nil {
		return nil, 0, err
	}
	defer closeIdle()
	answered = make(map[string]bool)
	ids := make(chan string, pipelineMessages)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(submitConnections + 1) // and one that restarts the worker
	began := time.Now()
	for i := range pipelineMessages {
		if i == pipelineMessages/2 {
			g.Go(func() error {
				restarts++
				return d.crashWorker(ctx, i)
			})
		}
		_ = clock.Sleep(ctx, clock.System, time.Until(began.Add(submitTime*time.Duration(i)/pipelineMessages)))
		g.Go(func() error {
			id, err := submitOne(ctx, client, i)
			ids <- id
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, 0, err
	}
	close(ids)
	for id := range ids {
		answered[id] = true
	}
	return answered, restarts, nil
}

// submitOne submits a message until it is answered with 202, each time with the same key.
func submitOne(ctx context.Context, client *proxyapi.ClientWithResponses, i int) (id string, err error) {
	m := proxyapi.Submission{SenderNumber: senderNumber, MessageID: fmt.Sprintf("%s-%d", clientKey, i),
		MessageBody: fmt.Sprintf("%s, parcel %d of %d", pipelineMarker, i+1, pipelineMessages)}
	for began := time.Now(); time.Since(began) < stallTime && ctx.Err() == nil; {
		r, failed := client.SubmitMessageWithResponse(ctx, nil, m)
		switch err = failed; {
		case err != nil:
		case r.JSON202 != nil:
			return r.JSON202.MessageID, nil
		default:
			err = fmt.Errorf("the proxy answered %s", r.HTTPResponse.Status)
		}
		_ = clock.Sleep(ctx, clock.System, pollInterval)
	}
	return "", fmt.Errorf("submit a message: %w", err)
}

func (d *Demo) crashWorker(ctx context.Context, submitted int) error {
	before := d.worker.process
	before.Kill()
	if err := d.startRole(ctx, &d.worker); err != nil {
		return err
	}
	d.cfg.Say("killed the worker (kill -9 %d) after about %d messages; process %d goes on where it was", before.ProcessID(), submitted, d.worker.process.PID)
	return nil
}

// countRows waits until the database has all messages as delivered, and compares its rows with
// what was answered.
func (d *Demo) countRows(ctx context.Context, answered map[string]bool, r *PipelineResult) error {
	client, closeIdle, err := d.mainClient()
	if err != nil {
		return err
	}
	defer closeIdle()
	for began := time.Now(); time.Since(began) < stallTime; {
		page, err := searchRows(ctx, client, mainapi.MessageSearch{ClientID: Client, Status: pipeline.Delivered, Limit: 1})
		if err != nil {
			return err
		}
		if int(page.Total.Count) >= len(answered) {
			break
		}
		if err := clock.Sleep(ctx, clock.System, pollInterval); err != nil {
			return err
		}
	}
	seen := make(map[string]bool)
	for search := (mainapi.MessageSearch{ClientID: Client, Limit: pipeline.MaxBatch}); ; {
		page, err := searchRows(ctx, client, search)
		if err != nil {
			return err
		}
		for _, m := range page.Items {
			switch {
			case seen[m.MessageID] || !answered[m.MessageID]:
				r.Duplicates++
			case m.Status == pipeline.Delivered:
				r.Delivered++
			}
			seen[m.MessageID] = true
		}
		if search.Cursor = page.NextCursor; search.Cursor == "" {
			break
		}
	}
	r.Lost = len(answered) - r.Delivered
	d.cfg.Say("the database has %d of them as delivered", r.Delivered)
	return nil
}

func searchRows(ctx context.Context, client *mainapi.ClientWithResponses, s mainapi.MessageSearch) (*mainapi.MessagePage, error) {
	r, err := client.SearchMessagesWithResponse(ctx, s)
	if err != nil {
		return nil, fmt.Errorf("read the rows: %w", err)
	}
	if r.JSON200 == nil {
		return nil, fmt.Errorf("read the rows: the main server answered %s", r.HTTPResponse.Status)
	}
	return r.JSON200, nil
}

// sealedAtRest searches all files for text and number, and for what must be found.
func (d *Demo) sealedAtRest() (bool, error) {
	hits := make(map[string]int)
	for _, what := range []struct{ of, text string }{{"the messages", pipelineMarker}, {"their numbers", senderNumber[1:]}} {
		n, err := d.search(what.of, what.text, d.files()...)
		if err != nil {
			return false, err
		}
		hits["secret"] += n
	}
	for name, folder := range map[string]string{"journal": "store", "database": "pipeline"} {
		n, err := d.search("their keys, which are no secret, in the "+name, clientKey, filepath.Join(d.Data(), folder))
		if err != nil {
			return false, err
		}
		hits[name] = n
	}
	return hits["secret"] == 0 && hits["journal"] > 0 && hits["database"] > 0, nil
}

// files are everything that the processes write: the data folder and the logs.
func (d *Demo) files() []string {
	list := []string{d.Data(), d.LogFile()}
	for _, r := range []*role{&d.main, &d.proxy, &d.worker} {
		if r.log != nil {
			list = append(list, d.RoleLog(r.name))
		}
	}
	return list
}

// httpClient makes calls with a certificate of the data folder. Its connections stay open
// until closeIdle is called.
func (d *Demo) httpClient(name string) (c *http.Client, closeIdle func(), err error) {
	conf, err := mtls.ClientConfig(mtls.FilesIn(ca.In(d.Data()).Certs(), name), mtls.ClientOptions{})
	if err != nil {
		return nil, nil, err
	}
	t := &http.Transport{TLSClientConfig: conf, MaxIdleConnsPerHost: submitConnections}
	return &http.Client{Transport: t, Timeout: stopTimeout}, t.CloseIdleConnections, nil
}

func (d *Demo) proxyClient(name string) (*proxyapi.ClientWithResponses, func(), error) {
	hc, closeIdle, err := d.httpClient(name)
	if err != nil {
		return nil, nil, err
	}
	c, err := proxyapi.NewClientWithResponses(d.ProxyURL(), proxyapi.WithHTTPClient(hc))
	return c, closeIdle, err
}

func (d *Demo) mainClient() (*mainapi.ClientWithResponses, func(), error) {
	hc, closeIdle, err := d.httpClient(ca.AdminName)
	if err != nil {
		return nil, nil, err
	}
	c, err := mainapi.NewClientWithResponses(d.MainURL(), mainapi.WithHTTPClient(hc))
	return c, closeIdle, err
}
