package faultfs

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
)

// CrashMode says what a crash does to unsynced data.
type CrashMode uint8

// The modes. A real crash is somewhere between the first and the last.
const (
	DropUnsynced CrashMode = iota // lose all of it
	KeepRandom                    // keep any part: torn, reordered, entries without content
	KeepAll                       // keep all of it, as if only the process was killed
)

// CrashModes are all modes, for sweeps.
var CrashModes = []CrashMode{DropUnsynced, KeepRandom, KeepAll}

// String names the mode.
func (m CrashMode) String() string {
	switch m {
	case DropUnsynced:
		return "drop-unsynced"
	case KeepRandom:
		return "keep-random"
	case KeepAll:
		return "keep-all"
	}
	return fmt.Sprintf("mode(%d)", uint8(m))
}

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0x5ea1)) }

// PowerOff stops the file system: from now on every operation fails with ErrPowerOff
// and changes nothing.
func (fs *FS) PowerOff() {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.powerOff()
}

func (fs *FS) powerOff() {
	if !fs.dead {
		fs.dead = true
		close(fs.off)
	}
}

// PowerOffAt cuts the power right before the nth mutation from now on, so n-1 more happen.
func (fs *FS) PowerOffAt(n int) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.offAt = fs.mutations + n
}

// Off is closed when the power is cut.
func (fs *FS) Off() <-chan struct{} { return fs.off }

// Crash cuts the power and returns the file system as it is found afterwards; everything in
// it is durable. The seed decides what KeepRandom keeps. The result is independent of fs. It
// has the same capacity, and no faults or hook.
func (fs *FS) Crash(mode CrashMode, seed uint64) *FS {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.powerOff()
	rng := newRand(seed)
	after := newFS(fs.root.survive(mode, rng, make(map[*node]*node)))
	after.capacity = fs.capacity
	after.used = after.root.usage(make(map[*node]bool))
	return after
}

// survive returns what a crash leaves of n and below. If only a part of a rename survives,
// two names may lead to one node; it stays one node.
func (n *node) survive(mode CrashMode, rng *rand.Rand, done map[*node]*node) *node {
	if m := done[n]; m != nil {
		m.links++
		return m
	}
	if !n.isDir() {
		left := n.file.survive(mode, rng)
		m := &node{file: &fileData{live: left.share(), disk: left.share()}, links: 1}
		done[n] = m
		return m
	}
	m := newDir()
	m.links = 1
	done[n] = m
	entries := n.survivingEntries(mode, rng)
	for _, name := range slices.Sorted(maps.Keys(entries)) {
		child := entries[name].survive(mode, rng, done)
		m.entries[name], m.disk[name] = child, child
	}
	return m
}

func (n *node) survivingEntries(mode CrashMode, rng *rand.Rand) map[string]*node {
	switch {
	case mode == KeepAll:
		return n.entries
	case mode == DropUnsynced || len(n.pending) == 0:
		return n.disk
	}
	kept := maps.Clone(n.disk)
	if rng.IntN(2) == 0 {
		// A journaling file system loses changes from the end.
		for _, c := range n.pending[:rng.IntN(len(n.pending)+1)] {
			c.apply(kept)
		}
		return kept
	}
	share := rng.Float64()
	for _, c := range n.pending {
		if rng.Float64() < share {
			c.apply(kept)
		}
	}
	return kept
}

func (n *node) usage(seen map[*node]bool) int64 {
	if seen[n] {
		return 0
	}
	seen[n] = true
	if !n.isDir() {
		return int64(n.file.live.allocated(0)) * SectorBytes
	}
	var sum int64
	for _, child := range n.entries {
		sum += child.usage(seen)
	}
	return sum
}

// Snapshot returns a copy in the same state, including volatile parts, with power on. It has
// no open files, locks, faults or hook. Its cost depends on the number of files and not on
// their sizes, so a test can take one before every operation and crash it later.
func (fs *FS) Snapshot() *FS {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	copied := newFS(fs.root.snapshot(make(map[*node]*node)))
	copied.capacity = fs.capacity
	copied.used = copied.root.usage(make(map[*node]bool))
	return copied
}

func (n *node) snapshot(done map[*node]*node) *node {
	if m := done[n]; m != nil {
		return m
	}
	m := &node{links: n.links}
	done[n] = m
	if !n.isDir() {
		m.file = n.file.snapshot()
		return m
	}
	m.entries = make(map[string]*node, len(n.entries))
	m.disk = make(map[string]*node, len(n.disk))
	for name, child := range n.entries {
		m.entries[name] = child.snapshot(done)
	}
	for name, child := range n.disk {
		m.disk[name] = child.snapshot(done)
	}
	for _, c := range n.pending {
		c.node = c.node.snapshot(done)
		m.pending = append(m.pending, c)
	}
	return m
}
