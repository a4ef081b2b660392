package send

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/internal/changes"
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

// Recovery is what OpenSpool found.
type Recovery struct {
	// Closed says that the process that had the spool before closed it. If it was killed instead,
	// its files may have lost whole messages at their end since then, which nothing shows.
	Closed bool
	// Cut is what was cut off the end of the last file: a message that was never stored, or
	// damage.
	Cut Cut
}

// Cut is what was cut off the end of a file.
type Cut = framelog.Cut

// ErrNotInSpool says that a message is no longer in a Spool: confirmed, or dropped.
var ErrNotInSpool = errors.New("the message is not in the spool any more")

// SpoolConfig bounds a spool. The zero value means the defaults.
type SpoolConfig struct {
	// MaxBytes bounds the files together (default DefaultSpoolBytes); a single message may be
	// larger. Append blocks while the spool is full.
	MaxBytes int64
	// Horizon is the longest time after which a message may be published again. The limit of
	// the broker, five sixths of the time that it says it remembers messages, also applies and
	// is the default. For a broker that does not say, the default is client.DefaultHorizon. Then
	// Horizon must be shorter than the broker's dedup.window, and than the time in which all
	// publishers together publish dedup.max_ids messages (two million).
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
	sealmq.Message
	// Seq counts the messages of a spool from one.
	Seq uint64
	// Time is when it was put in, in whole milliseconds.
	Time time.Time
	// Position says how far the source of the messages was read up to this message, in a form
	// of the application's. If it is empty, the position of the message before stays.
	Position []byte
}

// Spool keeps sealed messages on stable storage from before their first publish until the
// broker has confirmed them. A sender that died can so send the same bytes again. One
// process at a time can have it open. It is safe for concurrent use.
//
// When Append returns, its messages survive a crash, with their position. Confirmed messages
// may come back after a power cut and are sent again: the broker recognises them within the
// horizon.
type Spool struct {
	dir    string
	cfg    SpoolConfig
	unlock func() error

	// turn has room for one: Append holds it, also while it waits for room, so that batches
	// keep their order.
	turn chan struct{}
	// writing is held while files are written to. It is taken before mu, and never while
	// somebody waits for room.
	writing sync.Mutex

	mu        sync.Mutex
	files     []*spoolFile // the last one is written to
	pending   []*spooled   // oldest first; the first one is not settled
	unsettled int
	position  []byte
	next      uint64 // sequence number
	expected  uint64 // next, behind the last frame that was read
	found     Recovery
	marks     []span        // settled and not written yet
	horizon   time.Duration // for how long a message may be published again
	err       error
	changed   changes.Signal // when room was made
}

// spooled is the place of an unsettled message.
type spooled struct {
	seq     uint64
	id      string
	time    time.Time
	file    *spoolFile
	offset  int64
	size    int
	settled bool
	renewed bool // may be published again although it is old
}

// span is a range of sequence numbers, both ends included.
type span struct{ from, to uint64 }

// OpenSpool opens or creates a folder. The error wraps ErrInUse if it is open elsewhere, and
// is a *DamagedFileError if it cannot be read.
func OpenSpool(dir string, cfg SpoolConfig) (*Spool, error) {
	cfg.FS = cfg.System()
	cfg.MaxBytes = cmp.Or(max(cfg.MaxBytes, 0), DefaultSpoolBytes)
	cfg.Horizon = max(cfg.Horizon, 0)
	if cfg.Now == nil {
		cfg.Now = clock.System.Now
	}
	if err := durable.MkdirAll(cfg.FS, dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the spool's folder: %w", err)
	}
	names, err := cfg.FS.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("open spool: %w", err)
	}
	unlock, err := cfg.FS.Lock(dir)
	if err != nil {
		return nil, fmt.Errorf("open spool: %w", err)
	}
	s := &Spool{dir: dir, cfg: cfg, unlock: unlock, next: 1, horizon: cmp.Or(cfg.Horizon, client.DefaultHorizon), turn: make(chan struct{}, 1)}
	s.found.Closed = len(names) == 0 // else its files say so
	if err := s.open(); err != nil {
		s.closeFiles()
		return nil, errors.Join(fmt.Errorf("open spool: %w", err), unlock())
	}
	return s, nil
}

// Found is how OpenSpool found the files.
func (s *Spool) Found() Recovery { return s.found }

// Horizon is for how long a message may be published again, as far as it is known: a Sender
// asks its broker.
func (s *Spool) Horizon() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.horizon
}

// Position is the position of the last message that was put in, also if it was confirmed.
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
// takes nothing more, and each of them may be in it or not: a failed sync is never tried
// again. The process should end and say why, and not open the spool again.
func (s *Spool) Append(ctx context.Context, list []SpoolEntry) error {
	size := int64(0)
	for i := range list {
		if err := checkEntry(&list[i]); err != nil {
			return err
		}
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
	defer s.writing.Unlock()
	s.mu.Lock()
	file, added, err := s.add(list)
	s.mu.Unlock()
	if err != nil {
		return err
	}
	// Without mu, so that confirms need not wait for the disk.
	if err = file.Commit(); err == nil {
		file.Mark(func(b []byte) []byte { return appendMarks(b, nil) })
	}
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
		s.changed.Notify()
	}
}

// waitForRoom returns nil with writing held. It holds nothing while it waits: what makes
// room may need the spool first.
func (s *Spool) waitForRoom(ctx context.Context, size int64) error {
	for {
		s.writing.Lock()
		s.mu.Lock()
		if s.err == nil {
			s.fail(s.tidy(size))
		}
		total := size
		for _, f := range s.files {
			total += f.Length()
		}
		err := s.err
		if err == nil && (total <= s.cfg.MaxBytes || s.unsettled == 0) {
			s.mu.Unlock()
			return nil
		}
		s.writing.Unlock()
		if err == nil {
			err = s.changed.Wait(ctx, &s.mu)
		}
		s.mu.Unlock()
		if err != nil {
			return err
		}
	}
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
	s.changed.Notify()
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

// Entries lists what is not settled, oldest first, without bodies.
func (s *Spool) Entries() []SpoolEntry {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.entries(func(*spooled) bool { return true })
}

func (s *Spool) entries(want func(*spooled) bool) (list []SpoolEntry) {
	for _, p := range s.pending {
		if !p.settled && want(p) {
			list = append(list, SpoolEntry{Message: sealmq.Message{ID: p.id}, Seq: p.seq, Time: p.time})
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
	s.writing.Lock()
	defer s.writing.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.flush()
}

// Close writes down what was settled and gives the folder up. An Append that waits for
// room fails with ErrSpoolClosed.
func (s *Spool) Close() error {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == ErrSpoolClosed {
		return nil
	}
	if s.err == nil {
		s.files[len(s.files)-1].Add(func(b []byte) []byte { return appendMarks(b, closedMark) })
	}
	err := s.flush()
	s.err = ErrSpoolClosed
	s.changed.Notify()
	return errors.Join(err, s.closeFiles(), s.unlock())
}
