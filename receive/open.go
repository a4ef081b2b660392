package receive

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/seal"
)

// openResult is what became of the attempt to open a message.
type openResult struct {
	m   *seal.Message
	err error
}

// open opens the first pending messages on all cores.
func (r *Receiver) open(n int) {
	const share = 16 // messages at a time, so that the cores do not fight for the counter
	var next atomic.Int64
	work := func() {
		for {
			from := int(next.Add(share)) - share
			if from >= n {
				return
			}
			for i := from; i < min(n, from+share); i++ {
				r.results[i].m, r.results[i].err = r.openOne(&r.pending[i])
			}
		}
	}
	var workers sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), (n+share-1)/share) - 1 {
		workers.Go(work)
	}
	work()
	workers.Wait()
}

func (r *Receiver) openOne(d *sealmq.Delivery) (m *seal.Message, err error) {
	want := seal.Expect{ID: d.ID, Exchange: r.cfg.Exchange, RoutingKey: r.cfg.RoutingKey}
	for _, o := range r.openers {
		if m, err = o.Open(d.Body, want); err == nil || !errors.Is(err, seal.ErrReceiver) {
			return m, err
		}
	}
	return m, err
}

// reload looks for new keys if no key opened a message, and opens it with them. If nobody can
// be asked now, it returns for how long: until then nothing is refused for want of a key.
func (r *Receiver) reload(ctx context.Context, n int) (wait time.Duration) {
	noKey := func(res openResult) bool { return errors.Is(res.err, seal.ErrWrongKey) }
	if r.cfg.Reload == nil || !slices.ContainsFunc(r.results[:n], noKey) {
		return 0
	}
	now := r.cfg.Now()
	if wait = r.askAgain.Sub(now); wait > 0 {
		return min(wait, keysPause) // the clock may have been set back
	}
	r.askAgain = now.Add(keysPause)
	keys, err := r.cfg.Reload(ctx)
	if err != nil {
		r.cfg.Log.Warn("the keys cannot be read again; messages that no key opens come again", "err", err)
		return keysPause
	}
	r.SetKeys(keys)
	for i := range n {
		if noKey(r.results[i]) {
			r.results[i].m, r.results[i].err = r.openOne(&r.pending[i])
		}
	}
	return 0
}
