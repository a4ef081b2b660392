package journal_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/sealmq/sealmq/internal/testing/faultfs"
	"github.com/sealmq/sealmq/journal"
)

// TestSealEndsTheSegment: no record follows in a sealed segment, the position that a
// checkpoint may name is behind it, and everything is there after a restart.
func TestSealEndsTheSegment(t *testing.T) {
	cfg := faultConfig(faultfs.New())
	sealed := make(chan uint64, 1)
	cfg.Sealed = func(gen uint64) { sealed <- gen }
	j, _, _ := mustOpen(t, cfg)
	before, err := j.Append(false, 17, []byte("before"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Seal(t.Context(), before.Generation()); err != nil {
		t.Fatal(err)
	}
	if gen := <-sealed; gen != before.Generation() {
		t.Errorf("segment %d is sealed, not %d", gen, before.Generation())
	}
	if at, _ := j.Applied(); at.Generation() <= before.Generation() {
		t.Errorf("a checkpoint can name %v, which is not behind %v", at, before)
	}
	after, err := j.Append(false, 17, []byte("after"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if after.Generation() <= before.Generation() {
		t.Errorf("a record follows at %v", after)
	}
	if err := j.Seal(t.Context(), before.Generation()); err != nil {
		t.Error(err)
	}
	if next := j.Next(); next.Generation() != after.Generation() {
		t.Errorf("sealing what is sealed began segment %d", next.Generation())
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if err := j.Seal(t.Context(), after.Generation()); !errors.Is(err, journal.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	cfg.Sealed = nil
	if _, got, _ := mustOpen(t, cfg); !slices.Equal(got, []string{"17:before", "17:after"}) {
		t.Errorf("after a restart: %q", got)
	}
}

// TestSealOnAFullDisk: what urgent records count on is not given away.
func TestSealOnAFullDisk(t *testing.T) {
	fs := faultfs.New()
	cfg := faultConfig(fs)
	j, _, _ := mustOpen(t, cfg)
	fs.SetCapacity(1)
	for range 2 { // the first uses up what was prepared
		if err := j.Seal(t.Context(), j.Next().Generation()); err != nil && !errors.Is(err, journal.ErrDiskFull) {
			t.Fatal(err)
		}
	}
	if err := j.Seal(t.Context(), j.Next().Generation()); !errors.Is(err, journal.ErrDiskFull) {
		t.Errorf("on a full disk: %v", err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := j.Seal(gone, j.Next().Generation()); !errors.Is(err, context.Canceled) {
		t.Errorf("nobody waits any more: %v", err)
	}
}
