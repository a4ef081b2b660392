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

// errNotAsked says that the broker was not asked for certificates yet.
var errNotAsked = errors.New("the broker has not answered yet")

// knownChain is the openers' way to a sender's certificates. It does not wait for the broker.
func (r *Receiver) knownChain(sum [32]byte) ([]byte, error) {
	certs, err, ok := r.chains.Known(sum)
	if ok {
		return certs, err
	}
	r.wantedMu.Lock()
	r.wanted[sum] = true
	r.wantedMu.Unlock()
	return nil, errNotAsked
}

// open opens the first pending messages.
func (r *Receiver) open(ctx context.Context, n int) {
	r.openEach(0, n, func(error) bool { return true })
	r.findChains(ctx, n)
}

// findChains asks the broker for the certificates that are wanted, if any, and opens what
// could not be opened without. All are asked for at once, also those of pending messages
// behind the first n, so that the wait does not grow with the number of senders, who may not
// exist.
func (r *Receiver) findChains(ctx context.Context, n int) {
	if len(r.wanted) == 0 {
		return
	}
	r.openEach(n, len(r.pending), func(error) bool { return true }) // only to see what they want
	var asking sync.WaitGroup
	for sum := range r.wanted {
		asking.Go(func() { _, _ = r.chains.Find(ctx, sum) }) // which remembers the answer
	}
	asking.Wait()
	r.openEach(0, n, func(err error) bool { return errors.Is(err, errNotAsked) })
	clear(r.wanted)
}

// openEach opens pending messages on all cores: those of which the last attempt ended so.
func (r *Receiver) openEach(first, end int, so func(error) bool) {
	const share = 16 // messages at a time, so that the cores do not fight for the counter
	next := atomic.Int64{}
	next.Store(int64(first))
	work := func() {
		for {
			from := int(next.Add(share)) - share
			if from >= end {
				return
			}
			for i := from; i < min(end, from+share); i++ {
				if so(r.results[i].err) {
					r.results[i].m, r.results[i].err = r.openOne(&r.pending[i])
				}
			}
		}
	}
	var workers sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), (end-first+share-1)/share) - 1 {
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
	r.openEach(0, n, func(err error) bool { return errors.Is(err, seal.ErrWrongKey) })
	r.findChains(ctx, n)
	return 0
}
