package local_test

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
	"github.com/sealmq/sealmq/engine/local"
	"github.com/sealmq/sealmq/internal/testing/fakeclock"
	"github.com/sealmq/sealmq/internal/testing/faultfs"
	"github.com/sealmq/sealmq/journal"
)

// rig is an engine over a file system in memory, for tests of one thing.
type rig struct {
	tb    testing.TB
	fs    *faultfs.FS
	clock *fakeclock.Clock
	cfg   local.Config
	*local.Engine
}

func newRig(tb testing.TB, configure func(*local.Config)) *rig {
	tb.Helper()
	r := &rig{tb: tb, fs: faultfs.New(), clock: fakeclock.New(time.Unix(1_700_000_000, 0))}
	r.cfg = local.Config{Dir: storeDir, FS: r.fs, Clock: r.clock, SegmentBytes: 16 << 10, CacheBytes: 1}
	if configure != nil {
		configure(&r.cfg)
	}
	r.open()
	tb.Cleanup(func() { _ = r.Engine.Close() })
	return r
}

func (r *rig) open() {
	r.tb.Helper()
	e, err := local.Open(r.cfg)
	if err != nil {
		r.tb.Fatal(err)
	}
	r.Engine = e
}

// eventually waits for what the engine does beside its callers, moving the clock on for
// what waits for time.
func (r *rig) eventually(what string, ok func() bool) {
	r.tb.Helper()
	deadline := time.After(60 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
			r.clock.Advance(time.Second)
		case <-deadline:
			r.tb.Fatalf("did not happen: %s; health says %v", what, r.Health())
		}
	}
}

// put publishes one message and returns what became of it.
func (r *rig) put(id, body string, queues ...string) engine.PublishResult {
	r.tb.Helper()
	return publish(r.tb, r.Engine, message(id, body, queues...))[0]
}

// consumer opens a session that takes all it can get.
func (r *rig) consumer(queue string) engine.Session {
	r.tb.Helper()
	s := r.NewSession(engine.SessionConfig{})
	done := make(chan error, 1)
	s.Consume(queue, engine.ConsumeOptions{Prefetch: sealmq.MaxPrefetch}, func(err error) { done <- err })
	if err := <-done; err != nil {
		r.tb.Fatal(err)
	}
	return s
}

func (r *rig) take(s engine.Session, n int) []sealmq.Delivery {
	r.tb.Helper()
	list, err := s.Take(nil, n, 1<<30)
	if err != nil {
		r.tb.Fatal(err)
	}
	return list
}

func (r *rig) settle(s engine.Session, v engine.Verdict, list ...sealmq.Delivery) error {
	r.tb.Helper()
	var batch []engine.Settlement
	for _, d := range list {
		batch = append(batch, engine.Settlement{Tag: d.Tag, Verdict: v})
	}
	done := make(chan error, 1)
	s.Settle(batch, func(err error) { done <- err })
	return <-done
}

// TestFullDisk: publishes get a clear error at once, reading and acks go on, and when
// the consumers have made room, publishing goes on by itself.
func TestFullDisk(t *testing.T) {
	r := newRig(t, func(c *local.Config) { c.SegmentBytes = 64 << 10 })
	declare(t, r.Engine, "q", nil)
	r.eventually("the store is set up", func() bool { return r.figure("journal_ready_segments") == 2 })
	r.fs.SetCapacity(r.fs.Used() + 800<<10)
	body := string(bytes.Repeat([]byte("x"), 500))
	stored := 0
	for {
		res := r.put(fmt.Sprint("id-", stored), body, "q")
		if res.Outcome != engine.Stored {
			if sealmq.CodeOf(res.Err) != sealmq.NoStorage || !errors.Is(res.Err, syscall.ENOSPC) {
				t.Fatalf("refused with %v", res.Err)
			}
			break
		}
		stored++
	}
	if err := r.Health(); sealmq.CodeOf(err) != sealmq.NoStorage {
		t.Errorf("health says %v", err)
	}
	if res := r.put("id-0", body, "q"); res.Outcome != engine.Repeated {
		t.Errorf("a repeat of what is stored: %+v", res)
	}
	s := r.consumer("q")
	next := 0
	for next < stored {
		list := r.take(s, 7)
		if len(list) == 0 {
			t.Fatalf("%d of %d were delivered", next, stored)
		}
		for _, d := range list {
			if d.ID != fmt.Sprint("id-", next) {
				t.Fatalf("%s came when %d was due", d.ID, next)
			}
			next++
		}
		if err := r.settle(s, engine.Ack, list...); err != nil {
			t.Fatalf("ack with a full disk, %d of %d: %v", next, stored, err)
		}
	}
	r.eventually("publishing goes on", func() bool {
		res := r.put(fmt.Sprint("more-", r.clock.Now().Unix()), body, "q")
		return res.Outcome == engine.Stored && r.Health() == nil
	})
}

// TestScatteredAcksOnAFullDisk acks most messages of each segment and leaves a few: only
// copying those together makes room.
func TestScatteredAcksOnAFullDisk(t *testing.T) {
	r := newRig(t, func(c *local.Config) { c.SegmentBytes = 128 << 10 })
	declare(t, r.Engine, "q", nil)
	r.eventually("the store is set up", func() bool { return r.figure("journal_ready_segments") == 2 })
	r.fs.SetCapacity(r.fs.Used() + 2<<20)
	body := string(bytes.Repeat([]byte("x"), 500))
	for i := 0; r.put(fmt.Sprint("id-", i), body, "q").Outcome == engine.Stored; i++ {
	}
	s := r.consumer("q")
	all := r.take(s, 1<<20)
	var acks, keep []sealmq.Delivery
	for i, d := range all {
		if i%40 == 0 {
			keep = append(keep, d)
		} else {
			acks = append(acks, d)
		}
	}
	for len(acks) > 0 {
		n := min(len(acks), 20)
		if err := r.settle(s, engine.Ack, acks[:n]...); err != nil {
			t.Fatalf("ack with a full disk, %d to go: %v", len(acks), err)
		}
		acks = acks[n:]
	}
	more := 0
	r.eventually("there is room for half as much again", func() bool {
		for r.put(fmt.Sprint("more-", more), body, "q").Outcome == engine.Stored {
			more++
		}
		return more > len(all)/2
	})
	if r.figure("journal_copied_records_total") == 0 {
		t.Error("nothing was copied forward")
	}
	if err := r.settle(s, engine.Ack, keep...); err != nil {
		t.Error(err)
	}
}

// TestIDsOutliveAFullDisk: a segment is kept until its ids have a file of their own.
func TestIDsOutliveAFullDisk(t *testing.T) {
	r := newRig(t, nil)
	declare(t, r.Engine, "q", nil)
	r.fs.Hook(func(op faultfs.Op) *faultfs.Fault {
		if op.Kind == faultfs.Create && strings.Contains(op.Path, ".idx") {
			return &faultfs.Fault{Err: syscall.ENOSPC}
		}
		return nil
	})
	body := string(bytes.Repeat([]byte("x"), 500))
	for i := range 100 {
		r.put(fmt.Sprint("id-", i), body, "q")
	}
	s := r.consumer("q")
	if err := r.settle(s, engine.Ack, r.take(s, 1000)...); err != nil {
		t.Fatal(err)
	}
	before := r.figure("checkpoints_total")
	r.eventually("checkpoints go on", func() bool { return r.figure("checkpoints_total") > before+2 })
	r.cfg.FS = r.fs.Crash(faultfs.DropUnsynced, 0)
	_ = r.Engine.Close()
	r.open()
	for i := range 100 {
		if res := r.put(fmt.Sprint("id-", i), body, "q"); res.Outcome != engine.Repeated {
			t.Fatalf("id-%d was published again: %+v", i, res)
		}
	}
}

// TestFullDiskAnywhere lets the space end at every point of a life, then cuts the power.
func TestFullDiskAnywhere(t *testing.T) {
	step := 4
	if testing.Short() {
		step = 40
	}
	for k := 0; k < 500; k += step {
		w, m := newWorld(t, uint64(k%7))
		m.fs.SetCapacity(int64(k) * 1024)
		err := w.Open()
		if err == nil {
			if err = w.SetUp(); sealmq.CodeOf(err) == sealmq.NoStorage {
				err = nil
			}
			err = errors.Join(err, w.Work(150))
		}
		if err != nil && !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("%d KiB: %v", k, err)
		}
		w.Reboot(uint64(k))
		m.fs.SetCapacity(0)
		if err := w.Survives(); err != nil {
			t.Errorf("%d KiB: %v", k, err)
		}
	}
}

// TestDiskStaysBounded leaves one old message in every segment, again and again. The
// journal must not take more than what is promised.
func TestDiskStaysBounded(t *testing.T) {
	rounds := 60
	if testing.Short() {
		rounds = 15
	}
	const segment = 64 << 10
	r := newRig(t, func(c *local.Config) { c.SegmentBytes = segment })
	declare(t, r.Engine, "q", nil)
	body := string(bytes.Repeat([]byte("x"), 900))
	record := int64(journal.RecordBytes(900 + 60))
	s := r.consumer("q")
	var live []sealmq.Delivery
	for round := range rounds {
		var batch []engine.Publish
		for i := range 64 { // about one segment
			batch = append(batch, message(fmt.Sprintf("id-%d-%d", round, i), body, "q"))
		}
		publish(t, r.Engine, batch...)
		list := r.take(s, 64)
		live = append(live, list[0])
		if err := r.settle(s, engine.Ack, list[1:]...); err != nil {
			t.Fatal(err)
		}
		if round%20 == 19 { // now and then old ones are settled
			if err := r.settle(s, engine.Ack, live[:10]...); err != nil {
				t.Fatal(err)
			}
			live = live[10:]
		}
		bound := 2*int64(len(live))*record + 12*segment // docs/storage.md, "Space"
		r.eventually(fmt.Sprintf("%d messages take at most %d bytes", len(live), bound), func() bool {
			return int64(r.figure("journal_disk_bytes")) <= bound
		})
	}
	if r.figure("journal_copied_records_total") == 0 {
		t.Error("nothing was copied forward")
	}
	s.Close(true)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	r.open()
	list, err := r.Peek("q", 0, 1000)
	if err != nil || len(list) != len(live) {
		t.Fatalf("%d messages after reopening, want %d: %v", len(list), len(live), err)
	}
	for i, d := range list {
		if d.ID != live[i].ID {
			t.Errorf("%s is in the place of %s", d.ID, live[i].ID)
		}
	}
}

// TestMemoryPerMessage: a waiting message costs less than 100 bytes, however large.
func TestMemoryPerMessage(t *testing.T) {
	if testing.Short() {
		t.Skip("200,000 messages are too many")
	}
	const messages = 200_000
	e := mustOpen(t, local.Config{Dir: t.TempDir(), SegmentBytes: 1 << 20, CacheBytes: 1 << 20})
	declare(t, e, "q", nil)
	heap := func() int64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	body := string(bytes.Repeat([]byte("x"), 100))
	fill := func(from, to int) {
		for from < to {
			batch := make([]engine.Publish, 500)
			for i := range batch {
				batch[i] = message(fmt.Sprintf("message-%08d", from), body, "q")
				from++
			}
			publish(t, e, batch...)
		}
	}
	fill(0, 2000)
	before := heap()
	fill(2000, 2000+messages)
	if each := (heap() - before) / messages; each >= 100 {
		t.Errorf("a waiting message takes %d bytes", each)
	} else {
		t.Logf("a waiting message takes %d bytes", each)
	}
}

// TestLargestMessage: the largest message that is accepted can be delivered, returned,
// moved to the dead-letter queue and read after a restart.
func TestLargestMessage(t *testing.T) {
	r := newRig(t, nil)
	declare(t, r.Engine, "q", &sealmq.QueueOptions{DeliveryLimit: 2})
	size := 16 << 10
	for ; ; size -= 8 {
		res := r.put("large", string(make([]byte, size)), "q")
		if res.Outcome == engine.Stored {
			break
		}
		if sealmq.CodeOf(res.Err) != sealmq.TooLarge {
			t.Fatalf("%d bytes: %v", size, res.Err)
		}
	}
	if size < 8<<10 {
		t.Errorf("the largest message has %d bytes", size)
	}
	s := r.consumer("q")
	for range 2 {
		if err := r.settle(s, engine.Return, r.take(s, 1)...); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		list, err := r.Peek("q.dead", 0, 10)
		if err != nil || len(list) != 1 || len(list[0].Body) != size {
			t.Fatalf("%d dead letters: %v", len(list), err)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		r.open()
	}
}

// TestFailedCheckpointsLeaveOneFile: what was written of a checkpoint is used by the next
// attempt, so that attempts do not fill a disk that is full already.
func TestFailedCheckpointsLeaveOneFile(t *testing.T) {
	r := newRig(t, nil)
	declare(t, r.Engine, "q", nil)
	var attempts atomic.Int64
	r.fs.Hook(func(op faultfs.Op) *faultfs.Fault {
		if op.Kind == faultfs.Create && strings.Contains(op.Path, "checkpoint") {
			attempts.Add(1)
			return &faultfs.Fault{Err: syscall.ENOSPC}
		}
		return nil
	})
	id := 0
	r.eventually("a checkpoint was tried ten times", func() bool {
		id++
		r.put(fmt.Sprint(id), strings.Repeat("x", 1000), "q")
		return attempts.Load() >= 10
	})
	if files := filesOf(r.fs.Snapshot(), "definitions-"); len(files) != 1 {
		t.Errorf("%d attempts left %v", attempts.Load(), files)
	}
}
