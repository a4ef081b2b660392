package send

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/internal/clock"
	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/internal/framelog"
)

// Defaults and bounds of a Spool.
const (
	DefaultSpoolBytes = 256 << 20
	// MaxPositionBytes bounds SpoolEntry.Position.
	MaxPositionBytes = 4096
)

// ErrSpoolClosed says that a Spool was closed.
var ErrSpoolClosed = errors.New("the spool is closed")

// DamagedFileError says that a spool cannot be read where it was known to be on
// stable storage. Nothing was changed.
type DamagedFileError = framelog.DamagedError

// ErrNotInSpool says that a message is no longer in a Spool: confirmed, or dropped.
var ErrNotInSpool = errors.New("the message is not in the spool any more")

// SpoolConfig bounds a spool. The zero value means the defaults.
type SpoolConfig struct {
	// MaxBytes bounds the files together (default DefaultSpoolBytes); a single message
	// may be larger. Who wants to put more in waits for confirms.
	MaxBytes int64
	// Horizon is for how long at most a message may be published again. The default is five
	// sixths of what the Sender's broker says that it remembers, which holds besides, too, and
	// DefaultHorizon for a broker that does not say; then it must be shorter than the broker's
	// dedup.window, and than the time in which all publishers together publish dedup.max_ids
	// messages (two million).
	Horizon time.Duration
	// Now is the time of day (default: the machine's).
	Now func() time.Time

	disk
}

// disk lets tests of this module put another file system under a spool.
type disk = durable.Override

// ErrInUse says that another process has a spool open.
var ErrInUse = durable.ErrLocked

// SpoolEntry is a message in a spool.
type SpoolEntry struct {
	client.Message
	// Seq counts the messages of a spool from one.
	Seq uint64
	// Time is when it was put in, in whole milliseconds.
	Time time.Time
	// Position says how far the source of the messages was read with this one, in the
	// application's own words. Empty leaves the position of the one before.
	Position []byte
}

// Spool keeps sealed messages on stable storage from before their first publish until
// the broker has confirmed them, so that a sender that dies can send the same bytes
// again. One process at a time can have it open. It is safe for concurrent use.
//
// What Append has returned for survives a crash, with its position. What was confirmed may
// come back after a power cut, and is sent again: the broker recognises it within the
// horizon.
type Spool struct {
	dir    string
	cfg    SpoolConfig
	unlock func() error

	turn      chan struct{} // room for one: held by Append, also while it waits for room, so that batches keep their order
	appending sync.Mutex    // held while files are written to; taken before mu, and never while somebody waits for room

	mu        sync.Mutex
	files     []*spoolFile // the last one is written to
	pending   []*spooled   // oldest first; the first one is not settled
	unsettled int
	position  []byte
	next      uint64        // sequence number
	marks     []span        // settled and not written yet
	horizon   time.Duration // for how long a message may be published again
	err       error
	changed   chan struct{} // closed, and forgotten, when room was made; nil while nobody waits
}

// spoolFile is one file of the folder.
type spoolFile struct {
	*framelog.Log
	number uint64
	left   int // messages in it that are not settled
}

// spooled is where an unsettled message stands.
type spooled struct {
	seq     uint64
	id      string
	time    time.Time
	file    *spoolFile
	offset  int64
	size    int
	settled bool
	renewed bool // may be sent again although it is old
}

// span is a range of sequence numbers, both ends included.
type span struct{ from, to uint64 }

const (
	spoolSuffix = ".spool"
	// spoolFileBytes is how large a file gets before the next one is begun.
	spoolFileBytes = 8 << 20
	// maxUnwrittenMarks is how many ranges of settled messages are kept in memory.
	maxUnwrittenMarks = 1024
)

// OpenSpool opens or creates a folder. The error wraps ErrInUse if it is open elsewhere, and
// is a *DamagedFileError if it cannot be read.
func OpenSpool(dir string, cfg SpoolConfig) (*Spool, error) {
	cfg.FS = cfg.System()
	if cfg.MaxBytes <= 0 {
		cfg.MaxBytes = DefaultSpoolBytes
	}
	cfg.Horizon = max(cfg.Horizon, 0)
	if cfg.Now == nil {
		cfg.Now = clock.System.Now
	}
	if err := durable.MkdirAll(cfg.FS, dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the spool's folder: %w", err)
	}
	unlock, err := cfg.FS.Lock(dir)
	if err != nil {
		return nil, fmt.Errorf("open spool: %w", err)
	}
	s := &Spool{dir: dir, cfg: cfg, unlock: unlock, next: 1, horizon: cmp.Or(cfg.Horizon, client.DefaultHorizon), turn: make(chan struct{}, 1)}
	if err := s.open(); err != nil {
		s.closeFiles()
		return nil, errors.Join(fmt.Errorf("open spool: %w", err), unlock())
	}
	return s, nil
}

func (s *Spool) open() error {
	numbers, err := s.list()
	if err != nil {
		return err
	}
	for i, number := range numbers {
		f := &spoolFile{number: number}
		last := i == len(numbers)-1
		f.Log, err = framelog.Open(s.cfg.FS, s.path(number), !last, func(offset int64, payload []byte) error {
			isHeader, err := s.take(f, offset+framelog.HeadBytes, payload)
			if err == nil && isHeader != (offset == 0) {
				err = errSpoolFormat
			}
			return err
		})
		switch {
		case errors.Is(err, framelog.ErrEmpty) && last && (i > 0 || number == 1):
			// It was being made; nothing was put into it. The file before holds its header, and is
			// removed only when this one is durable.
			if err := s.cfg.FS.Remove(s.path(number)); err != nil {
				return err
			}
			if err := s.cfg.FS.SyncDir(s.dir); err != nil {
				return err
			}
		case errors.Is(err, framelog.ErrEmpty):
			return &framelog.DamagedError{Name: s.path(number), Offset: 0, Why: "it has no beginning"}
		case err != nil:
			return err
		default:
			s.files = append(s.files, f)
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

// Horizon is for how long a message may be published again, as far as is known: a Sender
// asks its broker.
func (s *Spool) Horizon() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.horizon
}

// Position is that of the last message that was put in, also if it is long confirmed.
func (s *Spool) Position() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.position)
}

// Len is how many messages are not settled.
func (s *Spool) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.unsettled
}

// Append puts messages in, gives each its Seq and Time, and returns when all of them are
// on stable storage. It waits for room until ctx ends. After an error of the disk the spool
// takes nothing more, and any of them may be in it or not: a failed sync is never tried
// again, nor the spool opened again by this process, which had better end and say why.
func (s *Spool) Append(ctx context.Context, list []SpoolEntry) error {
	for i := range list {
		if err := checkEntry(&list[i]); err != nil {
			return err
		}
	}
	size := int64(0)
	for i := range list {
		size += framelog.HeadBytes + int64(entrySize(&list[i]))
	}
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := s.waitForRoom(ctx, size); err != nil {
		return err
	}
	defer s.appending.Unlock()
	s.mu.Lock()
	file, added, err := s.add(list)
	s.mu.Unlock()
	if err != nil {
		return err
	}
	// Without mu, so that confirms need not wait for the disk.
	err = file.Commit()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.fail(err)
		return err
	}
	s.pending = append(s.pending, added...)
	s.unsettled += len(added)
	file.left += len(added)
	for i := range list {
		if len(list[i].Position) > 0 {
			s.position = slices.Clone(list[i].Position)
		}
	}
	return nil
}

// fail makes the first error stay. The caller holds mu.
func (s *Spool) fail(err error) {
	if s.err == nil && err != nil {
		s.err = err
		s.notify()
	}
}

// notify lets who waits for room look again. The caller holds mu.
func (s *Spool) notify() {
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
}

// waitForRoom returns nil with appending held. It holds nothing while it waits: what makes
// room may need the spool first.
func (s *Spool) waitForRoom(ctx context.Context, size int64) error {
	for {
		changed, err := s.room(size)
		if changed == nil {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// room returns with appending held if there is room, and else what is closed when
// there may be.
func (s *Spool) room(size int64) (changed <-chan struct{}, err error) {
	s.appending.Lock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.fail(s.tidy(size))
	}
	total := size
	for _, f := range s.files {
		total += f.Length()
	}
	if s.err == nil && (total <= s.cfg.MaxBytes || s.unsettled == 0) {
		return nil, nil
	}
	s.appending.Unlock()
	if s.err != nil {
		return nil, s.err
	}
	if s.changed == nil {
		s.changed = make(chan struct{})
	}
	return s.changed, nil
}

// add writes frames into the buffer of the current file. The caller holds mu.
func (s *Spool) add(list []SpoolEntry) (*spoolFile, []*spooled, error) {
	if s.err != nil {
		return nil, nil, s.err
	}
	file := s.files[len(s.files)-1]
	s.addMarks(file)
	now := time.UnixMilli(s.cfg.Now().UnixMilli())
	added := make([]*spooled, len(list))
	for i := range list {
		e := &list[i]
		e.Seq, e.Time = s.next, now
		s.next++
		offset := file.Add(func(b []byte) []byte { return appendEntry(b, e) })
		added[i] = &spooled{seq: e.Seq, id: e.ID, time: now, file: file, offset: offset, size: entrySize(e)}
	}
	return file, added, nil
}

// Settle says that messages were confirmed, or are given up. It does not wait for the
// disk.
func (s *Spool) Settle(seqs ...uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, seq := range seqs {
		if i, ok := s.find(seq); ok && !s.pending[i].settled {
			s.settle(s.pending[i])
			s.marks = addSpan(s.marks, seq)
		}
	}
	s.trim()
	s.notify()
}

// find returns where a message is among the pending ones, or would be. The caller holds mu.
func (s *Spool) find(seq uint64) (int, bool) {
	return slices.BinarySearchFunc(s.pending, seq, func(p *spooled, seq uint64) int { return cmp.Compare(p.seq, seq) })
}

// unsettledEntry finds a message that is not settled. The caller holds mu.
func (s *Spool) unsettledEntry(seq uint64) (*spooled, error) {
	if i, ok := s.find(seq); ok && !s.pending[i].settled {
		return s.pending[i], nil
	}
	return nil, fmt.Errorf("number %d: %w", seq, ErrNotInSpool)
}

// settle takes a message out of the count. The caller holds mu.
func (s *Spool) settle(p *spooled) {
	p.settled = true
	p.file.left--
	s.unsettled--
}

// trim drops settled messages from the beginning. The caller holds mu.
func (s *Spool) trim() {
	n := 0
	for n < len(s.pending) && s.pending[n].settled {
		n++
	}
	clear(s.pending[:n])
	s.pending = s.pending[n:]
}

// addSpan adds a number to ranges; mostly it continues the last one.
func addSpan(list []span, seq uint64) []span {
	if n := len(list); n > 0 && list[n-1].to+1 == seq {
		list[n-1].to = seq
		return list
	}
	return append(list, span{seq, seq})
}

// Tidy writes down what was settled, without a sync, and removes files that hold nothing
// else. Append does it too; somebody who has nothing to append calls it now and then.
func (s *Spool) Tidy() error {
	s.appending.Lock()
	defer s.appending.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.fail(s.tidy(0))
	}
	return s.err
}

// tidy also begins a new file if the current one is full, and makes room for size more
// bytes. The caller holds appending and mu.
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
// good before the next: its marks may stand in that one. The caller holds mu.
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

// Entries lists what is not settled, oldest first, without bodies.
func (s *Spool) Entries() []SpoolEntry {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.entries(func(*spooled) bool { return true })
}

func (s *Spool) entries(want func(*spooled) bool) (list []SpoolEntry) {
	for _, p := range s.pending {
		if !p.settled && want(p) {
			list = append(list, SpoolEntry{Message: client.Message{ID: p.id}, Seq: p.seq, Time: p.time})
		}
	}
	return list
}

// Read returns an unsettled message whole, or an error that wraps ErrNotInSpool.
func (s *Spool) Read(seq uint64) (SpoolEntry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.unsettledEntry(seq)
	if err != nil {
		return SpoolEntry{}, err
	}
	payload, err := p.file.Read(p.offset, p.size)
	if err != nil {
		return SpoolEntry{}, err
	}
	e, err := parseEntry(payload)
	if err != nil || e.ID != p.id {
		return SpoolEntry{}, &framelog.DamagedError{Name: p.file.Name, Offset: p.offset, Why: "it has changed since it was opened"}
	}
	return e, nil
}

// Drop gives messages up, for good when it returns nil. A Sender that has not published
// them yet skips them.
func (s *Spool) Drop(ids ...string) error {
	var seqs []uint64
	for _, e := range s.Entries() {
		if slices.Contains(ids, e.ID) {
			seqs = append(seqs, e.Seq)
		}
	}
	s.Settle(seqs...)
	s.appending.Lock()
	defer s.appending.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.flush()
}

// flush puts all marks on stable storage. The caller holds appending and mu.
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

// Close writes down what was settled and gives the folder up. An Append that waits for
// room fails with ErrSpoolClosed.
func (s *Spool) Close() error {
	s.appending.Lock()
	defer s.appending.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == ErrSpoolClosed {
		return nil
	}
	err := s.flush()
	s.err = ErrSpoolClosed
	s.notify()
	return errors.Join(err, s.closeFiles(), s.unlock())
}

func (s *Spool) closeFiles() (err error) {
	for _, f := range s.files {
		err = errors.Join(err, f.Close())
	}
	return err
}
