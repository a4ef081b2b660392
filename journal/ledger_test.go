package journal_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sealmq/sealmq/internal/testing/fakeclock"
	"github.com/sealmq/sealmq/internal/testing/faultfs"
	"github.com/sealmq/sealmq/journal"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(os.Exit))
}

const testDir = "store/journal"

var testStoreID = [16]byte{0xa7, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}

// faultConfig is a journal with the smallest segments over a file system in memory. Its
// clock stands still, so that no mark is written because nothing happens.
func faultConfig(fs *faultfs.FS) journal.Config {
	return journal.Config{
		Dir: testDir, FS: fs, StoreID: testStoreID, SegmentBytes: journal.MinSegmentBytes,
		CacheBytes: 4 << 10, Clock: fakeclock.New(time.Unix(1_700_000_000, 0)),
	}
}

// written is a record as it was handed to Append.
type written struct {
	pos  journal.Position
	kind byte
	body []byte
}

// ledger is what a test knows about a journal: everything that was handed to it, how
// much of it was reported durable, and what the journal was told in return.
type ledger struct {
	mu      sync.Mutex
	records []written
	synced  int // of records, reported as durable
	// from and fromSeq are those of the last checkpoint, and which segments were released since.
	from     journal.Position
	fromSeq  uint64
	released map[uint64]bool
	serial   uint64
	opens    int
	forged   bool             // sequences may be anything
	next     journal.Position // where the last workload ended, and the mark of Close is
}

func newLedger() *ledger { return &ledger{released: map[uint64]bool{}} }

// config is what a process would open the journal with after its last checkpoint.
func (l *ledger) config(fs *faultfs.FS) journal.Config {
	cfg := faultConfig(fs)
	if l.opens++; l.opens%3 == 2 { // an operator may change the size at any start
		cfg.SegmentBytes += 4 << 10
	}
	return cfg
}

// body makes a payload that is unlike any other.
func (l *ledger) body(rng *rand.Rand) []byte {
	l.serial++
	n := 8 + rng.IntN(200)
	if rng.IntN(5) == 0 {
		n = 500 + rng.IntN(2500)
	}
	b := make([]byte, n)
	binary.LittleEndian.PutUint64(b, l.serial)
	for i := 8; i < n; i++ {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// append hands one record over, waiting for room as a caller would.
func (l *ledger) append(ctx context.Context, j *journal.Journal, kind byte, body []byte) error {
	for {
		pos, err := j.Append(false, kind, body[:len(body)/2], body[len(body)/2:])
		if err == nil {
			l.mu.Lock()
			l.records = append(l.records, written{pos, kind, body})
			l.mu.Unlock()
			return nil
		}
		if !errors.Is(err, journal.ErrNoRoom) {
			return err
		}
		if err := j.WaitRoom(ctx, false, len(body)); err != nil {
			return err
		}
	}
}

// report asks to be told when what was appended so far is durable.
func (l *ledger) report(j *journal.Journal) {
	l.mu.Lock()
	n := len(l.records)
	l.mu.Unlock()
	j.OnSync(func(err error) {
		if err == nil {
			l.mu.Lock()
			l.synced = max(l.synced, n)
			l.mu.Unlock()
		}
	})
}

// checkpoint moves From to what is applied and releases most segments before it.
func (l *ledger) checkpoint(j *journal.Journal, rng *rand.Rand) {
	l.from, l.fromSeq = j.Applied()
	for _, gen := range j.Generations() {
		if gen < l.from.Generation() && rng.IntN(4) > 0 {
			j.Release(gen)
			l.released[gen] = true
		}
	}
}

// run works with a journal until n records are written or the journal has stopped.
func (l *ledger) run(ctx context.Context, j *journal.Journal, rng *rand.Rand, n int) error {
	for range n {
		kind := journal.FirstKind + byte(rng.IntN(5))
		if err := l.append(ctx, j, kind, l.body(rng)); err != nil {
			return err
		}
		switch rng.IntN(6) {
		case 0:
			l.report(j)
		case 1:
			l.report(j)
			if err := j.Sync(); err != nil {
				return err
			}
			if rng.IntN(3) == 0 {
				l.checkpoint(j, rng)
			}
		}
	}
	l.report(j)
	return j.Sync()
}

// found is what one opening of a journal showed.
type found struct {
	records []written
	last    uint64
	report  *journal.Report
}

// start opens a journal, reads its records and begins.
func start(cfg journal.Config, from journal.Position, seq uint64, visit func(journal.Record) error) (*journal.Journal, *journal.Report, error) {
	j, err := journal.Open(cfg)
	if err != nil {
		return nil, nil, err
	}
	for r, err := range j.Replay(from, seq) {
		if err == nil {
			err = visit(r)
		}
		if err != nil {
			return nil, nil, errors.Join(err, j.Close())
		}
	}
	report, err := j.Begin()
	if err != nil {
		return nil, report, errors.Join(err, j.Close())
	}
	return j, report, nil
}

// mustStart starts a journal of which no record matters.
func mustStart(t *testing.T, cfg journal.Config) *journal.Journal {
	t.Helper()
	j, _, err := start(cfg, 0, 0, func(journal.Record) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// open starts the journal of the ledger and collects all it has to show: the segments
// before the checkpoint one by one, the others as they are replayed.
func (l *ledger) open(cfg journal.Config) (*journal.Journal, *found, error) {
	f := &found{}
	take := func(r journal.Record) error {
		if r.Seq <= f.last && !l.forged {
			return fmt.Errorf("sequence %d after %d", r.Seq, f.last)
		}
		f.last = r.Seq
		f.records = append(f.records, written{r.Pos, r.Kind, bytes.Clone(r.Payload)})
		return nil
	}
	j, err := journal.Open(cfg)
	if err != nil {
		return nil, f, err
	}
	read := func(records iter.Seq2[journal.Record, error]) {
		for r, readErr := range records {
			if err == nil && readErr == nil {
				readErr = take(r)
			}
			if err = readErr; err != nil {
				return
			}
		}
	}
	for _, gen := range j.Generations() {
		if gen < l.from.Generation() && !l.released[gen] && err == nil {
			read(j.Scan(gen))
		}
	}
	if err == nil {
		read(j.Replay(l.from, l.fromSeq))
	}
	if err == nil {
		f.report, err = j.Begin()
	}
	if err != nil {
		return nil, f, errors.Join(err, j.Close())
	}
	return j, f, nil
}

// check compares what was found with what was written. Everything that was reported
// durable and not released must be there; nothing else but other written records may.
func (l *ledger) check(f *found) error {
	at := make(map[journal.Position]*written, len(l.records))
	for i := range l.records {
		at[l.records[i].pos] = &l.records[i]
	}
	seen := make(map[journal.Position]bool, len(f.records))
	var before journal.Position
	for _, r := range f.records {
		w := at[r.pos]
		switch {
		case w == nil:
			return fmt.Errorf("record at %v was never written", r.pos)
		case w.kind != r.kind || !bytes.Equal(w.body, r.body):
			return fmt.Errorf("record at %v has another content", r.pos)
		case r.pos <= before:
			return fmt.Errorf("record at %v came after %v", r.pos, before)
		}
		before, seen[r.pos] = r.pos, true
	}
	for i, w := range l.records[:l.synced] {
		if !seen[w.pos] && !l.released[w.pos.Generation()] {
			return fmt.Errorf("record %d of %d at %v, kind %d, %d bytes, was reported durable and is gone",
				i, l.synced, w.pos, w.kind, len(w.body))
		}
	}
	return nil
}

// adopt takes what was found as the truth from now on: what was never reported durable
// and is gone will not come back, and what is there is durable.
func (l *ledger) adopt(f *found) {
	l.records = f.records
	l.synced = len(f.records)
}

// reopen opens the journal, checks it against the ledger, and checks that every record
// can be read back.
func (l *ledger) reopen(cfg journal.Config) (*journal.Journal, *found, error) {
	j, f, err := l.open(cfg)
	if err != nil {
		return nil, f, fmt.Errorf("open: %w", err)
	}
	err = l.check(f)
	if err == nil && len(f.report.Damage) > 0 {
		err = fmt.Errorf("damage is reported: %w", f.report.Damage[0])
	}
	if err == nil {
		err = readAll(j, f.records)
	}
	if err != nil {
		return nil, f, errors.Join(err, j.Close())
	}
	l.adopt(f)
	return j, f, nil
}

func readAll(j *journal.Journal, records []written) error {
	places := make([]journal.Place, len(records))
	for i, r := range records {
		places[i] = journal.Place{Pos: r.pos, Bytes: journal.RecordBytes(len(r.body))}
	}
	var failed error
	j.Read(places, func(i int, r journal.Record, err error) {
		switch {
		case failed != nil:
		case err != nil:
			failed = fmt.Errorf("read %v: %w", records[i].pos, err)
		case r.Pos != records[i].pos || !bytes.Equal(r.Payload, records[i].body):
			failed = fmt.Errorf("read %v: got the record at %v, %d bytes", records[i].pos, r.Pos, len(r.Payload))
		}
	})
	return failed
}

// survives opens what a crash left, checks it, goes on working, and opens it twice
// more: nothing may be found damaged or torn after a clean stop.
func (l *ledger) survives(fs *faultfs.FS, rng *rand.Rand) error {
	j, _, err := l.reopen(l.config(fs))
	if err != nil {
		return err
	}
	err = l.run(context.Background(), j, rng, 15)
	if err := errors.Join(err, j.Close()); err != nil {
		return fmt.Errorf("work after recovery: %w", err)
	}
	for range 2 {
		j, f, err := l.reopen(l.config(fs))
		if err != nil {
			return fmt.Errorf("after a clean stop: %w", err)
		}
		if err := j.Close(); err != nil {
			return fmt.Errorf("close: %w", err)
		}
		if len(f.report.Dropped)+len(f.report.Repaired) > 0 {
			return fmt.Errorf("after a clean stop: %+v is reported", f.report)
		}
	}
	return nil
}

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 42)) }

// clone is a ledger that goes its own way from here.
func (l *ledger) clone() *ledger {
	return &ledger{
		records: slices.Clone(l.records), synced: l.synced, from: l.from, fromSeq: l.fromSeq,
		released: maps.Clone(l.released), serial: l.serial, opens: l.opens, forged: l.forged,
	}
}
