package bench

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sealmq/sealmq/internal/clock"
)

// PipelineLoad is what is measured of the pipeline. The JSON names are an interface: scripts
// read them.
type PipelineLoad struct {
	// Connections is how many connections submit, one request after the other each.
	Connections int `json:"connections"`
	// Batch is the messages of one request; 1 uses /submit, more use /submit/batch.
	Batch int `json:"batch"`
	// Rate is how many messages all connections submit in a second; 0 is as many as they can.
	Rate int `json:"rate,omitempty"`
	// Size is the length of a text in characters.
	Size int `json:"size"`
}

// PipelineOptions are a load and where it goes. Addr, TLS, Delivered and Rows are required;
// zero values of the others have the defaults named here.
type PipelineOptions struct {
	PipelineLoad
	// Duration is how long to submit (DefaultDuration).
	Duration time.Duration
	// Stall is how long to wait for a next delivery before giving up (DefaultStall).
	Stall time.Duration
	// Addr is the proxy's host:port, TLS the configuration to dial it with.
	Addr string
	TLS  *tls.Config
	// Delivered reads how many of the client's messages are stored as delivered, also those
	// of earlier runs.
	Delivered func(ctx context.Context) (int, error)
	// Rows calls use for each row of the client that was queued at this time or later.
	Rows func(ctx context.Context, since time.Time, use func(Row)) error
	// Sample reads metrics of the process; nil if they are not available.
	Sample func(ctx context.Context) (Sample, error)
	// Progress is called with a sentence about the current step.
	Progress func(string)
}

// Row is a stored message.
type Row struct {
	ID          string
	Delivered   bool
	DeliveredAt time.Time
}

// Limits and defaults of PipelineLoad.
const (
	DefaultConnections = 64
	DefaultTextSize    = 100
	MaxConnections     = 1000
	MaxBatch           = 500
	MaxTextSize        = 1000
)

// PipelineResult is what was measured.
type PipelineResult struct {
	PipelineLoad

	Submitted  int     `json:"submitted"` // messages that a 202 or an entry of a batch's answer says are queued
	Refused    int     `json:"refused"`   // messages with another answer, also "unknown"
	Delivered  int     `json:"delivered"` // rows of submitted messages that say delivered
	Lost       int     `json:"lost"`      // submitted messages without such a row
	Duplicates int     `json:"duplicates"`
	Seconds    float64 `json:"seconds"` // of submitting

	SubmittedRate float64 `json:"submitted_per_s"`
	DeliveredRate float64 `json:"delivered_per_s"` // up to the last delivery

	SubmitP50   float64 `json:"submit_p50_ms"`
	SubmitP99   float64 `json:"submit_p99_ms"`
	SubmitP999  float64 `json:"submit_p999_ms"`
	EndToEndP50 float64 `json:"e2e_p50_ms"`
	EndToEndP99 float64 `json:"e2e_p99_ms"`
	EndToEnd999 float64 `json:"e2e_p999_ms"`

	NodeCPU   float64 `json:"node_cpu_us_per_msg,omitempty"`
	NodeRSS   int64   `json:"node_rss_bytes,omitempty"`
	ClientCPU float64 `json:"client_cpu_us_per_msg"`

	FileSystem string  `json:"fs"`
	SyncP50    float64 `json:"fdatasync_p50_us"`

	rows int // of the run that say delivered
}

// Failed is an error if the pipeline broke a promise, or nil.
func (r *PipelineResult) Failed() error {
	if r.Lost == 0 && r.Duplicates == 0 {
		return nil
	}
	return fmt.Errorf("of %d submitted messages %d are lost, and %d are stored twice", r.Submitted, r.Lost, r.Duplicates)
}

// Validate completes options and reports what is wrong with their numbers.
func (o *PipelineOptions) Validate() error {
	o.Connections, o.Batch, o.Size = cmp.Or(o.Connections, DefaultConnections), cmp.Or(o.Batch, 1), cmp.Or(o.Size, DefaultTextSize)
	o.Duration, o.Stall = cmp.Or(o.Duration, DefaultDuration), cmp.Or(o.Stall, DefaultStall)
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	var errs []error
	between := func(name string, n, least, most int) {
		if n < least || n > most {
			errs = append(errs, fmt.Errorf("%s: %d is not between %d and %d", name, n, least, most))
		}
	}
	between("connections", o.Connections, 1, MaxConnections)
	between("batch", o.Batch, 1, MaxBatch)
	between("size", o.Size, 1, MaxTextSize)
	if o.Rate < 0 {
		errs = append(errs, fmt.Errorf("rate: %d is negative", o.Rate))
	}
	if o.Duration <= 0 {
		errs = append(errs, fmt.Errorf("duration: %v is not positive", o.Duration))
	}
	return errors.Join(errs...)
}

// pipelineRun is one measurement of the pipeline.
type pipelineRun struct {
	PipelineOptions
	epoch time.Time // zero of the run's clock
	stop  time.Time
	next  atomic.Int64 // number of the next request, for the rate

	submitters []*submitter
	before     int // delivered rows before the run
}

// MeasurePipeline submits messages, waits until all are delivered, and compares the rows
// with what was answered.
func MeasurePipeline(ctx context.Context, o PipelineOptions) (*PipelineResult, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	r := &pipelineRun{PipelineOptions: o}
	defer func() {
		for _, s := range r.submitters {
			s.conn.Close()
		}
	}()
	for i := range o.Connections {
		s, err := dialSubmitter(ctx, r, i)
		if err != nil {
			return nil, fmt.Errorf("connect to the proxy: %w", err)
		}
		r.submitters = append(r.submitters, s)
	}
	if err := r.warmUp(ctx); err != nil {
		return nil, err
	}
	sample, err := sampleOf(ctx, r.Sample, "node")
	if err != nil {
		return nil, err
	}
	o.Progress("measuring")
	cpu := processCPU()
	r.epoch = time.Now()
	r.stop = r.epoch.Add(o.Duration)
	if err := r.submit(ctx); err != nil {
		return nil, err
	}
	seconds := time.Since(r.epoch).Seconds()
	cpu = processCPU() - cpu
	o.Progress("waiting for the last deliveries")
	if err := r.drain(ctx, r.submitted()); err != nil {
		return nil, err
	}
	after, err := sampleOf(ctx, r.Sample, "node")
	if err != nil {
		return nil, err
	}
	o.Progress("comparing the rows with the answers")
	res, err := r.judge(ctx, seconds)
	if err == nil && res.Lost > 0 { // what was counted as delivered may be messages that were refused
		if err = r.drain(ctx, res.rows+res.Lost); err == nil {
			res, err = r.judge(ctx, seconds)
		}
	}
	if err != nil {
		return nil, err
	}
	if n := float64(res.Submitted); n > 0 {
		res.NodeCPU, res.NodeRSS = float64((after.CPU-sample.CPU).Microseconds())/n, after.RSS
		res.ClientCPU = float64(cpu.Microseconds()) / n
	}
	return res, nil
}

// submit runs all connections until the time is over.
func (r *pipelineRun) submit(ctx context.Context) error {
	var running sync.WaitGroup
	errs := make([]error, len(r.submitters))
	for i, s := range r.submitters {
		running.Go(func() { errs[i] = s.submit(ctx) })
	}
	running.Wait()
	if err := ctx.Err(); err != nil {
		return err
	}
	return errors.Join(errs...)
}

// warmUp submits one request, again until it is accepted, and waits until it is delivered. A
// node that was just started may not have the main server's key yet.
func (r *pipelineRun) warmUp(ctx context.Context) (err error) {
	if r.before, err = r.Delivered(ctx); err != nil {
		return err
	}
	s := r.submitters[0]
	for began := time.Now(); len(s.accepted) == 0; {
		if time.Since(began) > r.Stall {
			return fmt.Errorf("the proxy takes no messages: %s", s.answer)
		}
		if err := s.one(time.Now()); err != nil {
			return fmt.Errorf("submit: %w", err)
		}
		if err := clock.Sleep(ctx, clock.System, drainInterval); err != nil {
			return err
		}
	}
	if err := r.drain(ctx, len(s.accepted)); err != nil {
		return err
	}
	// Their rows may be younger than the measurement, and are none of its.
	for _, a := range s.accepted {
		s.unknown = append(s.unknown, a.id)
	}
	s.accepted, s.refused, s.failed, s.latency = nil, 0, 0, newLatency()
	r.before, err = r.Delivered(ctx)
	return err
}

func (r *pipelineRun) submitted() (n int) {
	for _, s := range r.submitters {
		n += len(s.accepted)
	}
	return n
}

// drainInterval is how often the number of deliveries is read.
const drainInterval = 100 * time.Millisecond

// drain waits until n messages of the run are delivered, or until none has been for the stall
// time.
func (r *pipelineRun) drain(ctx context.Context, n int) error {
	return reach(ctx, drainInterval, r.Stall, r.before+n, func() (int, error) { return r.Delivered(ctx) })
}

// judge compares the rows with the answers. A row that no answer told of is a duplicate. A
// message may have a row although its answer says that this is not known.
func (r *pipelineRun) judge(ctx context.Context, seconds float64) (*PipelineResult, error) {
	res := &PipelineResult{PipelineLoad: r.PipelineLoad, Seconds: seconds}
	type state struct {
		sent time.Time
		rows int
	}
	messages := make(map[messageID]*state, r.submitted())
	submits := make([]*latency, 0, len(r.submitters))
	unknown, strange := make(map[messageID]bool), 0
	for _, s := range r.submitters {
		for _, a := range s.accepted {
			if messages[a.id] != nil {
				res.Duplicates++ // two messages with one id are one row
			}
			messages[a.id] = &state{sent: a.sent}
		}
		for _, id := range s.unknown {
			unknown[id] = true
		}
		strange -= s.failed
		submits = append(submits, s.latency)
		res.Submitted += len(s.accepted)
		res.Refused += s.refused
	}
	ages, last := newLatency(), r.epoch
	err := r.Rows(ctx, r.epoch, func(row Row) {
		id, ok := parseMessageID([]byte(row.ID))
		m := messages[id]
		if row.Delivered {
			res.rows++
		}
		switch {
		case ok && unknown[id]:
			return
		case !ok || m == nil:
			strange++
			return
		case !row.Delivered:
			return
		}
		if m.rows++; m.rows > 1 {
			res.Duplicates++
			return
		}
		res.Delivered++
		ages.record(int64(row.DeliveredAt.Sub(m.sent)))
		if row.DeliveredAt.After(last) {
			last = row.DeliveredAt
		}
	})
	if err != nil {
		return nil, fmt.Errorf("read the rows: %w", err)
	}
	res.Duplicates += max(0, strange)
	res.Lost = len(messages) - res.Delivered
	res.SubmittedRate = float64(res.Submitted) / res.Seconds
	if took := last.Sub(r.epoch).Seconds(); took > 0 {
		res.DeliveredRate = float64(res.Delivered) / took
	}
	q := merged(submits)
	res.SubmitP50, res.SubmitP99, res.SubmitP999 = q.P50, q.P99, q.P999
	q = merged([]*latency{ages})
	res.EndToEndP50, res.EndToEndP99, res.EndToEnd999 = q.P50, q.P99, q.P999
	return res, nil
}
