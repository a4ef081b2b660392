package faultfs

import (
	"math/bits"
	"math/rand/v2"
	"slices"
)

// SectorBytes is the unit that a crash keeps or loses as a whole.
const SectorBytes = 512

// sector is immutable once it is part of a content, so that contents can share it.
type sector [SectorBytes]byte

var zeroSector sector

// content is one state of a file. A nil sector is a hole and reads as zeros.
type content struct {
	sectors []*sector
	size    int64
	// shared says that another content uses the same slice; it is copied before the
	// first change. This makes snapshots of large folders cheap.
	shared bool
}

func sectorCount(size int64) int { return int((size + SectorBytes - 1) / SectorBytes) }

func (c *content) own() {
	if c.shared {
		c.sectors, c.shared = slices.Clone(c.sectors), false
	}
}

// share returns a second content with the same state.
func (c *content) share() content {
	c.shared = true
	return *c
}

func (c *content) at(i int) *sector {
	if i < len(c.sectors) {
		return c.sectors[i]
	}
	return nil
}

// set must be called on an owned content.
func (c *content) set(i int, s *sector) {
	for len(c.sectors) <= i {
		c.sectors = append(c.sectors, nil)
	}
	c.sectors[i] = s
}

// resize sets the size. What is cut off reads as zeros if the file grows again.
func (c *content) resize(size int64) {
	c.own()
	if n := sectorCount(size); n < len(c.sectors) {
		clear(c.sectors[n:])
		c.sectors = c.sectors[:n]
	}
	if size < c.size && size%SectorBytes != 0 {
		if last := c.at(int(size / SectorBytes)); last != nil {
			cut := *last
			clear(cut[size%SectorBytes:])
			c.sectors[size/SectorBytes] = &cut
		}
	}
	c.size = size
}

// read copies what there is at off and returns its length.
func (c *content) read(p []byte, off int64) int {
	if off >= c.size {
		return 0
	}
	p = p[:min(int64(len(p)), c.size-off)]
	for n := 0; n < len(p); {
		i, at := int((off+int64(n))/SectorBytes), int((off+int64(n))%SectorBytes)
		s := c.at(i)
		if s == nil {
			s = &zeroSector
		}
		n += copy(p[n:], s[at:])
	}
	return len(p)
}

// fileData is the content of a file as reads see it and as a crash would leave it.
type fileData struct {
	live, disk content
	// dirty has a bit for each sector that a sync would write.
	dirty      []uint64
	dirtyCount int
	// versions are the earlier states that a dirty sector had since the last sync.
	versions map[int][]*sector
}

func (f *fileData) isDirty(i int) bool {
	return i/64 < len(f.dirty) && f.dirty[i/64]>>(i%64)&1 != 0
}

func (f *fileData) markDirty(i int) {
	for len(f.dirty) <= i/64 {
		f.dirty = append(f.dirty, 0)
	}
	if bit := uint64(1) << (i % 64); f.dirty[i/64]&bit == 0 {
		f.dirty[i/64] |= bit
		f.dirtyCount++
	}
}

func (f *fileData) clean() {
	clear(f.dirty)
	f.dirtyCount = 0
	f.versions = nil
}

// eachDirty calls fn with the dirty sectors in ascending order.
func (f *fileData) eachDirty(fn func(i int)) {
	if f.dirtyCount == 0 {
		return
	}
	for w, word := range f.dirty {
		for word != 0 {
			fn(w*64 + bits.TrailingZeros64(word))
			word &= word - 1
		}
	}
}

// replace stores a new state of one sector in the live content.
func (f *fileData) replace(i int, s *sector) {
	if f.isDirty(i) {
		if old := f.live.at(i); old != s {
			if f.versions == nil {
				f.versions = make(map[int][]*sector)
			}
			f.versions[i] = append(f.versions[i], old)
		}
	}
	f.live.set(i, s)
	f.markDirty(i)
}

// write stores p at off in the live content. It calls room before a hole becomes a sector,
// and stops if room returns false.
func (f *fileData) write(p []byte, off int64, room func() bool) int {
	f.live.own()
	var block []sector // one allocation for all sectors of this call
	n := 0
	for n < len(p) {
		i, at := int((off+int64(n))/SectorBytes), int((off+int64(n))%SectorBytes)
		old := f.live.at(i)
		if old == nil && !room() {
			break
		}
		part := p[n:min(len(p), n+SectorBytes-at)]
		n += len(part)
		if len(part) == SectorBytes && *(*sector)(part) == zeroSector {
			f.replace(i, &zeroSector)
			continue
		}
		if len(block) == 0 {
			block = make([]sector, sectorCount(int64(len(p)-n))+1)
		}
		s := &block[0]
		block = block[1:]
		if old != nil && len(part) < SectorBytes {
			*s = *old
		}
		copy(s[at:], part)
		f.replace(i, s)
	}
	if end := off + int64(n); n > 0 && end > f.live.size {
		f.live.size = end
	}
	return n
}

// truncate changes the live size and returns how many sectors it freed.
func (f *fileData) truncate(size int64) int {
	before := f.live.allocated(sectorCount(size))
	if size < f.live.size && size%SectorBytes != 0 {
		f.markDirty(int(size / SectorBytes))
	}
	f.live.resize(size)
	// If the file grows again, a later sync must not bring back what was cut off.
	for i := sectorCount(size); i < len(f.disk.sectors); i++ {
		f.markDirty(i)
	}
	return before
}

// allocated counts the sectors from index from on.
func (c *content) allocated(from int) int {
	n := 0
	for i := from; i < len(c.sectors); i++ {
		if c.sectors[i] != nil {
			n++
		}
	}
	return n
}

// sync makes the live content durable, except pages that an earlier failed sync lost.
func (f *fileData) sync() {
	f.disk.own()
	f.eachDirty(func(i int) {
		if s := f.live.at(i); s != nil || i < len(f.disk.sectors) {
			f.disk.set(i, s)
		}
	})
	f.disk.resize(f.live.size)
	f.clean()
}

// syncAs is a sync that began at an earlier snapshot of f and ends now. It makes the content
// of the snapshot durable. What was written meanwhile stays volatile, and what another sync
// made durable meanwhile stays durable.
func (f *fileData) syncAs(then *fileData) {
	f.disk.own()
	then.eachDirty(func(i int) {
		s, versions := then.live.at(i), f.versions[i]
		newer := slices.Index(versions, s) + 1
		if !f.isDirty(i) || f.live.at(i) != s && newer == 0 {
			return
		}
		if s != nil || i < len(f.disk.sectors) {
			f.disk.set(i, s)
		}
		if f.live.at(i) == s {
			f.unmark(i)
		} else {
			f.versions[i] = versions[newer:]
		}
	})
	if f.disk.size == then.disk.size {
		f.disk.resize(then.live.size)
	}
}

func (f *fileData) unmark(i int) {
	if f.isDirty(i) {
		f.dirty[i/64] &^= 1 << (i % 64)
		f.dirtyCount--
		delete(f.versions, i)
	}
}

// loseSync is a failed sync. With a nil rng nothing reaches the disk, otherwise a random
// part does. Afterwards the pages count as clean.
func (f *fileData) loseSync(rng *rand.Rand) {
	if rng != nil {
		f.disk = f.survive(KeepRandom, rng)
	}
	f.clean()
}

// dropCache makes clean pages show what is on the disk.
func (f *fileData) dropCache() {
	f.live.own()
	for i := range max(len(f.live.sectors), len(f.disk.sectors)) {
		if s := f.disk.at(i); !f.isDirty(i) && f.live.at(i) != s && i < sectorCount(f.live.size) {
			f.live.set(i, s)
		}
	}
}

// survive returns what a crash leaves.
func (f *fileData) survive(mode CrashMode, rng *rand.Rand) content {
	kept := f.disk.share()
	if mode == DropUnsynced {
		return kept
	}
	if f.dirtyCount == 0 && f.live.size == f.disk.size {
		return kept
	}
	kept.own()
	size := f.live.size
	share := 1.0
	if mode == KeepRandom {
		size = someSize(rng, f.disk.size, f.live.size)
		share = rng.Float64()
	}
	f.eachDirty(func(i int) {
		if i >= sectorCount(size) || mode == KeepRandom && rng.Float64() >= share {
			return
		}
		s := f.live.at(i)
		// Sometimes an earlier state of the sector was written.
		if old := f.versions[i]; mode == KeepRandom && len(old) > 0 && rng.IntN(3) == 0 {
			s = old[rng.IntN(len(old))]
		}
		if s != nil || i < len(kept.sectors) {
			kept.set(i, s)
		}
	})
	kept.size = max(kept.size, int64(len(kept.sectors))*SectorBytes)
	kept.resize(size)
	return kept
}

// someSize picks the old size, the new one, or one between.
func someSize(rng *rand.Rand, a, b int64) int64 {
	switch rng.IntN(3) {
	case 0:
		return a
	case 1:
		return b
	}
	lo, hi := min(a, b), max(a, b)
	return lo + rng.Int64N(hi-lo+1)
}

func (f *fileData) snapshot() *fileData {
	g := &fileData{
		live:       f.live.share(),
		disk:       f.disk.share(),
		dirty:      slices.Clone(f.dirty),
		dirtyCount: f.dirtyCount,
	}
	if f.versions != nil {
		g.versions = make(map[int][]*sector, len(f.versions))
		for i, v := range f.versions {
			g.versions[i] = slices.Clone(v)
		}
	}
	return g
}
