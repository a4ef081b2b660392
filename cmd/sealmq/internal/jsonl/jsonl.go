// Package jsonl keeps received messages in a file of JSON lines, so that a message can be
// acknowledged once its line is on stable storage.
//
// It promises that committed lines survive a crash, that the file always opens again after
// a crash, and that Open cuts off nothing but an incomplete line after the last commit, which
// it keeps in another file.
//
// It does not remember the content of the lines, does not rotate files, and does not know
// where messages come from.
package jsonl

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/sealmq/sealmq/internal/durable"
)

const (
	// MaxLineBytes is the maximum length of a line.
	MaxLineBytes = 32 << 20
	// maxBatchBytes is about how much one Commit writes, and so what a crash can tear.
	maxBatchBytes = 64 << 20
	readBytes     = 1 << 20
)

// File is an open output file. It is not safe for concurrent use.
type File struct {
	file   durable.File
	unlock func() error
	name   string
	size   int64        // of the committed lines
	count  int          // of their messages
	buf    bytes.Buffer // lines that are not committed yet
	added  int          // of these
	cut    Cut
	ledger Ledger
	err    error // of a failed write or sync, after which the content is unknown
}

// DamagedError says that a file holds something that is no record, at a place where a crash
// cannot have left it.
type DamagedError struct {
	Name string
	Line int // 0 if the file does not fit what is known of it
	Why  string
}

func (e *DamagedError) Error() string {
	if e.Line == 0 {
		return e.Name + " was " + e.Why
	}
	return fmt.Sprintf("line %d of %s is not a received message: %s", e.Line, e.Name, e.Why)
}

// Cut is what was cut off the end of a file.
type Cut struct {
	Bytes int64  // how many; 0 if nothing was cut off
	Kept  string // the file that has them now
}

// Ledger remembers the messages of a file. Sender is empty where a line names none.
type Ledger interface {
	// Add tells of a line that Open has read.
	Add(sender, id string, message []byte)
	// Has reports whether it remembers a message.
	Has(sender, id string, message []byte) bool
}

// Open opens or creates a file, reads it behind its first length bytes, and cuts off an
// incomplete line at its end. The caller knows that these bytes are lines of count messages; it
// may be 0. The ledger, if not nil, has the last of them, and Open adds the lines that it reads.
// An empty or missing file was taken away on purpose, so it starts again. A file that is too
// short, or has another line where the last of these should end, is a *DamagedError. If fs can
// lock files, a second Open of the same file fails with an error that wraps durable.ErrLocked.
func Open(fs durable.FS, name string, length int64, count int, ledger Ledger) (*File, error) {
	f := &File{name: name, size: length, count: count, ledger: ledger}
	return f, f.open(fs)
}

// open locks, opens, reads and cuts the file. It syncs the file: messages in it are
// acknowledged without being written again, but the lines of a killed process may still be in
// memory only.
func (f *File) open(fs durable.FS) (err error) {
	f.unlock = func() error { return nil }
	if locker, ok := fs.(durable.FileLocker); ok {
		unlock, err := locker.LockFile(f.name)
		if err != nil {
			return err
		}
		f.unlock = unlock
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	if f.file, err = fs.OpenFile(f.name, os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return err
	}
	total, err := f.file.Size()
	if err != nil {
		return fmt.Errorf("size of %s: %w", f.name, err)
	}
	if err := f.checkCommitted(total); err != nil {
		return err
	}
	if err := f.scan(total); err != nil {
		return err
	}
	if err := f.cutOff(fs, total); err != nil {
		return fmt.Errorf("cut off an incomplete line of %s: %w", f.name, err)
	}
	if err := f.file.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", f.name, err)
	}
	if err := fs.SyncDir(filepath.Dir(f.name)); err != nil {
		return fmt.Errorf("sync the folder of %s: %w", f.name, err)
	}
	return nil
}

// checkCommitted checks that the last committed line ends where it should. If lines before it are
// gone, one that was never committed may end there.
func (f *File) checkCommitted(total int64) error {
	if total == 0 {
		f.size, f.count = 0, 0
	}
	if total < f.size {
		return &DamagedError{f.name, 0, fmt.Sprintf("shortened: it has %d bytes, but %d were written to it", total, f.size)}
	}
	if f.size == 0 {
		return nil
	}
	text, err := f.lastCommitted()
	if err != nil {
		return fmt.Errorf("read %s: %w", f.name, err)
	}
	text, complete := bytes.CutSuffix(text, []byte("\n"))
	if !complete {
		return &DamagedError{f.name, 0, "changed: the last committed line does not end where it should"}
	}
	if l, err := parse(text); err != nil {
		return &DamagedError{f.name, f.count, err.Error()}
	} else if f.ledger != nil && !f.ledger.Has(l.Sender, l.MessageID, l.message()) {
		return &DamagedError{f.name, 0, "changed: another line is where the last committed one should be"}
	}
	return nil
}

// lastCommitted reads the last committed line, with its line feed.
func (f *File) lastCommitted() ([]byte, error) {
	for n := int64(64 << 10); ; n *= 2 {
		n = min(n, f.size)
		text := make([]byte, n)
		if _, err := f.file.ReadAt(text, f.size-n); err != nil && err != io.EOF {
			return nil, err
		}
		if i := bytes.LastIndexByte(text[:n-1], '\n'); i >= 0 || n == f.size || n > MaxLineBytes {
			return text[i+1:], nil
		}
	}
}

// cutOff moves what is behind the last complete line to another file: after damage to what is
// known of the committed lines it may be worth something.
func (f *File) cutOff(fs durable.FS, total int64) (err error) {
	if total <= f.size {
		return nil
	}
	rest := make([]byte, total-f.size)
	if _, err := f.file.ReadAt(rest, f.size); err != nil && err != io.EOF {
		return err
	}
	f.cut.Bytes = int64(len(rest))
	if f.cut.Kept, err = durable.KeepAside(fs, f.name, rest); err != nil {
		return err
	}
	return f.file.Truncate(f.size)
}

// scan reads the lines behind the committed ones and sets size to the end of the last complete
// one.
func (f *File) scan(total int64) error {
	lines := bufio.NewScanner(io.NewSectionReader(f.file, f.size, total-f.size))
	lines.Buffer(make([]byte, readBytes), 2*MaxLineBytes)
	lines.Split(func(data []byte, atEOF bool) (int, []byte, error) {
		n := bytes.IndexByte(data, '\n') + 1
		if n == 0 && atEOF {
			n = len(data)
		}
		if n == 0 {
			return 0, nil, nil
		}
		return n, data[:n], nil
	})
	number := f.count
	for lines.Scan() {
		number++
		text, complete := bytes.CutSuffix(lines.Bytes(), []byte("\n"))
		if !complete {
			return f.lastLine(text, number)
		}
		if err := f.take(text); err != nil {
			return f.checkBad(text, number, total, err)
		}
		f.size += int64(len(text)) + 1
	}
	if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
		return &DamagedError{f.name, number + 1, "it is too long"}
	} else if err != nil {
		return fmt.Errorf("read %s: %w", f.name, err)
	}
	return nil
}

// lastLine handles what follows the last line feed. A complete record may have been added by
// hand: it gets its line feed. An incomplete one was torn.
func (f *File) lastLine(rest []byte, number int) error {
	if err := f.take(rest); err != nil {
		if !torn(rest) {
			return &DamagedError{f.name, number, err.Error()}
		}
		return nil
	}
	if _, err := f.file.WriteAt([]byte("\n"), f.size+int64(len(rest))); err != nil {
		return fmt.Errorf("complete the last line of %s: %w", f.name, err)
	}
	f.size += int64(len(rest)) + 1
	return nil
}

// checkBad handles a line that is no record. After a power cut the last batch may have
// holes, which read as zeros. Anywhere else the line is damaged, and cutting it off would
// lose acknowledged messages.
func (f *File) checkBad(text []byte, number int, total int64, why error) error {
	if total-f.size <= maxBatchBytes+MaxLineBytes && bytes.IndexByte(text, 0) >= 0 && torn(text) {
		return nil
	}
	return &DamagedError{f.name, number, why.Error()}
}

// torn reports whether text may be a line that a crash has torn. A file of another kind must
// not count as torn.
func torn(text []byte) bool {
	const begin = `{"message_id":`
	n := min(len(text), len(begin))
	if i := bytes.IndexByte(text[:n], 0); i >= 0 {
		n = i
	}
	return string(text[:n]) == begin[:n]
}

// take parses a line, counts it, and tells the ledger.
func (f *File) take(text []byte) error {
	l, err := parse(text)
	if err != nil {
		return err
	}
	f.count++
	if f.ledger != nil {
		f.ledger.Add(l.Sender, l.MessageID, l.message())
	}
	return nil
}

func parse(text []byte) (*readLine, error) {
	l := new(readLine)
	if err := json.Unmarshal(text, l); err != nil {
		return nil, errors.New("it is not a JSON object")
	}
	switch {
	case bytes.Count(text, []byte(`"message_id":`)) > 1: // quotes in a text are escaped
		return nil, errors.New("it has two messages, because what was between them is gone")
	case l.MessageID == "":
		return nil, errors.New("it has no message_id")
	case l.Message == nil && l.Base64 == nil:
		return nil, errors.New("it has no message")
	}
	return l, nil
}

// Append adds a line. The line is on stable storage when Commit has returned.
func (f *File) Append(r *Record) error {
	if f.err != nil {
		return f.err
	}
	if err := r.appendLine(&f.buf); err != nil {
		return err
	}
	if f.added++; f.buf.Len() > maxBatchBytes {
		return f.Commit()
	}
	return nil
}

// Commit stores all appended lines, with one write and one sync. After an error the file
// must be opened again; lines that a full disk has torn are taken out again, if that succeeds.
func (f *File) Commit() error {
	if f.err != nil || f.buf.Len() == 0 {
		return f.err
	}
	n, err := f.file.WriteAt(f.buf.Bytes(), f.size)
	if err != nil {
		_ = f.file.Truncate(f.size)
	} else {
		err = f.file.Sync()
	}
	if err != nil {
		f.err = fmt.Errorf("write %s: %w", f.name, err)
		return f.err
	}
	f.size += int64(n)
	f.count += f.added
	f.added = 0
	f.buf.Reset()
	return nil
}

// Len is the number of messages in the committed lines.
func (f *File) Len() int { return f.count }

// Size is the length of the committed lines.
func (f *File) Size() int64 { return f.size }

// Cut is what Open cut off.
func (f *File) Cut() Cut { return f.cut }

// Close closes the file. Lines that are not committed are dropped.
func (f *File) Close() error {
	var err error
	if f.file != nil {
		err = f.file.Close()
	}
	return errors.Join(err, f.unlock())
}
