package send

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/internal/framelog"
)

const (
	spoolSuffix = ".spool"
	// spoolFileBytes is how large a file gets before the next one is begun.
	spoolFileBytes = 8 << 20
	// maxUnwrittenMarks is how many ranges of settled messages are kept in memory.
	maxUnwrittenMarks = 1024
)

// spoolFile is one file of the folder.
type spoolFile struct {
	*framelog.Log
	number uint64
	left   int // messages in it that are not settled
}

func (s *Spool) open() error {
	numbers, err := s.list()
	if err != nil {
		return err
	}
	for i, number := range numbers {
		f := &spoolFile{number: number}
		last := i == len(numbers)-1
		if i > 0 && number != numbers[i-1]+1 {
			return &framelog.DamagedError{Name: s.path(numbers[i-1] + 1), Offset: 0, Why: "the file is missing"}
		}
		f.Log, err = framelog.Open(s.cfg.FS, s.path(number), !last, func(offset int64, payload []byte) error {
			isHeader, err := s.take(f, offset+framelog.HeadBytes, payload)
			if err == nil && isHeader != (offset == 0) {
				err = errSpoolFormat
			}
			if err == nil && isHeader && i > 0 && s.next != s.expected {
				err = fmt.Errorf("it follows message number %d, but the file before it ends with number %d", s.next-1, s.expected-1)
			}
			s.expected = s.next
			return err
		})
		switch {
		case errors.Is(err, framelog.ErrEmpty) && last && (i > 0 || number == 1):
			// It was being made; nothing was put into it. The file before holds its header, and is
			// removed only when this one is durable.
			if err := s.removeTorn(s.path(number)); err != nil {
				return err
			}
		case errors.Is(err, framelog.ErrEmpty):
			return &framelog.DamagedError{Name: s.path(number), Offset: 0, Why: "it has no beginning"}
		case err != nil:
			return err
		default:
			s.files = append(s.files, f)
			if s.found.Cut = f.Cut; f.Cut.Bytes > 0 {
				s.found.Closed = false
			}
		}
	}
	if len(s.files) == 0 {
		if err := s.begin(1); err != nil {
			return err
		}
	}
	s.trim()
	return s.removeSettled()
}

// removeTorn removes a file without a beginning, and keeps what is in it.
func (s *Spool) removeTorn(name string) error {
	data, err := durable.ReadFile(s.cfg.FS, name, spoolFileBytes)
	if err != nil {
		return err
	}
	s.found.Closed, s.found.Cut = false, Cut{Name: name, Bytes: int64(len(data))}
	if len(data) > 0 {
		if s.found.Cut.Kept, err = durable.KeepAside(s.cfg.FS, name, data); err != nil {
			return err
		}
	}
	if err := s.cfg.FS.Remove(name); err != nil {
		return err
	}
	return s.cfg.FS.SyncDir(s.dir)
}

// list returns the numbers of the spool's files, ascending.
func (s *Spool) list() ([]uint64, error) {
	names, err := s.cfg.FS.ReadDir(s.dir)
	if err != nil {
		return nil, err
	}
	var numbers []uint64
	for _, name := range names {
		var n uint64
		if _, err := fmt.Sscanf(name, "%016x"+spoolSuffix, &n); err == nil && name == filepath.Base(s.path(n)) {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	return numbers, nil
}

func (s *Spool) path(number uint64) string {
	return filepath.Join(s.dir, fmt.Sprintf("%016x"+spoolSuffix, number))
}

// begin makes the next file, which begins with what must outlive the ones before. The
// caller holds mu, or nobody else knows the spool.
func (s *Spool) begin(number uint64) error {
	log, err := framelog.Create(s.cfg.FS, s.path(number), func(b []byte) []byte { return appendSpoolHeader(b, s.next, s.position) })
	if err != nil {
		return err
	}
	s.files = append(s.files, &spoolFile{Log: log, number: number})
	return nil
}

// Tidy writes down what was settled, without a sync, and removes files that hold nothing
// else. Append does it too; a program that has nothing to append calls it now and then.
func (s *Spool) Tidy() error {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.fail(s.tidy(0))
	}
	return s.err
}

// tidy also begins a new file if the current one is full, and makes room for size more
// bytes. The caller holds writing and mu.
func (s *Spool) tidy(size int64) error {
	file := s.files[len(s.files)-1]
	if s.unsettled == 0 || len(s.marks) > maxUnwrittenMarks {
		s.addMarks(file)
		if err := file.Write(); err != nil {
			return err
		}
	}
	most := min(int64(spoolFileBytes), max(s.cfg.MaxBytes/4, 1))
	if file.Length()+size > most && file.Length() > most/2 && size > 0 {
		// What the full file holds must be durable before the next one says that it follows.
		s.addMarks(file)
		if err := file.Commit(); err != nil {
			return err
		}
		if err := s.begin(file.number + 1); err != nil {
			return err
		}
	}
	return s.removeSettled()
}

// removeSettled removes files from the oldest on that hold nothing unsettled, each for
// good before the next: its marks may be in that one. The caller holds mu.
func (s *Spool) removeSettled() error {
	for len(s.files) > 1 && s.files[0].left == 0 {
		f := s.files[0]
		if err := errors.Join(f.Close(), s.cfg.FS.Remove(f.Name)); err != nil {
			return err
		}
		if err := s.cfg.FS.SyncDir(s.dir); err != nil {
			return err
		}
		s.files = s.files[1:]
	}
	return nil
}

func (s *Spool) addMarks(file *spoolFile) {
	if len(s.marks) > 0 {
		file.Add(func(b []byte) []byte { return appendMarks(b, s.marks) })
		s.marks = s.marks[:0]
	}
}

// flush puts all marks on stable storage. The caller holds writing and mu.
func (s *Spool) flush() error {
	if s.err != nil {
		return s.err
	}
	file := s.files[len(s.files)-1]
	s.addMarks(file)
	err := file.Commit()
	if err == nil {
		err = s.removeSettled()
	}
	s.fail(err)
	return err
}

func (s *Spool) closeFiles() (err error) {
	for _, f := range s.files {
		err = errors.Join(err, f.Close())
	}
	return err
}
