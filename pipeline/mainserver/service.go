package mainserver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/pipeline"
	"github.com/sealmq/sealmq/pipeline/records"
	"github.com/sealmq/sealmq/seal"
)

// Records is what the service needs of package records to take in messages.
type Records interface {
	Register(ctx context.Context, messages []records.Message) ([]pipeline.Result, error)
	Deliver(ctx context.Context, deliveries []records.Delivery) ([]pipeline.Result, error)
	Status(ctx context.Context, updates []pipeline.Update) ([]pipeline.Result, error)
	// Get returns a client's message, or records.ErrNotFound.
	Get(ctx context.Context, client, id string) (records.Record, error)
}

// Config is what a Service works with. Records, Keys and Opener must be set.
type Config struct {
	Records Records
	// Keys are the sealing keys, and Opener opens with them.
	Keys   *Keys
	Opener *seal.Opener
	// IDKey is what proxies get as pipeline.Keys.IDKey.
	IDKey []byte
	// TakeClear accepts items in clear, which come from foreign producers. Their rows are
	// marked.
	TakeClear bool
	// MaxBody is the longest text in code points (default pipeline.DefaultMaxBody).
	MaxBody int
	// MinNumber is the length of the shortest number in clear (default
	// pipeline.DefaultMinNumber).
	MinNumber int
	// Registry takes the metrics; nil is one of the service's own.
	Registry *prometheus.Registry
	// Now is the time of day (default time.Now).
	Now func() time.Time
	// Log may be nil.
	Log *slog.Logger
}

// Service takes in messages. It is safe for concurrent use.
type Service struct {
	cfg     Config
	recent  recent
	trouble trouble
	metrics *metrics
	missing chan struct{} // see RowsMissing

	presence presence
}

// RowsMissing gets a value after the database was not told of a certificate or a revocation.
// SyncClients and SyncCertificates make up for it.
func (s *Service) RowsMissing() <-chan struct{} { return s.missing }

// missRows notes that rows are missing.
func (s *Service) missRows() {
	select {
	case s.missing <- struct{}{}:
	default:
	}
}

// keepRecent is longer than a proxy waits before it registers a message.
const keepRecent = 5 * time.Second

// New returns a service.
func New(cfg Config) (*Service, error) {
	if cfg.Records == nil || cfg.Keys == nil || cfg.Opener == nil {
		return nil, errors.New("a main server needs records, keys and an opener")
	}
	cfg.MaxBody = cmp.Or(cfg.MaxBody, pipeline.DefaultMaxBody)
	cfg.MinNumber = cmp.Or(cfg.MinNumber, pipeline.DefaultMinNumber)
	if cfg.MaxBody < 1 || cfg.MaxBody > pipeline.MaxBody {
		return nil, fmt.Errorf("the limit of a text is between 1 and %d characters, not %d", pipeline.MaxBody, cfg.MaxBody)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	cfg.Registry = cmp.Or(cfg.Registry, prometheus.NewRegistry())
	return &Service{cfg: cfg, recent: recent{keep: keepRecent}, metrics: newMetrics(cfg.Registry), missing: make(chan struct{}, 1)}, nil
}

// For returns the service as a caller in this process sees it, with the caller's permissions.
// good, which may be nil, is asked for each call why the caller has lost them.
func (s *Service) For(caller sealmq.Identity, good func() error) pipeline.Main {
	return &view{Service: s, caller: caller, good: good}
}

// view is a pipeline.Main for one caller.
type view struct {
	*Service
	caller sealmq.Identity
	good   func() error // nil if the connection is checked for each call
}

// may returns an error with code Denied unless the caller has one of the roles.
func (v *view) may(what string, roles ...sealmq.Role) error {
	if v.good != nil {
		if err := v.good(); err != nil {
			return err
		}
	}
	if slices.Contains(roles, v.caller.Role) {
		return nil
	}
	return &sealmq.Error{Code: sealmq.Denied, Message: fmt.Sprintf("a certificate of the role %q may not %s", v.caller.Role, what)}
}

// checkBatch checks the number of entries of a call.
func checkBatch(n int) error {
	if n < 1 || n > pipeline.MaxBatch {
		return &sealmq.Error{Code: sealmq.BadArgument, Message: fmt.Sprintf("a call has 1 to %d entries, not %d", pipeline.MaxBatch, n)}
	}
	return nil
}

// Register implements pipeline.Main.
func (v *view) Register(ctx context.Context, items []pipeline.Item) ([]pipeline.Result, error) {
	if err := cmp.Or(v.may("register messages", sealmq.RoleProxy, sealmq.RoleWorker), checkBatch(len(items))); err != nil {
		return nil, err
	}
	results := make([]pipeline.Result, len(items))
	now := v.cfg.Now()
	var messages []records.Message
	var places []int
	for i := range items {
		it := &items[i]
		if d, ok := v.recent.find(it, now); ok {
			results[i] = pipeline.Result{MessageID: it.MessageID, Status: pipeline.StatusDuplicate, RowID: d.row, At: d.at, State: pipeline.Delivered}
			continue
		}
		m, bad := v.open(it)
		if bad != nil {
			results[i] = *bad
			continue
		}
		messages, places = append(messages, m), append(places, i)
	}
	if len(messages) == 0 {
		return results, nil
	}
	began := time.Now()
	stored, err := v.cfg.Records.Register(ctx, messages)
	v.metrics.took("register", began)
	if err != nil {
		return nil, err
	}
	for i, r := range stored {
		results[places[i]] = v.noted(r)
		if r.Status == pipeline.StatusRegistered {
			v.metrics.registered.of(messages[i].Client).Inc()
		}
	}
	return results, nil
}

// Deliver implements pipeline.Main.
func (v *view) Deliver(ctx context.Context, worker string, items []pipeline.Item) ([]pipeline.Result, error) {
	return v.deliver(ctx, items, func(it *pipeline.Item) (records.Delivery, *pipeline.Result) { return v.delivery(worker, it) })
}

// delivery opens an item. If that cannot be, the result says why.
func (v *view) delivery(worker string, it *pipeline.Item) (records.Delivery, *pipeline.Result) {
	m, bad := v.open(it)
	return records.Delivery{Message: m, Worker: worker, Attempts: it.AttemptCount}, bad
}

// deliver is Deliver for deliveries that read makes of the items.
func (v *view) deliver(ctx context.Context, items []pipeline.Item, read func(*pipeline.Item) (records.Delivery, *pipeline.Result)) ([]pipeline.Result, error) {
	if err := cmp.Or(v.may("deliver messages", sealmq.RoleWorker), checkBatch(len(items))); err != nil {
		return nil, err
	}
	results := make([]pipeline.Result, len(items))
	deliveries := make([]records.Delivery, 0, len(items))
	places := make([]int, 0, len(items))
	for i := range items {
		d, bad := read(&items[i])
		if bad != nil {
			results[i] = *bad
			continue
		}
		deliveries = append(deliveries, d)
		places = append(places, i)
	}
	if len(deliveries) == 0 {
		return results, nil
	}
	began := time.Now()
	stored, err := v.cfg.Records.Deliver(ctx, deliveries)
	v.metrics.took("deliver", began)
	if err != nil {
		return nil, err
	}
	now := v.cfg.Now()
	for i, r := range stored {
		m := &deliveries[i].Message
		results[places[i]] = v.noted(r)
		if r.Status == pipeline.StatusDelivered {
			v.metrics.delivered.of(m.Client).Inc()
		}
		if r.State == pipeline.Delivered && r.Status != pipeline.StatusConflict {
			v.recent.add(&items[places[i]], delivered{r.RowID, r.At}, now)
		}
	}
	return results, nil
}

// Status implements pipeline.Main.
func (v *view) Status(ctx context.Context, updates []pipeline.Update) ([]pipeline.Result, error) {
	if err := cmp.Or(v.may("change the state of messages", sealmq.RoleWorker), checkBatch(len(updates))); err != nil {
		return nil, err
	}
	began := time.Now()
	results, err := v.cfg.Records.Status(ctx, updates)
	v.metrics.took("status", began)
	if err != nil {
		return nil, err
	}
	for i, r := range results {
		v.noted(r)
		if u := &updates[i]; r.Status == pipeline.StatusUpdated && u.State == pipeline.Failed {
			v.metrics.countFailed(u.ClientID, u.Error)
		}
	}
	return results, nil
}

// Keys implements pipeline.Main.
func (v *view) Keys(context.Context) (k pipeline.Keys, err error) {
	if err := v.may("ask for the keys of the main server", sealmq.RoleProxy, sealmq.RoleWorker, sealmq.RoleServer, sealmq.RoleAdmin); err != nil {
		return k, err
	}
	if v.caller.Role == sealmq.RoleProxy {
		k.IDKey = v.cfg.IDKey
	}
	k.Entries, err = v.cfg.Keys.Entries(v.cfg.Now())
	return k, err
}

// Find implements pipeline.Main.
func (v *view) Find(ctx context.Context, clientID, messageID string) (m pipeline.MessageState, found bool, err error) {
	if err := v.may("ask for the state of messages", sealmq.RoleProxy, sealmq.RoleWorker); err != nil {
		return m, false, err
	}
	began := time.Now()
	r, err := v.cfg.Records.Get(ctx, clientID, messageID)
	v.metrics.took("get", began)
	if errors.Is(err, records.ErrNotFound) {
		return m, false, nil
	}
	if err != nil {
		return m, false, err
	}
	return stateOf(&r), true, nil
}

// stateOf is what a client is told about its message.
func stateOf(r *records.Record) pipeline.MessageState {
	return pipeline.MessageState{MessageID: r.ID, ClientID: r.Client, ClientKey: r.ClientKey, State: r.State, Attempts: r.Attempts,
		Domain: r.Domain, QueuedAt: r.QueuedAt, DeliveredAt: r.DeliveredAt, Error: r.Error}
}

// noted returns a result, and remembers that it tells of trouble.
func (s *Service) noted(r pipeline.Result) pipeline.Result {
	if r.Status == pipeline.StatusUnavailable {
		s.trouble.note(r.Reason, s.cfg.Now())
	}
	return r
}
