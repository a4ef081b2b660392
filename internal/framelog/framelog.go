// Package framelog is an append-only file of checksummed frames: the file under a sender's
// spool and a receiver's ledger.
//
// It promises that everything committed is read again after a crash, that a torn end is
// cut off and kept in another file, and that damage to what was on stable storage is an error
// and changes nothing. It does not know what the frames hold.
package framelog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"

	"github.com/sealmq/sealmq/internal/durable"
)

// Log is an open file. It is not safe for concurrent use. Integers are big-endian.
//
//	4  length n of the payload, not 0
//	4  CRC-32C of the frame's offset in the file (8 bytes), the length, and what follows
//	8  offset below which the file was synced when the frame was written
//	n  payload
//
// A frame that cannot be read ends the file: it and what follows were never promised. But
// if a later frame says that the file was synced beyond the bad one, it is damage. Mark puts
// such a frame behind the last commit.
type Log struct {
	// Name is the name of the file.
	Name string
	// Cut is what Open cut off.
	Cut Cut

	file   durable.File
	size   int64 // of what is written
	synced int64
	buf    []byte // frames that are not written yet
	// err stays after a failed write or sync: later answers of the system about data that
	// it could not write cannot be trusted. The process has to end, as the broker does.
	err error
}

const (
	// HeadBytes is how much longer a frame is than its payload.
	HeadBytes = 16
	// MaxPayloadBytes is the largest payload. A damaged length cannot ask for more.
	MaxPayloadBytes = 256 << 20
	// maxFileBytes is the largest file that Open reads.
	maxFileBytes = 1 << 30
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ErrFuture says that a file was written by a later version.
var ErrFuture = errors.New("it was written by a later version of this program")

// ErrEmpty says that a file has no first frame. It was not changed.
var ErrEmpty = errors.New("it has no beginning")

// DamagedError says that a part of a file that was on stable storage cannot be read.
// Nothing was changed.
type DamagedError struct {
	Name   string
	Offset int64
	Why    string
}

// Error names the file and the place.
func (e *DamagedError) Error() string {
	return fmt.Sprintf("%s is damaged at byte %d: %s", e.Name, e.Offset, e.Why)
}

// Cut is what was cut off the end of a file because it could not be read, and was not known
// to be on stable storage.
type Cut struct {
	Name  string // of the file
	Bytes int64  // how many; 0 if nothing was cut off
	Kept  string // the file that has them now
}

func frameSum(offset int64, frame []byte) uint32 {
	var at [8]byte
	binary.BigEndian.PutUint64(at[:], uint64(offset))
	sum := crc32.Update(0, castagnoli, at[:])
	sum = crc32.Update(sum, castagnoli, frame[:4])
	return crc32.Update(sum, castagnoli, frame[8:])
}

// AppendFrame appends the frame that will be at offset in the file. fill appends its
// payload.
func AppendFrame(dst []byte, offset, synced int64, fill func([]byte) []byte) []byte {
	begin := len(dst)
	dst = append(dst, make([]byte, HeadBytes)...)
	dst = fill(dst)
	frame := dst[begin:]
	binary.BigEndian.PutUint32(frame, uint32(len(frame)-HeadBytes))
	binary.BigEndian.PutUint64(frame[8:], uint64(synced))
	binary.BigEndian.PutUint32(frame[4:], frameSum(offset, frame))
	return dst
}

// frameAt returns the payload of the frame at an offset of data, or nil.
func frameAt(data []byte, offset int64) (payload []byte, synced int64) {
	rest := data[offset:]
	if len(rest) < HeadBytes {
		return nil, 0
	}
	n := int64(binary.BigEndian.Uint32(rest))
	if n == 0 || n > MaxPayloadBytes || n > int64(len(rest)-HeadBytes) {
		return nil, 0
	}
	before := binary.BigEndian.Uint64(rest[8:])
	if before > uint64(offset) {
		return nil, 0
	}
	frame := rest[:HeadBytes+n]
	if frameSum(offset, frame) != binary.BigEndian.Uint32(frame[4:]) {
		return nil, 0
	}
	return frame[HeadBytes:], int64(before)
}

// Scan calls take with each frame's offset and payload, and returns where the last good
// frame ends. name is for errors.
func Scan(name string, data []byte, take func(offset int64, payload []byte) error) (int64, error) {
	at := int64(0)
	for at < int64(len(data)) {
		payload, _ := frameAt(data, at)
		if payload == nil {
			return at, checkTail(name, data, at)
		}
		if err := take(at, payload); err != nil {
			if errors.Is(err, ErrFuture) {
				return at, fmt.Errorf("%s: %w", name, err)
			}
			return at, &DamagedError{name, at, err.Error()}
		}
		at += HeadBytes + int64(len(payload))
	}
	return at, nil
}

// checkTail searches what follows a frame that cannot be read. A frame that was written
// after the bad one was synced shows damage.
func checkTail(name string, data []byte, bad int64) error {
	for at := bad + 1; at+HeadBytes < int64(len(data)); at++ {
		if payload, synced := frameAt(data, at); payload != nil && synced > bad {
			return &DamagedError{name, bad, "a frame cannot be read, but a later one can"}
		}
	}
	return nil
}

// Open opens an existing file, passes its frames to take, and cuts off a torn end, which it
// keeps in another file: it may be damage all the same. It syncs the rest, which a killed
// process may not have done. whole says that a crash cannot have torn this file: then a torn
// end is damage.
func Open(fs durable.FS, name string, whole bool, take func(offset int64, payload []byte) error) (*Log, error) {
	data, err := durable.ReadFile(fs, name, maxFileBytes)
	if err != nil {
		return nil, err
	}
	good, err := Scan(name, data, take)
	if err != nil {
		return nil, err
	}
	if whole && good < int64(len(data)) {
		return nil, &DamagedError{name, good, "the rest of the file cannot be read"}
	}
	if good == 0 {
		return nil, fmt.Errorf("%s: %w", name, ErrEmpty)
	}
	l := &Log{Name: name, size: good, synced: good}
	if l.file, err = fs.OpenFile(name, os.O_RDWR, 0); err != nil {
		return nil, err
	}
	if tail := data[good:]; len(tail) > 0 {
		l.Cut = Cut{Name: name, Bytes: int64(len(tail))}
		if l.Cut.Kept, err = durable.KeepAside(fs, name, tail); err == nil {
			err = l.file.Truncate(good)
		}
	}
	if err == nil {
		err = l.file.Sync()
	}
	if err == nil {
		err = fs.SyncDir(filepath.Dir(name))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", name, err), l.file.Close())
	}
	return l, nil
}

// Create makes a new file with one frame. Both survive a crash once it returns.
func Create(fs durable.FS, name string, fill func([]byte) []byte) (*Log, error) {
	file, err := fs.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	l := &Log{Name: name, file: file}
	l.Add(fill)
	if err = l.Commit(); err == nil {
		err = fs.SyncDir(filepath.Dir(name))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("create %s: %w", name, err), file.Close())
	}
	return l, nil
}

// Add buffers a frame for the next write and returns the offset of its payload.
func (l *Log) Add(fill func([]byte) []byte) (offset int64) {
	at := l.size + int64(len(l.buf))
	l.buf = AppendFrame(l.buf, at, l.synced, fill)
	return at + HeadBytes
}

// Length is the size of the file including what is buffered.
func (l *Log) Length() int64 { return l.size + int64(len(l.buf)) }

const maxKeptBuffer = 1 << 20

// Write writes what is buffered with one call.
func (l *Log) Write() error {
	if l.err != nil || len(l.buf) == 0 {
		return l.err
	}
	n, err := l.file.WriteAt(l.buf, l.size)
	if err != nil {
		l.err = fmt.Errorf("write %s: %w", l.Name, err)
		return l.err
	}
	l.size += int64(n)
	if l.buf = l.buf[:0]; cap(l.buf) > maxKeptBuffer {
		l.buf = nil
	}
	return nil
}

// Commit writes what is buffered and returns when the whole file is on stable storage.
func (l *Log) Commit() error {
	if err := l.Write(); err != nil || l.synced == l.size {
		return err
	}
	if err := l.file.Sync(); err != nil {
		l.err = fmt.Errorf("sync %s: %w", l.Name, err)
		return l.err
	}
	l.synced = l.size
	return nil
}

// Mark writes a frame behind a commit, without a sync. From then on damage to what was
// committed is not taken for a torn end. A mark promises nothing, so a failure is ignored.
func (l *Log) Mark(fill func([]byte) []byte) {
	if l.err != nil || len(l.buf) > 0 || l.synced != l.size {
		return
	}
	mark := AppendFrame(nil, l.size, l.synced, fill)
	if _, err := l.file.WriteAt(mark, l.size); err == nil {
		l.size += int64(len(mark))
	}
}

// Read returns size bytes of a payload that was written.
func (l *Log) Read(offset int64, size int) ([]byte, error) {
	p := make([]byte, size)
	n, err := l.file.ReadAt(p, offset)
	if n < size {
		if err == nil || err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("read %s: %w", l.Name, err)
	}
	return p, nil
}

// Close closes the file and writes nothing.
func (l *Log) Close() error { return l.file.Close() }
