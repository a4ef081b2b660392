package client

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"os"
	"path/filepath"

	"github.com/sealmq/sealmq/internal/durable"
)

// frameLog is a file of frames that grows at its end, under spool and ledger. Integers
// are big-endian.
//
//	4  length n of the payload, not 0
//	4  CRC-32C of the frame's offset in the file (8 bytes), the length, and what follows
//	8  offset below which the file was synced when the frame was written
//	n  payload
//
// A frame that cannot be read ends the file, and what follows was never promised:
// unless a later frame says that it was synced there already. Then it is damage.
type frameLog struct {
	fs     durable.FS
	name   string
	file   durable.File
	size   int64 // of what is written
	synced int64
	buf    []byte // frames that are not written yet
	// err stays after a failed write or sync: what the system says afterwards of data that
	// it could not write is not to be believed. The process ends, as the broker does.
	err error
}

const (
	frameHeadBytes = 16
	// maxFrameBytes bounds a payload, and so what a damaged length can ask for.
	maxFrameBytes = 256 << 20
	// maxFrameLogBytes bounds a file that is read at a start.
	maxFrameLogBytes = 1 << 30
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errFutureFormat says that a file was written by a later version.
var errFutureFormat = errors.New("it was written by a later version of this program")

// errNoFrames says that a file has not even a first frame. It was not changed.
var errNoFrames = errors.New("it has no beginning")

// DamagedFileError says that a spool or a ledger cannot be read where it was known to be on
// stable storage. Nothing was changed.
type DamagedFileError struct {
	Name   string
	Offset int64
	Why    string
}

func (e *DamagedFileError) Error() string {
	return fmt.Sprintf("%s is damaged at byte %d: %s", e.Name, e.Offset, e.Why)
}

func frameSum(offset int64, frame []byte) uint32 {
	var at [8]byte
	binary.BigEndian.PutUint64(at[:], uint64(offset))
	sum := crc32.Update(0, castagnoli, at[:])
	sum = crc32.Update(sum, castagnoli, frame[:4])
	return crc32.Update(sum, castagnoli, frame[8:])
}

// appendFrame adds the frame that stands at offset. The payload is what fill appends.
func appendFrame(dst []byte, offset, synced int64, fill func([]byte) []byte) []byte {
	begin := len(dst)
	dst = append(dst, make([]byte, frameHeadBytes)...)
	dst = fill(dst)
	frame := dst[begin:]
	binary.BigEndian.PutUint32(frame, uint32(len(frame)-frameHeadBytes))
	binary.BigEndian.PutUint64(frame[8:], uint64(synced))
	binary.BigEndian.PutUint32(frame[4:], frameSum(offset, frame))
	return dst
}

// frameAt returns the payload of the frame at an offset of data, or nil.
func frameAt(data []byte, offset int64) (payload []byte, synced int64) {
	rest := data[offset:]
	if len(rest) < frameHeadBytes {
		return nil, 0
	}
	n := int64(binary.BigEndian.Uint32(rest))
	if n == 0 || n > maxFrameBytes || n > int64(len(rest)-frameHeadBytes) {
		return nil, 0
	}
	before := binary.BigEndian.Uint64(rest[8:])
	if before > uint64(offset) {
		return nil, 0
	}
	frame := rest[:frameHeadBytes+n]
	if frameSum(offset, frame) != binary.BigEndian.Uint32(frame[4:]) {
		return nil, 0
	}
	return frame[frameHeadBytes:], int64(before)
}

// scanFrames calls take for each frame and returns where the last good one ends.
func scanFrames(name string, data []byte, take func(offset int64, payload []byte) error) (int64, error) {
	at := int64(0)
	for at < int64(len(data)) {
		payload, _ := frameAt(data, at)
		if payload == nil {
			return at, checkTail(name, data, at)
		}
		if err := take(at, payload); err != nil {
			if errors.Is(err, errFutureFormat) {
				return at, fmt.Errorf("%s: %w", name, err)
			}
			return at, &DamagedFileError{name, at, err.Error()}
		}
		at += frameHeadBytes + int64(len(payload))
	}
	return at, nil
}

// checkTail looks behind a frame that cannot be read for one that was written when the
// bad one was already on stable storage.
func checkTail(name string, data []byte, bad int64) error {
	for at := bad + 1; at+frameHeadBytes < int64(len(data)); at++ {
		if payload, synced := frameAt(data, at); payload != nil && synced > bad {
			return &DamagedFileError{name, bad, "what was written there cannot be read, and what follows can"}
		}
	}
	return nil
}

// openFrameLog opens an existing file, hands its frames to take, cuts off what a crash
// left behind them, and makes the rest durable: a killed process may have left it in
// memory only. whole says that a crash cannot have left anything.
func openFrameLog(fs durable.FS, name string, whole bool, take func(offset int64, payload []byte) error) (*frameLog, error) {
	data, err := durable.ReadFile(fs, name, maxFrameLogBytes)
	if err != nil {
		return nil, err
	}
	good, err := scanFrames(name, data, take)
	if err != nil {
		return nil, err
	}
	if whole && good < int64(len(data)) {
		return nil, &DamagedFileError{name, good, "there is more than can be read"}
	}
	if good == 0 {
		return nil, fmt.Errorf("%s: %w", name, errNoFrames)
	}
	l := &frameLog{fs: fs, name: name, size: good, synced: good}
	if l.file, err = fs.OpenFile(name, os.O_RDWR, 0); err != nil {
		return nil, err
	}
	if good < int64(len(data)) {
		err = l.file.Truncate(good)
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

// createFrameLog makes a new file with one frame, durable with its name.
func createFrameLog(fs durable.FS, name string, fill func([]byte) []byte) (*frameLog, error) {
	file, err := fs.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	l := &frameLog{fs: fs, name: name, file: file}
	l.add(fill)
	if err = l.commit(); err == nil {
		err = fs.SyncDir(filepath.Dir(name))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("create %s: %w", name, err), file.Close())
	}
	return l, nil
}

// add gathers a frame for the next write and returns where its payload will stand.
func (l *frameLog) add(fill func([]byte) []byte) (offset int64) {
	at := l.size + int64(len(l.buf))
	l.buf = appendFrame(l.buf, at, l.synced, fill)
	return at + frameHeadBytes
}

// length is the size of the file with what is gathered.
func (l *frameLog) length() int64 { return l.size + int64(len(l.buf)) }

const maxKeptFrameBuffer = 1 << 20

// write writes what is gathered with one call.
func (l *frameLog) write() error {
	if l.err != nil || len(l.buf) == 0 {
		return l.err
	}
	n, err := l.file.WriteAt(l.buf, l.size)
	if err != nil {
		l.err = fmt.Errorf("write %s: %w", l.name, err)
		return l.err
	}
	l.size += int64(n)
	if l.buf = l.buf[:0]; cap(l.buf) > maxKeptFrameBuffer {
		l.buf = nil
	}
	return nil
}

// commit writes what is gathered and returns when all of the file is on stable storage.
func (l *frameLog) commit() error {
	if err := l.write(); err != nil || l.synced == l.size {
		return err
	}
	if err := l.file.Sync(); err != nil {
		l.err = fmt.Errorf("sync %s: %w", l.name, err)
		return l.err
	}
	l.synced = l.size
	return nil
}

func (l *frameLog) read(offset int64, size int) ([]byte, error) {
	p := make([]byte, size)
	n, err := l.file.ReadAt(p, offset)
	if n < size {
		if err == nil || err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("read %s: %w", l.name, err)
	}
	return p, nil
}

func (l *frameLog) close() error { return l.file.Close() }

// fields takes a payload apart. After the first field that is not there all are empty
// and bad is set.
type fields struct {
	b   []byte
	bad bool
}

func (f *fields) bytes(n int) []byte {
	if n < 0 || n > len(f.b) {
		f.b, f.bad = nil, true
		return nil
	}
	p := f.b[:n:n]
	f.b = f.b[n:]
	return p
}

func (f *fields) byte() byte {
	if p := f.bytes(1); p != nil {
		return p[0]
	}
	return 0
}

func (f *fields) uint32() uint32 {
	if p := f.bytes(4); p != nil {
		return binary.BigEndian.Uint32(p)
	}
	return 0
}

func (f *fields) uint64() uint64 {
	if p := f.bytes(8); p != nil {
		return binary.BigEndian.Uint64(p)
	}
	return 0
}

func (f *fields) hash() (h [32]byte) {
	copy(h[:], f.bytes(len(h)))
	return h
}

// prefixed is a field after its length in two bytes.
func (f *fields) prefixed() []byte {
	p := f.bytes(2)
	if p == nil {
		return nil
	}
	return f.bytes(int(binary.BigEndian.Uint16(p)))
}

func appendPrefixed[T string | []byte](dst []byte, v T) []byte {
	if len(v) > math.MaxUint16 {
		panic("client: a field is longer than its callers allow")
	}
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(v)))
	return append(dst, v...)
}
