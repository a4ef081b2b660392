package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/sealmq/sealmq/internal/durable"
)

// Open opens the journal in cfg.Dir, creating the folder if there is none. The caller holds
// the folder's lock. Open reads the headers of the segments and changes no file; Replay
// reads the records, and Begin decides what is damaged.
//
// A start is Open, a loop over Replay, and Begin. Until Begin has returned nothing can be
// appended; Generations, Scan and Close can be called.
func Open(cfg Config) (*Journal, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	if !cfg.ReadOnly {
		if err := durable.MkdirAll(cfg.FS, cfg.Dir, 0o700); err != nil {
			return nil, fmt.Errorf("create journal folder: %w", err)
		}
	}
	j := &Journal{
		cfg: cfg, pending: &batch{}, segments: map[uint64]*segment{}, nextGen: 1,
		opening: &opening{err: errUnread},
		wake:    make(chan struct{}, 1), prepare: make(chan struct{}, 1),
		stop: make(chan struct{}), failedCh: make(chan struct{}),
	}
	j.room = sync.NewCond(&j.mu)
	j.cache.limit = cfg.CacheBytes
	if err := j.openSegments(); err != nil {
		return nil, errors.Join(err, j.Close())
	}
	return j, nil
}

// openSegments opens every segment file and learns its generation.
func (j *Journal) openSegments() error {
	names, err := j.cfg.FS.ReadDir(j.cfg.Dir)
	if durable.IsNotExist(err) && j.cfg.ReadOnly {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read journal folder: %w", err)
	}
	flag := os.O_RDWR
	if j.cfg.ReadOnly {
		flag = os.O_RDONLY
	}
	o := j.opening
	times := map[uint64]int{}
	for _, name := range names {
		num, ok := segmentNumber(name)
		if !ok {
			continue
		}
		j.nextNum = max(j.nextNum, num+1)
		s, repaired, err := openSegment(j.cfg.FS, filepath.Join(j.cfg.Dir, name), flag, j.cfg.StoreID)
		if err != nil {
			return err
		}
		if repaired {
			o.repaired = append(o.repaired, s.name)
		}
		times[s.gen]++
		j.free = append(j.free, s)
	}
	for _, s := range j.free {
		if s.gen > 0 && times[s.gen] > 1 { // one of them has a header that is not its own; marks cannot be mistaken
			own, _, err := s.marks(j.cfg.StoreID)
			if err != nil {
				return err
			}
			if own != s.gen { // nor is the size that it says
				if err := s.rescue(j.cfg.StoreID); err != nil {
					return err
				}
				o.repaired = append(o.repaired, s.name)
			}
		}
	}
	j.free = slices.DeleteFunc(j.free, func(s *segment) bool {
		if s.gen == 0 { // a crash while it was made: it never held a record
			return false
		}
		j.nextGen = max(j.nextGen, s.gen+1)
		if other := j.segments[s.gen]; other == nil {
			j.segments[s.gen] = s
		} else {
			o.doubles = append(o.doubles, s)
		}
		return true
	})
	return o.chooseDoubles(j.segments, j.cfg.StoreID)
}

// chooseDoubles decides between files that say that they are the same segment, one being a
// copy of the other: the one with the later marks is the segment.
func (o *opening) chooseDoubles(segments map[uint64]*segment, storeID [16]byte) error {
	for i, s := range o.doubles {
		other := segments[s.gen]
		ends := [2]int64{}
		for k, s := range []*segment{s, other} {
			var err error
			if _, ends[k], err = s.marks(storeID); err != nil {
				return err
			}
		}
		if ends[0] > ends[1] {
			segments[s.gen], o.doubles[i] = s, other
			s, other = other, s
		}
		o.damage = append(o.damage, &Damage{File: s.name, Pos: position(s.gen, 0), Reason: "same generation as " + other.name, certain: true})
	}
	return nil
}

// openSegment opens one file. With a bad header the generation is read from the marks
// in the file; it is 0 if there are none, because then it never held a record.
func openSegment(fsys durable.FS, name string, flag int, storeID [16]byte) (_ *segment, repaired bool, err error) {
	s := &segment{name: name}
	if s.file, err = fsys.OpenFile(name, flag, filePerm); err != nil {
		return nil, false, fmt.Errorf("open segment: %w", err)
	}
	defer func() {
		if err != nil {
			_ = s.file.Close()
		}
	}()
	if s.size, err = s.file.Size(); err != nil {
		return nil, false, s.wrap("size of", err)
	}
	page := make([]byte, min(s.size, pageBytes))
	if _, err := s.file.ReadAt(page, 0); err != nil && len(page) > 0 {
		return nil, false, s.wrap("read header of", err)
	}
	h, err := decodeHeader(page)
	switch {
	case err == nil && h.StoreID != storeID:
		return nil, false, s.wrap("open", errors.New("the segment belongs to another store"))
	case err == nil:
		s.gen, s.sum = h.Generation, generationSum(storeID, h.Generation)
		if int64(h.Size) > s.size {
			s.cut, s.size = s.size, int64(h.Size)
		}
		return s, false, nil
	case errors.Is(err, errNoHeader):
		err = s.rescue(storeID)
		return s, s.gen != 0, err
	}
	return nil, false, s.wrap("open", err)
}

// rescue takes the highest generation that a valid mark in the file names.
func (s *segment) rescue(storeID [16]byte) (err error) {
	if s.cut != 0 {
		s.cut, s.size = 0, s.cut
	}
	s.gen, _, err = s.marks(storeID)
	s.sum = generationSum(storeID, s.gen)
	return err
}

// marks returns the highest generation that a valid mark in the file names, and where the last
// mark of it is.
func (s *segment) marks(storeID [16]byte) (generation uint64, last int64, err error) {
	buf := make([]byte, s.size)
	if err := s.read(buf, 0); err != nil && s.size > 0 {
		return 0, 0, err
	}
	for off := pageBytes; off+markBytes <= len(buf); off += recordAlign {
		if binary.LittleEndian.Uint32(buf[off+4:]) != recordHeaderBytes+16 || buf[off+16] != kindMark {
			continue
		}
		gen := binary.LittleEndian.Uint64(buf[off+recordHeaderBytes:])
		if _, ok := decodeRecord(buf[off:], generationSum(storeID, gen)); ok && gen >= generation {
			generation, last = gen, int64(off)
		}
	}
	return generation, last, nil
}
