package local

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"path"

	"github.com/sealmq/sealmq"
)

// errCopyFull ends a copy: segments that could be used again are kept as long as it lasts.
var errCopyFull = &sealmq.Error{Code: sealmq.NoStorage, Message: "the copy of the store was given up, because the broker's disk is full"}

// Copy calls f with each file of a store that a start opens as if the power had been cut at
// one moment after the call began: everything that was confirmed before is there. Names have
// slashes, and f reads each content to its end before it returns.
//
// The engine goes on meanwhile. Segments are not used again before Copy returns; if the disk
// gets full for that, Copy gives up with code NoStorage.
func (e *Engine) Copy(ctx context.Context, f func(name string, size int64, content io.Reader) error) error {
	done := make(chan error, 1)
	work := func() { done <- e.copyFiles(ctx, f) }
	select {
	case e.reclaimer.work <- work: // no checkpoint is taken, and no segment released, before it returns
	case <-e.stopping.Done():
		return unavailable(errors.New("the store is closed"))
	case <-ctx.Done():
		return ctx.Err()
	}
	return <-done
}

func (e *Engine) copyFiles(ctx context.Context, f func(name string, size int64, content io.Reader) error) error {
	e.saveTime()
	unindexed, err := e.takeCheckpoint()
	// Twice: what the journal calls applied is behind a batch when the next one is answered.
	if err := cmp.Or(err, unindexed, e.j.Sync(), e.j.Sync()); err != nil {
		return err
	}
	at, _ := e.j.Applied() // not before the checkpoint, whose records are synced
	index, definitions, err := e.files.list()
	if err != nil {
		return err
	}
	names := []string{identityName, timelineName, checkpointName}
	for _, n := range definitions {
		names = append(names, definitionsName(n))
	}
	for _, gen := range index {
		names = append(names, indexName(gen))
	}
	for _, name := range names {
		b, err := e.files.read(name)
		if err == nil {
			err = f(name, int64(len(b)), bytes.NewReader(b))
		}
		if err != nil {
			return err
		}
	}
	return e.j.Copy(at, func(name string, size int64, content io.Reader) error {
		return f(path.Join(journalDir, name), size, &patientReader{e, ctx, content})
	})
}

// patientReader ends a copy for which nobody waits any more, or which costs too much space.
type patientReader struct {
	e       *Engine
	ctx     context.Context
	content io.Reader
}

// Read implements io.Reader.
func (r *patientReader) Read(p []byte) (int, error) {
	if _, full := r.e.j.Space(); full != nil {
		return 0, errCopyFull
	}
	if err := cmp.Or(r.ctx.Err(), r.e.stopping.Err()); err != nil {
		return 0, err
	}
	return r.content.Read(p)
}
