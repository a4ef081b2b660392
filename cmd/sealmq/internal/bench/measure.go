package bench

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/sealmq/sealmq/client"
)

// Result is what was measured. The JSON names are an interface: scripts read them.
type Result struct {
	Load

	Published  uint64  `json:"published"`
	Confirmed  uint64  `json:"confirmed"`
	Delivered  uint64  `json:"delivered"` // messages that arrived, each counted once
	Lost       uint64  `json:"lost"`      // confirmed messages that never arrived
	Duplicates uint64  `json:"duplicates"`
	Corrupt    uint64  `json:"corrupt"`
	Seconds    float64 `json:"seconds"`
	// Rate is delivered messages a second, or confirmed messages a second in the phase
	// "publish".
	Rate        float64 `json:"msgs_per_s"`
	ConfirmRate float64 `json:"confirms_per_s"`

	ConfirmP50  float64 `json:"confirm_p50_ms"`
	ConfirmP99  float64 `json:"confirm_p99_ms"`
	ConfirmP999 float64 `json:"confirm_p999_ms"`
	EndToEndP50 float64 `json:"e2e_p50_ms"`
	EndToEndP99 float64 `json:"e2e_p99_ms"`
	EndToEnd999 float64 `json:"e2e_p999_ms"`

	// FirstMessage is how long a drain waited for its first message. It includes the
	// start of the broker, if this program started it.
	FirstMessage float64 `json:"first_message_ms,omitempty"`

	Syncs           uint64  `json:"syncs"`
	MessagesPerSync float64 `json:"msgs_per_sync"`
	BrokerCPU       float64 `json:"broker_cpu_us_per_msg"`
	ClientCPU       float64 `json:"client_cpu_us_per_msg"`
	BrokerRSSBefore int64   `json:"broker_rss_before_bytes"`
	BrokerRSS       int64   `json:"broker_rss_bytes"`
	RSSPerMessage   float64 `json:"broker_rss_per_waiting_msg,omitempty"`
	DiskBytes       int64   `json:"disk_bytes"`
	DiskPerMessage  float64 `json:"disk_bytes_per_waiting_msg,omitempty"`

	// RoundTripP50 is the time of a command that needs no disk. With a window of one, a
	// confirm takes at least this time and a sync.
	RoundTripP50 float64 `json:"rtt_p50_us,omitempty"`

	// FileSystem and SyncP50 describe the broker's folder, if it is known.
	FileSystem string  `json:"fs"`
	SyncP50    float64 `json:"fdatasync_p50_us"`
}

// The phases of a measurement.
const (
	Both    = "both"    // publish and consume at the same time
	Publish = "publish" // only publish; the messages stay
	Drain   = "drain"   // consume the messages of an earlier Publish
)

// Measure sets the run up and measures its phase. began is when the broker process was
// started, or zero if that is not known. Only Drain uses it.
func (r *Run) Measure(ctx context.Context, began time.Time) (*Result, error) {
	o := &r.opts
	if o.Phase != Drain {
		o.Progress("declaring queues")
		if err := r.prepare(ctx); err != nil {
			return nil, err
		}
	}
	m, err := r.begin(ctx)
	if err != nil {
		return nil, err
	}
	if o.Phase != Drain {
		if err := r.Publish(ctx, o.Messages, o.Duration); err != nil {
			return nil, err
		}
		m.publishedAt = r.now()
	} else {
		if !began.IsZero() {
			m.start = r.at(began)
		}
		if err := r.Subscribe(ctx, false); err != nil {
			return nil, err
		}
	}
	if o.Phase != Publish {
		o.Progress("waiting for the last messages")
		if err := r.Drain(ctx); err != nil {
			return nil, err
		}
	}
	return m.end(ctx)
}

// prepare declares the queues, connects, and publishes the backlog.
func (r *Run) prepare(ctx context.Context) error {
	o := &r.opts
	if err := r.Setup(ctx); err != nil {
		return fmt.Errorf("set up: %w", err)
	}
	for i := range o.Publishers {
		c, err := o.Dial(ctx, o.Window)
		if err != nil {
			return err
		}
		r.publishers = append(r.publishers, newPublisher(r, i, c))
	}
	if o.Phase == Publish {
		return nil
	}
	if o.Backlog > 0 {
		o.Progress(fmt.Sprintf("publishing a backlog of %d messages", o.Backlog))
		if err := r.Publish(ctx, o.Backlog, 0); err != nil {
			return err
		}
	}
	return r.Subscribe(ctx, o.Backlog == 0)
}

// measurement is the current phase.
type measurement struct {
	run           *Run
	result        *Result
	start         int64
	publishedAt   int64
	before        Sample
	clientCPU     time.Duration
	sent, confirm uint64 // at the start
}

func (r *Run) begin(ctx context.Context) (*measurement, error) {
	m := &measurement{run: r, result: &Result{Load: r.opts.Load}, sent: r.sent(), confirm: r.confirmed()}
	var err error
	if m.before, err = sampleOf(ctx, r.opts.Sample, "broker"); err != nil {
		return nil, err
	}
	if r.opts.Phase != Drain {
		if m.result.RoundTripP50, err = roundTrip(ctx, r.publishers[0].client); err != nil {
			return nil, err
		}
		r.emptyRSS = m.before.RSS
		for _, p := range r.publishers {
			p.latency = newLatency() // safe: no message is unconfirmed
		}
	}
	m.clientCPU = processCPU()
	m.start = r.now()
	r.opts.Progress("measuring")
	return m, nil
}

const roundTrips = 500

// roundTrip is the median time of a command on an idle connection, in microseconds.
func roundTrip(ctx context.Context, c *client.Client) (float64, error) {
	times := make([]time.Duration, roundTrips)
	for i := range times {
		began := time.Now()
		if err := c.Ping(ctx); err != nil {
			return 0, fmt.Errorf("measure the round trip: %w", err)
		}
		times[i] = time.Since(began)
	}
	slices.Sort(times)
	return float64(times[roundTrips/2].Nanoseconds()) / 1000, nil
}

// end waits for the last acknowledgements and computes the figures.
func (m *measurement) end(ctx context.Context) (*Result, error) {
	r, res := m.run, m.result
	end := r.now()
	for _, k := range r.consumers {
		if err := k.client.Flush(ctx); err != nil {
			return nil, fmt.Errorf("wait for acknowledgements: %w", err)
		}
	}
	cpu := processCPU() - m.clientCPU
	after, err := sampleOf(ctx, r.opts.Sample, "broker")
	if err != nil {
		return nil, err
	}
	res.Published, res.Confirmed = r.sent()-m.sent, r.confirmed()-m.confirm
	res.Delivered = r.counts.delivered.Load()
	res.Duplicates, res.Corrupt = r.counts.duplicates.Load(), r.counts.corrupt.Load()
	messages := res.Delivered
	if res.Phase == Publish {
		messages = res.Confirmed
	} else {
		res.Lost = r.lost()
	}
	start := m.start
	if first := r.counts.first.Load(); res.Phase == Drain && first > 0 {
		res.FirstMessage = float64(first-m.start) / 1e6
		start = first
	}
	res.Seconds = float64(end-start) / 1e9
	res.Rate = float64(messages) / res.Seconds
	if m.publishedAt > 0 {
		res.ConfirmRate = float64(res.Confirmed) * 1e9 / float64(m.publishedAt-m.start)
	}
	r.quantiles(res)
	m.costs(after, cpu, messages)
	return res, nil
}

// costs computes what each message cost broker, client and disk.
func (m *measurement) costs(after Sample, cpu time.Duration, messages uint64) {
	res := m.result
	res.BrokerRSSBefore, res.BrokerRSS, res.DiskBytes = m.before.RSS, after.RSS, after.DiskBytes
	res.Syncs = after.Syncs - m.before.Syncs
	if messages == 0 {
		return
	}
	n := float64(messages)
	res.BrokerCPU = float64((after.CPU - m.before.CPU).Microseconds()) / n
	res.ClientCPU = float64(cpu.Microseconds()) / n
	if res.Syncs > 0 {
		res.MessagesPerSync = n / float64(res.Syncs)
	}
	switch res.Phase {
	case Publish:
		res.RSSPerMessage = float64(after.RSS-m.before.RSS) / n
		res.DiskPerMessage = float64(after.DiskBytes-m.before.DiskBytes) / n
	case Drain: // before the drain, the broker held the whole backlog
		if m.run.emptyRSS > 0 {
			res.RSSPerMessage = float64(m.before.RSS-m.run.emptyRSS) / n
		}
	}
}

func (r *Run) quantiles(res *Result) {
	var confirms, ages []*latency
	for _, p := range r.publishers {
		confirms = append(confirms, p.latency)
	}
	for _, c := range r.consumers {
		ages = append(ages, c.latency)
	}
	q := merged(confirms)
	res.ConfirmP50, res.ConfirmP99, res.ConfirmP999 = q.P50, q.P99, q.P999
	q = merged(ages)
	res.EndToEndP50, res.EndToEndP99, res.EndToEnd999 = q.P50, q.P99, q.P999
}

// sampleOf reads metrics, if there are any.
func sampleOf(ctx context.Context, read func(context.Context) (Sample, error), whose string) (s Sample, err error) {
	if read == nil {
		return s, nil
	}
	if s, err = read(ctx); err != nil {
		err = fmt.Errorf("read the %s's metrics: %w", whose, err)
	}
	return s, err
}

// Failed is an error if the broker broke a promise, or nil.
func (res *Result) Failed() error {
	if res.Lost == 0 && res.Duplicates == 0 && res.Corrupt == 0 {
		return nil
	}
	return fmt.Errorf("%d messages lost, %d delivered twice, %d changed", res.Lost, res.Duplicates, res.Corrupt)
}
