package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/seal"
)

// letter is a line of the receiver's file.
type letter struct {
	ID   string `json:"message_id"`
	Text string `json:"text"`
}

// receiver opens what comes and appends it to its file. It acknowledges only after the
// file is synced, and recognises what comes again by its id.
type receiver struct {
	client *client.Client
	sub    *client.Subscription
	key    *seal.PrivateKey
	file   *os.File

	known       map[string]bool // ids in the file
	redelivered int

	mu       sync.Mutex
	n        int           // len(known), for waitFor
	progress chan struct{} // closed and replaced whenever n grows
}

func (d *Demo) newReceiver(ctx context.Context) (_ *receiver, err error) {
	r := &receiver{key: d.key, known: make(map[string]bool), progress: make(chan struct{})}
	if r.client, err = d.dial(ctx, Receiver); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			r.close()
		}
	}()
	for _, line := range []string{"declare_exchange " + Exchange, "declare_queue " + Queue, "bind " + Queue + " " + Exchange + " " + Key} {
		if _, err := r.client.Command(ctx, line); err != nil {
			return nil, fmt.Errorf("%s: %w", line, err)
		}
	}
	if r.sub, err = r.client.Consume(ctx, Queue, 0); err != nil {
		return nil, err
	}
	if r.file, err = os.OpenFile(d.ReceivedFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
		return nil, fmt.Errorf("open the receiver's file: %w", err)
	}
	return r, nil
}

// receiveBatch is how many messages share one sync of the receiver's file.
const receiveBatch = 32

// receive works until ctx ends.
func (r *receiver) receive(ctx context.Context) error {
	batch := make([]client.Delivery, receiveBatch)
	for {
		n, err := r.sub.NextBatch(ctx, batch)
		if err != nil {
			return fmt.Errorf("receive: %w", err)
		}
		ids, err := r.keep(batch[:n])
		if err != nil {
			return err
		}
		// An interrupted ack is no harm: the message comes again and is recognised.
		if err := r.sub.AckWait(ctx, ids...); err != nil && !errors.Is(err, client.ErrInterrupted) {
			return fmt.Errorf("acknowledge: %w", err)
		}
	}
}

// keep opens a batch, appends what is new to the file, and syncs it.
func (r *receiver) keep(batch []client.Delivery) (ids []string, err error) {
	var lines []byte
	var fresh []string
	for i := range batch {
		d := &batch[i]
		ids = append(ids, d.ID)
		if r.known[d.ID] {
			r.redelivered++
			continue
		}
		id, plain, err := r.key.Open(d.Body)
		if err != nil {
			return nil, fmt.Errorf("open message %s: %w", d.ID, err)
		}
		if id != d.ID {
			return nil, fmt.Errorf("message %s says that its id is %s", d.ID, id)
		}
		line, err := json.Marshal(letter{id, string(plain)})
		if err != nil {
			return nil, fmt.Errorf("write message %s: %w", d.ID, err)
		}
		lines = append(append(lines, line...), '\n')
		r.known[d.ID] = true
		fresh = append(fresh, d.ID)
	}
	if len(fresh) == 0 {
		return ids, nil
	}
	if _, err := r.file.Write(lines); err != nil {
		return nil, fmt.Errorf("write the receiver's file: %w", err)
	}
	if err := r.file.Sync(); err != nil {
		return nil, fmt.Errorf("write the receiver's file: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.n += len(fresh)
	close(r.progress)
	r.progress = make(chan struct{})
	return ids, nil
}

func (r *receiver) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.n
}

// errStalled says that nothing more arrives.
var errStalled = errors.New("no message arrived for a long time")

// stallTime is longer than the broker's ack timeout, after which everything that a
// lost connection held comes again at the latest.
const stallTime = 45 * time.Second

// waitFor waits until n messages are in the file. ended is the result of receive.
func (r *receiver) waitFor(ctx context.Context, n int, ended <-chan error) error {
	for {
		r.mu.Lock()
		got, progress := r.n, r.progress
		r.mu.Unlock()
		if got >= n {
			return nil
		}
		stall := time.NewTimer(stallTime)
		select {
		case <-progress:
		case err := <-ended:
			return err
		case <-stall.C:
			return errStalled
		case <-ctx.Done():
			return ctx.Err()
		}
		stall.Stop()
	}
}

func (r *receiver) close() {
	r.client.Close()
	if r.file != nil {
		r.file.Close() // everything in it is synced
	}
}
