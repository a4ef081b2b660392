package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/sealmq/sealmq/internal/durable"
)

// A segment file starts with one page, of which 48 bytes are used (little endian):
//
//	 0         8         12        16           24         40       44
//	+---------+---------+---------+------------+----------+--------+-----+
//	| "SEALMQ | version | size    | generation | store id | crc32c | ... |
//	|  JR"    |         |         |            |          | of 0-40|     |
//	+---------+---------+---------+------------+----------+--------+-----+
//
// Records follow from offset 4096 on. The file is written full of zeros before it is
// used and keeps its size, so that a sync has no metadata to write. A segment that is
// used again keeps its file and gets a header with a new generation, which ends the
// life of all records in it with one small write.
const (
	pageBytes     = 4096
	formatVersion = 1
	segmentSuffix = ".seg"
	filePerm      = 0o600
)

var segmentMagic = [8]byte{'S', 'E', 'A', 'L', 'M', 'Q', 'J', 'R'}

// ErrNewer says that files were written by a newer version of the program.
var ErrNewer = errors.New("written by a newer version of sealmq")

// errNoHeader says that a page holds no valid segment header.
var errNoHeader = errors.New("no valid segment header")

type segment struct {
	gen  uint64
	name string
	size int64
	cut  int64  // what is left of size in the file; 0 if nothing is missing
	sum  uint32 // where the checksum of each record starts
	file durable.File
}

func (s *segment) wrap(doing string, err error) error {
	return fmt.Errorf("%s %s: %w", doing, s.name, err)
}

// read fills p from an offset. What was cut off the file reads as zeros.
func (s *segment) read(p []byte, off int64) error {
	part := p
	if s.cut != 0 {
		part = p[:min(max(s.cut-off, 0), int64(len(p)))]
		clear(p[len(part):])
	}
	if _, err := s.file.ReadAt(part, off); err != nil {
		return s.wrap("read", err)
	}
	return nil
}

// segmentHeader is what the first page begins with. It keeps its meaning in every version,
// so that a newer one is told from damage.
type segmentHeader struct {
	Magic         [8]byte
	Version, Size uint32
	Generation    uint64
	StoreID       [16]byte
	Sum           uint32 // of all before
}

// decodeHeader decodes a segment's first page.
func decodeHeader(b []byte) (h segmentHeader, err error) {
	if _, err := binary.Decode(b, binary.LittleEndian, &h); err != nil || h.Magic != segmentMagic {
		return h, errNoHeader
	}
	valid := crc32.Checksum(b[:40], castagnoli) == h.Sum
	switch {
	case valid && h.Version > formatVersion:
		return h, fmt.Errorf("format %d, this program reads up to %d: %w", h.Version, formatVersion, ErrNewer)
	case !valid || h.Version == 0 || h.Generation == 0 || h.Size > MaxSegmentBytes:
		return h, errNoHeader
	}
	return h, nil
}

// writeHeader starts a new life of the segment and makes it durable.
func (s *segment) writeHeader(storeID [16]byte, generation uint64) error {
	b := make([]byte, pageBytes)
	h := segmentHeader{Magic: segmentMagic, Version: formatVersion, Size: uint32(s.size), Generation: generation, StoreID: storeID}
	_, _ = binary.Encode(b, binary.LittleEndian, h) // cannot fail
	binary.LittleEndian.PutUint32(b[40:], crc32.Checksum(b[:40], castagnoli))
	if _, err := s.file.WriteAt(b, 0); err != nil {
		return s.wrap("write header of", err)
	}
	if err := s.file.Sync(); err != nil {
		return s.wrap("sync header of", err)
	}
	s.gen, s.sum = generation, generationSum(storeID, generation)
	return nil
}

func segmentName(num int) string { return fmt.Sprintf("%08d%s", num, segmentSuffix) }

func segmentNumber(name string) (int, bool) {
	n, err := strconv.Atoi(strings.TrimSuffix(name, segmentSuffix))
	return n, err == nil && n >= 0 && strings.HasSuffix(name, segmentSuffix)
}

var zeros [1 << 20]byte

// fill writes zeros from an offset to the end.
func (s *segment) fill(off int64) error {
	for off < s.size {
		n, err := s.file.WriteAt(zeros[:min(int64(len(zeros)), s.size-off)], off)
		if err != nil {
			return s.wrap("fill", err)
		}
		off += int64(n)
	}
	return nil
}

// createSegment makes a new file full of zeros with a header, durable under its name.
// After an error it removes the file if it can.
func createSegment(fsys durable.FS, dir string, num, size int, storeID [16]byte, generation uint64) (_ *segment, err error) {
	s := &segment{name: filepath.Join(dir, segmentName(num)), size: int64(size)}
	s.file, err = fsys.OpenFile(s.name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, filePerm)
	if err != nil {
		return nil, fmt.Errorf("create segment: %w", err)
	}
	defer func() {
		if err != nil {
			_ = s.file.Close()
			_ = fsys.Remove(s.name)
		}
	}()
	if err := s.fill(0); err != nil {
		return nil, err
	}
	if err := s.writeHeader(storeID, generation); err != nil {
		return nil, err
	}
	if err := fsys.SyncDir(dir); err != nil {
		return nil, fmt.Errorf("sync folder %s: %w", dir, err)
	}
	return s, nil
}

// StoreID returns the id of the store that a journal belongs to, as its segments' headers have
// it. It reports false if no header can be read.
func StoreID(fsys durable.FS, dir string) (id [16]byte, ok bool) {
	names, _ := fsys.ReadDir(dir)
	for _, name := range names {
		if _, ok := segmentNumber(name); !ok {
			continue
		}
		f, err := fsys.OpenFile(filepath.Join(dir, name), os.O_RDONLY, filePerm)
		if err != nil {
			continue
		}
		page := make([]byte, pageBytes)
		_, err = f.ReadAt(page, 0)
		_ = f.Close()
		if h, invalid := decodeHeader(page); err == nil && invalid == nil {
			return h.StoreID, true
		}
	}
	return id, false
}
