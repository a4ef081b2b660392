package local_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/sealmq/sealmq/engine"
	"github.com/sealmq/sealmq/engine/enginetest"
	"github.com/sealmq/sealmq/engine/local"
	"github.com/sealmq/sealmq/internal/testing/faultfs"
	"github.com/sealmq/sealmq/journal"
)

// harms are things that happen to a file of a stopped store.
var harms = []struct {
	name string
	do   func(fs *faultfs.FS, name string, rng *rand.Rand)
}{
	{"flipped bit", func(fs *faultfs.FS, name string, rng *rand.Rand) {
		fs.FlipBit(name, rng.Int64N(int64(len(fs.Get(name)))*8))
	}},
	{"zeros", func(fs *faultfs.FS, name string, rng *rand.Rand) {
		b := fs.Get(name)
		from := rng.IntN(len(b))
		clear(b[from:min(len(b), from+1+rng.IntN(2000))])
		fs.Put(name, b)
	}},
	{"cut off", func(fs *faultfs.FS, name string, rng *rand.Rand) {
		fs.Cut(name, rng.Int64N(int64(len(fs.Get(name)))))
	}},
	{"emptied", func(fs *faultfs.FS, name string, _ *rand.Rand) { fs.Cut(name, 0) }},
	{"garbage", func(fs *faultfs.FS, name string, rng *rand.Rand) {
		b := fs.Get(name)
		for i := rng.IntN(len(b)); i < len(b); i++ {
			b[i] = byte(rng.Uint32())
		}
		fs.Put(name, b)
	}},
	{"all zeros", func(fs *faultfs.FS, name string, _ *rand.Rand) { fs.Put(name, make([]byte, len(fs.Get(name)))) }},
	{"zeros to the end", func(fs *faultfs.FS, name string, rng *rand.Rand) {
		b := fs.Get(name)
		clear(b[rng.IntN(len(b)):])
		fs.Put(name, b)
	}},
	{"there twice", func(fs *faultfs.FS, name string, _ *rand.Rand) {
		fs.Put(path.Dir(name)+"/99999999"+path.Ext(name), fs.Get(name))
	}},
	{"removed", func(fs *faultfs.FS, name string, _ *rand.Rand) {
		if err := errors.Join(fs.Remove(name), fs.SyncDir(path.Dir(name))); err != nil {
			panic(err)
		}
	}},
}

// stoppedWorld has a store with several checkpoints, with released segments of which an
// index is left, and which was stopped in order.
func stoppedWorld(t *testing.T, seed uint64) *harmedWorld {
	t.Helper()
	w, m := newWorld(t, seed)
	for range 2 {
		if err := w.Live(250); err != nil {
			t.Fatal(err)
		}
	}
	return &harmedWorld{World: w, machine: m}
}

// harmedWorld is a world to whose files things happen.
type harmedWorld struct {
	*enginetest.World
	*machine
}

// filesOf lists the files of one sort.
func filesOf(fs *faultfs.FS, sort string) (list []string) {
	for _, name := range fs.Files() {
		base := path.Base(name)
		if base == sort || path.Ext(base) == sort || strings.HasPrefix(base, sort) {
			list = append(list, name)
		}
	}
	return list
}

// TestHarmedFiles damages each sort of file of a store in every way. Either the store
// opens and keeps all promises, or it is refused with the file's name; then nothing is
// changed, so that with the file put back it opens. With Quarantine it opens with all
// that the damage did not touch, says so, and opens without complaint from then on.
func TestHarmedFiles(t *testing.T) {
	seeds := 2
	if testing.Short() {
		seeds = 1
	}
	for _, sort := range []string{"checkpoint", "definitions-", ".idx", ".seg", "store.json", "ballast", "LOCK"} {
		t.Run(sort, func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(seeds) {
				for i, h := range harms {
					rng := rand.New(rand.NewPCG(seed, uint64(i)))
					w := stoppedWorld(t, seed)
					names := filesOf(w.fs, sort)
					if len(names) == 0 {
						continue
					}
					name := names[rng.IntN(len(names))]
					before := w.fs.Get(name)
					h.do(w.fs, name, rng)
					if err := w.judgeHarm(sort, name, before, sort == ".seg"); err != nil {
						t.Errorf("seed %d, %s, %s: %v", seed, name, h.name, err)
					}
				}
			}
		})
	}
}

func (w *harmedWorld) judgeHarm(sort, name string, before []byte, unnamed bool) error {
	harmed := w.fs.Snapshot()
	said := w.check()
	err := w.World.Open()
	var damage *journal.DamageError
	if errors.As(err, &damage) {
		for _, d := range damage.Damage {
			if !slices.Contains(said, d.Error()) {
				return fmt.Errorf("the start refuses for %q, and a check says %q", d, said)
			}
		}
	}
	switch {
	case err == nil:
		err = w.Check()
		if sort != ".idx" {
			err = errors.Join(err, w.Republish(100))
		}
		if err != nil && sort == ".seg" && w.engine.Health() != nil {
			err = nil // segments before the checkpoint are not read before they are needed
		}
		if err != nil {
			err = fmt.Errorf("it went unnoticed: %w", err)
		}
		return errors.Join(err, w.World.Close())
	case !errors.As(err, &damage):
		return fmt.Errorf("refused with %w", err)
	case !unnamed && !strings.Contains(err.Error(), path.Base(name)):
		return fmt.Errorf("the refusal does not name the file: %w", err)
	}
	// With the files as they were, all is well.
	w.fs.Put(name, before)
	if twin := path.Dir(name) + "/99999999" + path.Ext(name); slices.Contains(w.fs.Files(), twin) {
		if err := w.fs.Remove(twin); err != nil {
			return err
		}
	}
	if err := w.World.Open(); err != nil {
		return fmt.Errorf("with the file put back: %w", err)
	}
	if err := errors.Join(w.Check(), w.Republish(100), w.World.Close()); err != nil {
		return fmt.Errorf("with the file put back: %w", err)
	}
	w.fs = harmed
	return w.judgeQuarantine(sort, before)
}

// check returns what a check says of the stopped store.
func (w *harmedWorld) check() (list []string) {
	in, err := local.Inspect(w.fs, storeDir, nil)
	if err != nil {
		return []string{err.Error()}
	}
	for _, d := range in.Report.Damage {
		list = append(list, d.Error())
	}
	return append(list, in.Problems...)
}

func (w *harmedWorld) judgeQuarantine(sort string, before []byte) error {
	w.quarantine = true
	if err := w.World.Open(); err != nil {
		return fmt.Errorf("with quarantine: %w", err)
	}
	if w.engine.Health() == nil {
		return errors.New("with quarantine: health says nothing")
	}
	got := map[string]bool{}
	all, err := w.engine.Queues()
	if err != nil {
		return err
	}
	for _, info := range all {
		list, err := w.engine.Peek(info.Name, 0, 1000)
		if err != nil {
			return err
		}
		for _, d := range list {
			m, ok := w.Message(d.ID)
			if !ok || !bytes.Equal(m.Body, d.Body) {
				return fmt.Errorf("with quarantine: %s was invented or changed", d.ID)
			}
			got[d.ID] = true
		}
	}
	for _, p := range w.Promised() {
		if !got[p.ID] && (sort != ".seg" || !bytes.Contains(before, []byte(p.ID)) && !declares(before, p.Queue)) {
			return fmt.Errorf("with quarantine: %s is gone from queue %s and was not touched", p.ID, p.Queue)
		}
	}
	if err := w.World.Close(); err != nil {
		return err
	}
	if said := w.check(); len(said) > 0 {
		return fmt.Errorf("after quarantine a check says %q", said)
	}
	w.quarantine = false
	if err := w.World.Open(); err != nil {
		return fmt.Errorf("after quarantine: %w", err)
	}
	return w.World.Close()
}

// declares reports whether a segment may hold the declaration of a queue that comes and
// goes; with it all that is known of the queue is lost.
func declares(segment []byte, queue string) bool {
	return strings.HasPrefix(queue, "temp-") && bytes.Contains(segment, []byte(queue))
}

// TestBitFlipCostsOneMessage flips bits in segments: with Quarantine at most the message
// that was hit is gone, or the queue if its declaration was hit.
func TestBitFlipCostsOneMessage(t *testing.T) {
	flips := 300
	if testing.Short() {
		flips = 30
	}
	w := stoppedWorld(t, 3)
	stopped := w.fs
	rng := rand.New(rand.NewPCG(1, 1))
	segments := filesOf(stopped, ".seg")
	for range flips {
		w.fs = stopped.Snapshot()
		name := segments[rng.IntN(len(segments))]
		bit := rng.Int64N(int64(len(w.fs.Get(name))) * 8)
		w.fs.FlipBit(name, bit)
		w.quarantine = true
		if err := w.World.Open(); err != nil {
			t.Fatalf("bit %d of %s: %v", bit, name, err)
		}
		got, lost := map[string]bool{}, map[string]bool{}
		all, err := w.engine.Queues()
		if err != nil {
			t.Fatal(err)
		}
		for _, q := range all {
			list, _ := w.engine.Peek(q.Name, 0, 1000)
			for _, d := range list {
				got[d.ID] = true
				if m, _ := w.Message(d.ID); !bytes.Equal(m.Body, d.Body) {
					t.Errorf("bit %d of %s: %s has changed", bit, name, d.ID)
				}
			}
		}
		gone := map[string]bool{} // queues whose declaration was hit, with what they held
		for _, p := range w.Promised() {
			if _, err := w.engine.Queue(p.Queue); err != nil {
				gone[p.Queue] = true
			} else if !got[p.ID] {
				lost[p.ID] = true
			}
		}
		if len(gone) > 0 {
			lost["a declaration"] = true
		}
		if len(gone) > 1 || len(lost) > 1 || len(lost) == 1 && w.engine.Health() == nil {
			t.Errorf("bit %d of %s: %d messages and %d queues are lost, health says %v", bit, name, len(lost), len(gone), w.engine.Health())
		}
		if err := w.World.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestFilesOfANewerVersionAreRefused: clearly, and without touching them.
func TestFilesOfANewerVersionAreRefused(t *testing.T) {
	raise := map[string]func(b []byte) []byte{
		"checkpoint":   raiseFramed,
		"definitions-": raiseFramed,
		".idx": func(b []byte) []byte {
			binary.LittleEndian.PutUint32(b[8:], 2)
			binary.LittleEndian.PutUint32(b[56:], crc32.Checksum(b[:56], crc32.MakeTable(crc32.Castagnoli)))
			return b
		},
		".seg": func(b []byte) []byte {
			binary.LittleEndian.PutUint32(b[8:], 2)
			binary.LittleEndian.PutUint32(b[40:], crc32.Checksum(b[:40], crc32.MakeTable(crc32.Castagnoli)))
			return b
		},
		"store.json": func(b []byte) []byte {
			return bytes.Replace(b, []byte(`"format": 2`), []byte(`"format": 3`), 1)
		},
	}
	for sort, f := range raise {
		w := stoppedWorld(t, 5)
		names := filesOf(w.fs, sort)
		if len(names) == 0 {
			t.Fatalf("there is no %s", sort)
		}
		w.fs.Put(names[0], f(w.fs.Get(names[0])))
		for _, quarantine := range []bool{false, true} {
			before := contentsOf(w.fs)
			w.quarantine = quarantine
			err := w.World.Open()
			if !errors.Is(err, journal.ErrNewer) || !strings.Contains(fmt.Sprint(err), path.Base(names[0])) {
				t.Errorf("%s: refused with %v", names[0], err)
			}
			if !slices.Equal(before, contentsOf(w.fs)) {
				t.Errorf("%s: files were changed", names[0])
			}
		}
	}
}

func raiseFramed(b []byte) []byte {
	binary.LittleEndian.PutUint32(b[8:], 99)
	n := len(b) - 4
	binary.LittleEndian.PutUint32(b[n:], crc32.Checksum(b[:n], crc32.MakeTable(crc32.Castagnoli)))
	return b
}

// contentsOf describes all files but the lock.
func contentsOf(fs *faultfs.FS) (list []string) {
	for _, name := range fs.Files() {
		if path.Base(name) != "LOCK" {
			list = append(list, fmt.Sprintf("%s %08x", name, crc32.ChecksumIEEE(fs.Get(name))))
		}
	}
	return list
}

// TestLostTailWithoutIndex: when an index file is lost, its segment is read instead. What
// is missing at its end is missed, because the checkpoint knows of it.
func TestLostTailWithoutIndex(t *testing.T) {
	r, _ := backlog(t)
	r.eventually("a checkpoint is taken", func() bool { return r.figure("checkpoints_total") > 0 })
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	in, err := local.Inspect(r.fs, storeDir, nil)
	if err != nil {
		t.Fatal(err)
	}
	index := filesOf(r.fs, ".idx")[0]
	if err := errors.Join(r.fs.Remove(index), r.fs.SyncDir(storeDir)); err != nil {
		t.Fatal(err)
	}
	intact := r.fs.Snapshot()
	r.open()
	if q, _ := r.Queue("q"); q.Ready != 100 {
		t.Fatalf("%d messages without the index file", q.Ready)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	r.fs = intact
	r.cfg.FS = intact
	for _, s := range in.Segments {
		if fmt.Sprintf("%016x.idx", s.Generation) == path.Base(index) {
			b := r.fs.Get(s.File)
			clear(b[s.End-600 : s.End])
			r.fs.Put(s.File, b)
		}
	}
	var damage *journal.DamageError
	if _, err := local.Open(r.cfg); !errors.As(err, &damage) || !strings.Contains(err.Error(), `messages of queue "q"`) {
		t.Errorf("opened with %v", err)
	}
}

// TestLostCheckpointBehindAGap: a segment in the middle was released, and with it went the
// declaration of a queue, and the deletion of a queue whose name is used again. Only the
// checkpoint said that it was not needed.
func TestLostCheckpointBehindAGap(t *testing.T) {
	put := 0
	r := newRig(t, nil)
	declare(t, r.Engine, "q", nil)
	declare(t, r.Engine, "temp", nil)
	fill := func(queue string) { // a segment and a half
		for range 24 {
			put++
			r.put(fmt.Sprint(queue, put), strings.Repeat("x", 1000), queue)
		}
	}
	fill("q")
	s := r.consumer("q")
	all := r.take(s, 24)
	if err := r.settle(s, engine.Ack, all[8:]...); err != nil { // among it what is in the second segment
		t.Fatal(err)
	}
	s.Close(true)
	declare(t, r.Engine, "busy", nil)
	s = r.consumer("busy")
	defer s.Close(true)
	done := make(chan error, 1)
	r.DeleteQueue("temp", 0, func(_ int, err error) { done <- err })
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	declare(t, r.Engine, "temp", nil)
	r.eventually("the second segment is released", func() bool {
		fill("busy")
		if err := r.settle(s, engine.Ack, r.take(s, 1000)...); err != nil {
			t.Fatal(err)
		}
		return !generations(t, r.fs.Snapshot())[2]
	})
	fill("temp")
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if !generations(t, r.fs)[1] {
		t.Fatal("the first segment was released")
	}
	if err := errors.Join(r.fs.Remove(storeDir+"/checkpoint"), r.fs.SyncDir(storeDir)); err != nil {
		t.Fatal(err)
	}
	if e, err := local.Open(r.cfg); err == nil || !strings.Contains(err.Error(), "checkpoint") {
		t.Fatalf("opened with %v, %v", e, err)
	}
	for _, r.cfg.Quarantine = range []bool{true, false} {
		r.open()
		for queue, want := range map[string]int{"q": 8, "temp": 24} {
			if info, err := r.Queue(queue); err != nil || info.Ready < want {
				t.Errorf("queue %s has %d messages, %v", queue, info.Ready, err)
			}
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// generations returns the generations of the segments of a store.
func generations(t *testing.T, fs *faultfs.FS) map[uint64]bool {
	t.Helper()
	in, err := local.Inspect(fs, storeDir, nil)
	if err != nil {
		t.Fatal(err)
	}
	out := map[uint64]bool{}
	for _, s := range in.Segments {
		out[s.Generation] = true
	}
	return out
}

// TestBitFlipCostsOneDefinition flips bits in definitions: with Quarantine one queue at most has
// lost its name, with its messages there, or one definition is gone.
func TestBitFlipCostsOneDefinition(t *testing.T) {
	r := newRig(t, nil)
	const n = 12
	var defs []engine.Definition
	for i := range n {
		name := fmt.Sprint("queue-", i)
		declare(t, r.Engine, name, nil)
		r.put(name, "body of "+name, name)
		defs = append(defs, engine.Definition{Key: "key-" + name, Value: []byte("value of " + name)})
	}
	done := make(chan error, 1)
	r.Define(defs, func(err error) { done <- err })
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	stopped := r.fs
	name := filesOf(stopped, "definitions-")[0]
	rng := rand.New(rand.NewPCG(1, 2))
	for range 100 {
		r.fs = stopped.Snapshot()
		r.cfg.FS = r.fs
		bit := rng.Int64N(int64(len(r.fs.Get(name))) * 8)
		r.fs.FlipBit(name, bit)
		if _, err := local.Open(r.cfg); err == nil || !strings.Contains(err.Error(), path.Base(name)) {
			t.Fatalf("bit %d: opened with %v", bit, err)
		}
		for _, r.cfg.Quarantine = range []bool{true, false} {
			r.open()
			lost := n - len(r.Definitions())
			for i := range n {
				queue := fmt.Sprint("queue-", i)
				if _, err := r.Queue(queue); err != nil {
					lost++
					queue = fmt.Sprintf("recovered-%d", i+1)
				}
				if list, err := r.Peek(queue, 0, 2); err != nil || len(list) != 1 || string(list[0].Body) != fmt.Sprint("body of queue-", i) {
					t.Errorf("bit %d: queue %d has %v, %v", bit, i, list, err)
				}
			}
			if lost > 1 {
				t.Errorf("bit %d: %d are lost", bit, lost)
			}
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}
