package local_test

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/engine"
	"github.com/sealmq/sealmq/engine/local"
	"github.com/sealmq/sealmq/internal/testing/faultfs"
)

// backlog is a rig with messages that are not in memory any more.
func backlog(t *testing.T) (r *rig, place func(id string) (file string, off int64)) {
	t.Helper()
	r = newRig(t, nil)
	declare(t, r.Engine, "q", nil)
	for i := range 100 {
		r.put(fmt.Sprintf("id-%03d", i), fmt.Sprintf("body-%03d %s", i, bytes.Repeat([]byte("x"), 300)), "q")
	}
	return r, func(id string) (string, int64) {
		fs := r.fs.Snapshot()
		for _, name := range fs.Files() {
			if at := bytes.Index(fs.Get(name), []byte(strings.Replace(id, "id", "body", 1)+" ")); at >= 0 && strings.HasSuffix(name, ".seg") {
				return name, int64(at)
			}
		}
		t.Fatalf("%s is nowhere", id)
		return "", 0
	}
}

func without(t *testing.T, list []sealmq.Delivery, missing string) {
	t.Helper()
	next := 0
	for _, d := range list {
		if fmt.Sprintf("id-%03d", next) == missing {
			next++
		}
		if d.ID != fmt.Sprintf("id-%03d", next) {
			t.Fatalf("%s came when %d was due", d.ID, next)
		}
		next++
	}
	if len(list) != 99 {
		t.Errorf("%d messages were delivered", len(list))
	}
}

// TestUnreadableMessageIsKept: what cannot be read now is not given up. The others are
// delivered, health says so, and when it can be read again it comes.
func TestUnreadableMessageIsKept(t *testing.T) {
	r, place := backlog(t)
	file, off := place("id-007")
	r.fs.Hook(func(op faultfs.Op) *faultfs.Fault {
		if op.Kind == faultfs.Read && strings.HasSuffix(file, op.Path) && op.Off <= off && off < op.Off+int64(op.Len) {
			return &faultfs.Fault{Err: faultfs.EIO}
		}
		return nil
	})
	s := r.consumer("q")
	without(t, r.take(s, 1000), "id-007")
	if r.Health() == nil {
		t.Error("health says nothing")
	}
	r.fs.Hook(nil)
	var again []sealmq.Delivery
	r.eventually("it is tried again", func() bool {
		r.clock.Advance(30 * time.Second)
		for _, d := range r.take(s, 1000) {
			if d.ID == "id-007" {
				again = append(again, d)
			}
		}
		return len(again) > 0
	})
	s.Close(true)
	r.fs = r.fs.Crash(faultfs.DropUnsynced, 0)
	r.cfg.FS = r.fs
	_ = r.Engine.Close()
	r.open()
	if q, _ := r.Queue("q"); q.Ready != 100 {
		t.Errorf("%d messages after a restart", q.Ready)
	}
}

// TestDamageFoundLater: a message that is found damaged when it is read is taken out,
// its bytes are kept aside, the others are delivered, also after a restart.
func TestDamageFoundLater(t *testing.T) {
	r, place := backlog(t)
	file, off := place("id-007")
	r.fs.FlipBit(file, (off+50)*8)
	s := r.consumer("q")
	without(t, r.take(s, 1000), "id-007")
	if err := r.Health(); err == nil || r.figure("journal_damaged_records_total") != 1 {
		t.Errorf("health says %v, %v damaged", err, r.figure("journal_damaged_records_total"))
	}
	r.eventually("its bytes are kept aside", func() bool { return r.aside("body-007") == 1 })
	s.Close(true)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	r.open()
	if q, _ := r.Queue("q"); q.Ready != 99 {
		t.Errorf("%d messages after a restart", q.Ready)
	}
	if res := r.put("new", "body", "q"); res.Outcome != engine.Stored {
		t.Errorf("%+v", res)
	}
}

// aside counts the files of damaged bytes that contain a text.
func (r *rig) aside(text string) (n int) {
	fs := r.fs.Snapshot() // the engine may rename a file meanwhile
	for _, name := range fs.Files() {
		if strings.Contains(name, "/damaged-") && bytes.Contains(fs.Get(name), []byte(text)) {
			n++
		}
	}
	return n
}

// TestDamageFoundLaterIsKnown: the operator was told of the damage, and the message is
// gone. The next start does not refuse for it again, wherever the message lay.
func TestDamageFoundLaterIsKnown(t *testing.T) {
	for _, id := range []string{"id-007", "id-098"} {
		t.Run(id, func(t *testing.T) {
			r, place := backlog(t)
			file, off := place(id)
			r.fs.FlipBit(file, (off+50)*8)
			without(t, r.take(r.consumer("q"), 1000), id)
			cfg := r.cfg
			r.eventually("a start accepts the store", func() bool {
				cfg.FS = r.fs.Snapshot().Crash(faultfs.DropUnsynced, 0)
				e, err := local.Open(cfg)
				if err != nil {
					return false
				}
				defer e.Close()
				q, _ := e.Queue("q")
				return q.Ready == 99
			})
			if res := r.put("new", "body", "q"); res.Outcome != engine.Stored {
				t.Errorf("%+v", res)
			}
		})
	}
}

// TestDamageFoundBeforeAStopIsKnown: the same when the broker is stopped at once.
func TestDamageFoundBeforeAStopIsKnown(t *testing.T) {
	for range 20 {
		r, place := backlog(t)
		file, off := place("id-098")
		r.fs.FlipBit(file, (off+50)*8)
		without(t, r.take(r.consumer("q"), 1000), "id-098")
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		r.fs = r.fs.Crash(faultfs.DropUnsynced, 0)
		r.cfg.FS = r.fs
		r.open()
		if q, _ := r.Queue("q"); q.Ready != 99 {
			t.Errorf("%d messages after a restart", q.Ready)
		}
	}
}

// TestDamageOnAHungDisk: while the bytes of damaged messages cannot be kept aside,
// everything else goes on. What finds no room to wait is counted.
func TestDamageOnAHungDisk(t *testing.T) {
	r, place := backlog(t)
	hung := make(chan struct{})
	release := sync.OnceFunc(func() { close(hung) })
	t.Cleanup(release)
	r.fs.Hook(func(op faultfs.Op) *faultfs.Fault {
		if op.Kind == faultfs.Sync && strings.Contains(op.Path, "/damaged-") {
			return &faultfs.Fault{Hang: hung}
		}
		return nil
	})
	const harmed = 80
	for i := range harmed {
		file, off := place(fmt.Sprintf("id-%03d", i))
		r.fs.FlipBit(file, (off+50)*8)
	}
	s := r.consumer("q")
	taken := make(chan []sealmq.Delivery)
	go func() { taken <- r.take(s, 1000) }()
	select {
	case list := <-taken:
		if len(list) != 100-harmed {
			t.Errorf("%d messages were delivered", len(list))
		}
		if err := r.settle(s, engine.Ack, list...); err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Fatal("a consumer waits for the damaged bytes")
	}
	declare(t, r.Engine, "other", nil)
	r.put("new", "body", "other")
	if list := r.take(r.consumer("other"), 1); len(list) != 1 {
		t.Error("another queue waits")
	}
	lost := int(r.figure("journal_damage_not_kept_total"))
	if damaged := r.figure("journal_damaged_records_total"); lost == 0 || damaged != harmed {
		t.Errorf("%v damaged, %d of them not kept", damaged, lost)
	}
	r.fs.Hook(nil)
	release()
	r.eventually("the others are kept aside", func() bool { return r.aside("body-") == harmed-lost })
}

// TestMoveCountsWhatItMoved: a message that is found damaged is not among them.
func TestMoveCountsWhatItMoved(t *testing.T) {
	for name, move := range map[string]func(e *local.Engine, done func(int, error)){
		"front": func(e *local.Engine, done func(int, error)) { e.Move("q", "other", 3, done) },
		"by ids": func(e *local.Engine, done func(int, error)) {
			e.MoveMessages("q", "other", []string{"id-000", "id-001", "id-002", "id-003"}, done)
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, place := backlog(t)
			declare(t, r.Engine, "other", nil)
			file, off := place("id-001")
			r.fs.FlipBit(file, (off+50)*8)
			moved := make(chan int, 1)
			move(r.Engine, func(n int, err error) {
				if err != nil {
					t.Error(err)
				}
				moved <- n
			})
			if n := <-moved; n != 3 {
				t.Errorf("%d moved", n)
			}
			if q, _ := r.Queue("other"); q.Ready != 3 {
				t.Errorf("%d are there", q.Ready)
			}
		})
	}
}

// TestHungDiskShowsInHealth: while a write does not return and somebody waits for it, the store
// is not healthy.
func TestHungDiskShowsInHealth(t *testing.T) {
	r := newRig(t, nil)
	declare(t, r.Engine, "q", nil)
	hung := make(chan struct{})
	r.fs.Hook(func(op faultfs.Op) *faultfs.Fault {
		if op.Kind == faultfs.Sync {
			return &faultfs.Fault{Hang: hung}
		}
		return nil
	})
	done := make(chan struct{})
	r.Publish([]engine.Publish{message("id", "body", "q")}, func([]engine.PublishResult) { close(done) })
	r.eventually("health tells of it", func() bool { return sealmq.CodeOf(r.Health()) == sealmq.Unavailable })
	close(hung)
	<-done
	r.fs.Hook(nil)
	r.eventually("all is well", func() bool { return r.Health() == nil })
}
