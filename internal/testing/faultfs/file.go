package faultfs

import (
	"io"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"syscall"

	"github.com/sealmq/sealmq/internal/durable"
)

// handle is an open file.
type handle struct {
	fs     *FS
	node   *node
	path   string // as opened
	flag   int
	closed atomic.Bool
}

var _ durable.File = (*handle)(nil)

// begin is FS.begin for an open file.
func (h *handle) begin(op Op) (*Fault, error) { return h.beginAfter(op, func() {}) }

func (h *handle) beginAfter(op Op, start func()) (*Fault, error) {
	if h.closed.Load() {
		return nil, pathError(op.Kind.String(), h.path, os.ErrClosed)
	}
	op.Path = h.path
	fault, err := h.fs.beginAfter(op, start)
	if err != nil {
		return nil, pathError(op.Kind.String(), h.path, err)
	}
	return fault, nil
}

func (h *handle) writable() bool { return h.flag&(os.O_WRONLY|os.O_RDWR) != 0 }

// ReadAt implements durable.File.
func (h *handle) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || h.flag&os.O_WRONLY != 0 {
		return 0, pathError("read", h.path, syscall.EINVAL)
	}
	fault, err := h.begin(Op{Kind: Read, Off: off, Len: len(p)})
	if err != nil {
		return 0, err
	}
	defer h.fs.mu.Unlock()
	if err := fault.result(); err != nil {
		return 0, pathError("read", h.path, err)
	}
	n := h.node.file.live.read(p, off)
	if fault != nil && fault.Damage != nil {
		fault.Damage(p[:n])
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// WriteAt implements durable.File.
func (h *handle) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 || !h.writable() {
		return 0, pathError("write", h.path, syscall.EINVAL)
	}
	fault, err := h.begin(Op{Kind: Write, Off: off, Len: len(p)})
	if err != nil {
		return 0, err
	}
	defer h.fs.mu.Unlock()
	if fault.fails() {
		n := h.write(p[:min(fault.Short, len(p))], off)
		return n, pathError("write", h.path, fault.Err)
	}
	n := h.write(p, off)
	if err := fault.result(); err != nil {
		return 0, pathError("write", h.path, err)
	}
	if n < len(p) {
		return n, pathError("write", h.path, syscall.ENOSPC)
	}
	return n, nil
}

// write stores as much as there is room for.
func (h *handle) write(p []byte, off int64) int {
	fs := h.fs
	return h.node.file.write(p, off, func() bool {
		if fs.capacity > 0 && fs.used+SectorBytes > fs.capacity {
			return false
		}
		fs.used += SectorBytes
		return true
	})
}

// Sync implements durable.File.
func (h *handle) Sync() error {
	var began *fileData
	fault, err := h.beginAfter(Op{Kind: Sync}, func() { began = h.node.file.snapshot() })
	if err != nil {
		return err
	}
	defer h.fs.mu.Unlock()
	if fault.fails() {
		var rng *rand.Rand
		if fault.Partial {
			rng = newRand(fault.Seed)
		}
		h.node.file.loseSync(rng)
		return pathError("sync", h.path, fault.Err)
	}
	if began != nil {
		h.node.file.syncAs(began)
	} else {
		h.node.file.sync()
	}
	if err := fault.result(); err != nil {
		return pathError("sync", h.path, err)
	}
	return nil
}

// Truncate implements durable.File.
func (h *handle) Truncate(size int64) error {
	if size < 0 || !h.writable() {
		return pathError("truncate", h.path, syscall.EINVAL)
	}
	fault, err := h.begin(Op{Kind: Truncate, Off: size})
	if err != nil {
		return err
	}
	defer h.fs.mu.Unlock()
	if fault.fails() {
		return pathError("truncate", h.path, fault.Err)
	}
	h.fs.used -= int64(h.node.file.truncate(size)) * SectorBytes
	if err := fault.result(); err != nil {
		return pathError("truncate", h.path, err)
	}
	return nil
}

// Size implements durable.File.
func (h *handle) Size() (int64, error) {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	switch {
	case h.closed.Load():
		return 0, pathError("stat", h.path, os.ErrClosed)
	case h.fs.dead:
		return 0, pathError("stat", h.path, ErrPowerOff)
	}
	return h.node.file.live.size, nil
}

// Close implements durable.File. It makes nothing durable.
func (h *handle) Close() error {
	if h.closed.Swap(true) {
		return pathError("close", h.path, os.ErrClosed)
	}
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if h.fs.dead {
		return nil
	}
	h.node.handles--
	h.fs.release(h.node)
	return nil
}
