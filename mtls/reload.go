package mtls

import (
	"crypto/sha256"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sealmq/sealmq/internal/clock"
)

// DefaultReloadEvery is how often files are looked at, at most.
const DefaultReloadEvery = time.Second

// reloader keeps a value up to date that is built from files. It has no goroutine: get
// reads the files when it is time to.
type reloader[T any] struct {
	files Files
	build func(*material) T
	log   *slog.Logger
	clock clock.Clock
	every time.Duration

	current atomic.Pointer[T]
	// next is when the files are looked at again, in Unix nanoseconds.
	next atomic.Int64

	mu      sync.Mutex // one look at a time; guards what follows
	digest  [sha256.Size]byte
	lastErr string
}

// newReloader reads the files; here an error is the caller's.
func newReloader[T any](files Files, log *slog.Logger, c clock.Clock, every time.Duration, build func(*material) T) (*reloader[T], error) {
	data, err := files.read()
	if err != nil {
		return nil, err
	}
	m, err := files.parse(data)
	if err != nil {
		return nil, err
	}
	r := &reloader[T]{files: files, build: build, log: log, clock: c, every: every, digest: data.digest()}
	v := build(m)
	r.current.Store(&v)
	r.next.Store(c.Now().Add(every).UnixNano())
	return r, nil
}

// get returns the current value. It reads files at most once in every interval, and
// while one caller is reading, the others go on with what there is: a hung disk holds
// up one handshake, not all.
func (r *reloader[T]) get() T {
	if r.clock.Now().UnixNano() >= r.next.Load() && r.mu.TryLock() {
		r.look()
		r.next.Store(r.clock.Now().Add(r.every).UnixNano())
		r.mu.Unlock()
	}
	return *r.current.Load()
}

// look reads the files and rebuilds the value if their content changed. If the content
// cannot be used, the old value stays and the log says why, once for each reason.
func (r *reloader[T]) look() {
	data, err := r.files.read()
	digest := data.digest()
	if err == nil && digest == r.digest && r.lastErr == "" {
		return
	}
	var m *material
	if err == nil {
		m, err = r.files.parse(data)
	}
	if err != nil {
		if text := err.Error(); text != r.lastErr {
			r.lastErr = text
			r.log.Error("changed TLS files cannot be used, the old ones stay in force", "err", err)
		}
		return
	}
	v := r.build(m)
	r.current.Store(&v)
	r.digest, r.lastErr = digest, ""
	r.log.Info("TLS files loaded", "cert", r.files.Cert, "ca", r.files.CA)
}
