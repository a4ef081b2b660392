package send_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/internal/framelog"
	"github.com/sealmq/sealmq/internal/testing/fakeclock"
	"github.com/sealmq/sealmq/internal/testing/faultfs"
	"github.com/sealmq/sealmq/send"
)

func entry(n int) send.SpoolEntry {
	id := fmt.Sprint("id-", n)
	return send.SpoolEntry{Position: fmt.Append(nil, "line ", n), Message: sealmq.Message{
		Exchange: "x", Key: "k", ID: id, Body: fmt.Appendf(nil, `{"message_id":"%s","n":"%s"}`, id, strings.Repeat("x", 40))}}
}

func openSpool(t testing.TB, cfg send.SpoolConfig) *send.Spool {
	t.Helper()
	s, err := send.OpenSpool("spool", cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func ids(list []send.SpoolEntry) (ids []string) {
	for _, e := range list {
		ids = append(ids, e.ID)
	}
	return ids
}

func TestSpoolKeepsWhatIsNotConfirmed(t *testing.T) {
	fs := faultfs.New()
	s := openSpool(t, spoolOn(fs, send.SpoolConfig{MaxBytes: 4000}))
	var seqs []uint64
	for n := range 100 {
		list := []send.SpoolEntry{entry(n)}
		if err := s.Append(t.Context(), list); err != nil {
			t.Fatal(err)
		}
		if seqs = append(seqs, list[0].Seq); n >= 2 && n != 96 {
			s.Settle(seqs[n-2]) // all but the last two and 94
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	fs = fs.Crash(faultfs.DropUnsynced, 0)
	if n := fs.Used(); n > 5000 {
		t.Errorf("%d bytes are left of 100 messages", n)
	}
	s = openSpool(t, spoolOn(fs, send.SpoolConfig{}))
	if d := cmp.Diff([]string{"id-94", "id-98", "id-99"}, ids(s.Entries())); d != "" {
		t.Error(d)
	}
	if got := string(s.Position()); got != "line 99" {
		t.Errorf("position %q", got)
	}
	for _, e := range s.Entries() {
		whole, err := s.Read(e.Seq)
		if err != nil {
			t.Fatal(err)
		}
		var n int
		fmt.Sscanf(e.ID, "id-%d", &n)
		if d := cmp.Diff(entry(n).Message, whole.Message); d != "" {
			t.Error(d)
		}
	}
	if err := s.Drop("id-94", "id-98", "id-99", "never"); err != nil {
		t.Fatal(err)
	}
	s = openSpool(t, spoolOn(fs.Crash(faultfs.DropUnsynced, 0), send.SpoolConfig{}))
	if s.Len() != 0 || string(s.Position()) != "line 99" {
		t.Errorf("%d messages after a drop, position %q", s.Len(), s.Position())
	}
}

// The position outlives the files that its message was in.
func TestSpoolPositionOutlivesItsMessage(t *testing.T) {
	fs := faultfs.New()
	s := openSpool(t, spoolOn(fs, send.SpoolConfig{MaxBytes: 1000}))
	list := []send.SpoolEntry{entry(1)}
	if err := s.Append(t.Context(), list); err != nil {
		t.Fatal(err)
	}
	s.Settle(list[0].Seq)
	first := fs.Files()
	for n := 2; n < 50; n++ {
		list := []send.SpoolEntry{entry(n)}
		list[0].Position = nil
		if err := s.Append(t.Context(), list); err != nil {
			t.Fatal(err)
		}
		s.Settle(list[0].Seq)
	}
	s.Close()
	if cmp.Equal(first, fs.Files()) {
		t.Error("no file was replaced")
	}
	if s = openSpool(t, spoolOn(fs, send.SpoolConfig{})); string(s.Position()) != "line 1" || s.Len() != 0 {
		t.Errorf("position %q, %d messages", s.Position(), s.Len())
	}
}

func TestSpoolIsBounded(t *testing.T) {
	s := openSpool(t, spoolOn(faultfs.New(), send.SpoolConfig{MaxBytes: 1300}))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var list []send.SpoolEntry
	for n := range 20 {
		if n == 8 {
			cancel() // from here on nothing waits
		}
		e := []send.SpoolEntry{entry(n)}
		if err := s.Append(ctx, e); errors.Is(err, context.Canceled) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if list = append(list, e...); n > 15 {
			t.Fatalf("it holds %d messages", n)
		}
		if n == 5 {
			s.Settle(list[0].Seq, list[1].Seq, list[2].Seq, list[3].Seq)
		}
	}
	waits := make(chan error)
	go func() { waits <- s.Append(t.Context(), []send.SpoolEntry{entry(90)}) }()
	for _, e := range list {
		s.Settle(e.Seq)
	}
	if err := <-waits; err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"id-90"}, ids(s.Entries())); d != "" {
		t.Error(d)
	}
	for _, bad := range []send.SpoolEntry{{}, {Message: sealmq.Message{ID: "a b", Exchange: "x", Key: "k"}}, {Message: entry(1).Message, Position: make([]byte, send.MaxPositionBytes+1)}} {
		if s.Append(t.Context(), []send.SpoolEntry{bad}) == nil {
			t.Errorf("%v was taken", bad.ID)
		}
	}
}

// Nothing waits behind an Append that waits for room, least of all what makes room.
func TestNothingWaitsForAnAppendWithoutRoom(t *testing.T) {
	for name, leave := range map[string]struct {
		do   func(s *send.Spool) error
		want error
	}{
		"Tidy, then Settle": {func(s *send.Spool) error {
			defer s.Settle(1)
			return s.Tidy()
		}, nil},
		"Drop":  {func(s *send.Spool) error { return s.Drop("id-1") }, nil},
		"Close": {(*send.Spool).Close, send.ErrSpoolClosed},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := openSpool(t, spoolOn(faultfs.New(), send.SpoolConfig{MaxBytes: 100}))
				if err := s.Append(t.Context(), []send.SpoolEntry{entry(1)}); err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				waits := make(chan error)
				for n := range 2 {
					go func() { waits <- s.Append(ctx, []send.SpoolEntry{entry(n + 2)}) }()
					synctest.Wait()
				}
				if err := leave.do(s); err != nil {
					t.Error(err)
				}
				if ctx.Err() != nil {
					t.Error("it waited for the Append")
				}
				if err := <-waits; !errors.Is(err, leave.want) {
					t.Errorf("the Append that waited: %v", err)
				}
				if leave.want == nil { // the other one waits for its turn
					cancel()
				}
				if err := <-waits; err == nil {
					t.Error("a second Append found room")
				}
			})
		})
	}
}

func TestSpoolAsksWhenItIsTooOld(t *testing.T) {
	fs, now := faultfs.New(), fakeclock.New(time.Unix(1_700_000_000, 0))
	cfg := spoolOn(fs, send.SpoolConfig{Now: now.Now, Horizon: time.Minute})
	s := openSpool(t, cfg)
	for n := range 3 {
		if err := s.Append(t.Context(), []send.SpoolEntry{entry(n)}); err != nil {
			t.Fatal(err)
		}
		now.Advance(30 * time.Second)
	}
	s.Close()
	s = openSpool(t, cfg)
	err := s.CheckAge()
	var old *send.SpoolTooOldError
	if !errors.As(err, &old) || !errors.Is(err, send.ErrSpoolTooOld) {
		t.Fatalf("%v", err)
	}
	if d := cmp.Diff([]string{"id-0"}, ids(old.Entries)); d != "" {
		t.Error(d)
	}
	if !strings.Contains(err.Error(), "id-0") || old.Hint() == "" {
		t.Errorf("%v", err)
	}
	s.Renew("id-0")
	if err := s.CheckAge(); err != nil {
		t.Errorf("after a renewal: %v", err)
	}
	now.Advance(time.Minute)
	if err := s.Drop("id-1", "id-2"); err != nil {
		t.Fatal(err)
	}
	if err := s.CheckAge(); err != nil || s.Len() != 1 {
		t.Errorf("after a drop: %v, %d", err, s.Len())
	}
}

func TestSpoolSurvivesEveryFault(t *testing.T) {
	// Two messages in each batch; all but every fifth message are confirmed at once.
	const batches = 8
	type promise struct{ appended, dropped int }
	confirmed := func(n int) bool { return n%5 != 0 }
	script := func(fs *faultfs.FS) (p promise) {
		s, err := send.OpenSpool("spool", spoolOn(fs, send.SpoolConfig{MaxBytes: 3200}))
		if err != nil {
			return p
		}
		for b := range batches {
			list := []send.SpoolEntry{entry(2 * b), entry(2*b + 1)}
			if err := s.Append(t.Context(), list); err != nil {
				if s.Append(t.Context(), list) == nil {
					t.Error("it goes on after a failed write")
				}
				s.Close()
				return p
			}
			p.appended = 2*b + 2
			for i, e := range list {
				if confirmed(2*b + i) {
					s.Settle(e.Seq)
				}
			}
		}
		if s.Drop("id-0") == nil {
			p.dropped = 1
		}
		s.Close()
		return p
	}
	faultfs.Sweep(t, script, func(t *testing.T, fs *faultfs.FS, p promise) {
		s := openSpool(t, spoolOn(fs, send.SpoolConfig{}))
		at := -1
		if s.Position() != nil {
			if _, err := fmt.Sscanf(string(s.Position()), "line %d", &at); err != nil {
				t.Fatal(err)
			}
		}
		if at+1 < p.appended || at+1 > p.appended+2 {
			t.Fatalf("the position is %d, %d were promised", at, p.appended)
		}
		left := make(map[string]bool)
		last := uint64(0)
		for _, e := range s.Entries() {
			left[e.ID] = true
			if e.Seq <= last {
				t.Errorf("%s has number %d behind %d", e.ID, e.Seq, last)
			}
			last = e.Seq
			if _, err := s.Read(e.Seq); err != nil {
				t.Error(err)
			}
		}
		for n := range at + 1 {
			if id := entry(n).ID; !left[id] && !confirmed(n) && !(n == 0 && p.appended == 2*batches) {
				t.Errorf("message %d is gone and was never confirmed", n)
			} else if n == 0 && p.dropped == 1 && left[id] {
				t.Error("what was dropped is back")
			}
		}
		for n := at + 1; n < 2*batches; n++ {
			if left[entry(n).ID] {
				t.Errorf("message %d is there, and its position is not", n)
			}
		}
		if err := s.Append(t.Context(), []send.SpoolEntry{entry(99)}); err != nil {
			t.Fatal(err)
		}
		s.Close()
		s = openSpool(t, spoolOn(fs.Crash(faultfs.DropUnsynced, 0), send.SpoolConfig{}))
		if string(s.Position()) != "line 99" {
			t.Errorf("after the crash it does not go on: position %q", s.Position())
		}
	})
}

func TestDamagedSpoolIsRefused(t *testing.T) {
	fs := faultfs.New()
	s := openSpool(t, spoolOn(fs, send.SpoolConfig{MaxBytes: 4000}))
	for n := range 24 {
		if err := s.Append(t.Context(), []send.SpoolEntry{entry(n)}); err != nil {
			t.Fatal(err)
		}
	}
	s.Close()
	files := fs.Files()
	if len(files) < 3 {
		t.Fatalf("files: %v", files)
	}
	first := files[0]
	for at := int64(0); at < int64(len(fs.Get(first))); at += 11 {
		broken := fs.Snapshot()
		broken.FlipBit(first, 8*at+at%8)
		before := broken.Get(first)
		_, err := send.OpenSpool("spool", spoolOn(broken, send.SpoolConfig{}))
		var damaged *send.DamagedFileError
		if !errors.As(err, &damaged) {
			t.Errorf("byte %d of %s: %v", at, first, err)
		}
		if string(broken.Get(first)) != string(before) {
			t.Errorf("byte %d: the file was changed", at)
		}
	}
}

// A file that holds nothing but what must be remembered is as precious as any.
func TestDamagedSpoolIsRefusedWhenItIsEmpty(t *testing.T) {
	fs := faultfs.New()
	s := openSpool(t, spoolOn(fs, send.SpoolConfig{MaxBytes: 1000}))
	for n := range 20 {
		list := []send.SpoolEntry{entry(n)}
		if err := s.Append(t.Context(), list); err != nil {
			t.Fatal(err)
		}
		s.Settle(list[0].Seq)
	}
	// As if the append that began the last file had not reached the disk.
	s.Close()
	name := fs.Files()[len(fs.Files())-1]
	header := int64(16) + int64(fs.Get(name)[3])
	file, err := fs.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(file.Truncate(header), file.Sync(), file.Close()); err != nil {
		t.Fatal(err)
	}
	for _, f := range fs.Files() {
		if f != name {
			if err := fs.Remove(f); err != nil {
				t.Fatal(err)
			}
		}
	}
	for bit := range 8 * header {
		broken := fs.Snapshot()
		broken.FlipBit(name, bit)
		_, err := send.OpenSpool("spool", spoolOn(broken, send.SpoolConfig{}))
		var damaged *send.DamagedFileError
		if !errors.As(err, &damaged) {
			t.Fatalf("bit %d of %s: %v", bit, name, err)
		}
	}
	if s = openSpool(t, spoolOn(fs, send.SpoolConfig{})); len(s.Position()) == 0 {
		t.Error("the test has made a spool that remembers nothing")
	}
}

func TestSpoolIsLocked(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	s, err := send.OpenSpool(dir, send.SpoolConfig{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := send.OpenSpool(dir, send.SpoolConfig{}); !errors.Is(err, durable.ErrLocked) {
		t.Errorf("a second one: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Append(t.Context(), []send.SpoolEntry{entry(1)}); !errors.Is(err, send.ErrSpoolClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func FuzzSpoolPayload(f *testing.F) {
	fs := faultfs.New()
	s, err := send.OpenSpool("spool", spoolOn(fs, send.SpoolConfig{}))
	if err != nil {
		f.Fatal(err)
	}
	list := []send.SpoolEntry{entry(1), entry(2)}
	if err := s.Append(f.Context(), list); err != nil {
		f.Fatal(err)
	}
	s.Settle(list[0].Seq)
	s.Close()
	f.Add([]byte{1, 2}) // of a later version
	addPayloads(f, fs.Get(fs.Files()[0]))
	f.Fuzz(func(t *testing.T, payload []byte) { _ = send.DecodeSpool(payload) })
}

func addPayloads(f *testing.F, data []byte) {
	n := 0
	if _, err := framelog.Scan("f", data, func(_ int64, p []byte) error { n++; f.Add(p); return nil }); err != nil || n < 2 {
		f.Fatal(n, err)
	}
}

// A killed process may have left in memory what its disk has not. A sender that starts again
// acts on it, so it must be on the disk by then.
func TestWhatAStartHasReadIsDurable(t *testing.T) {
	fs := faultfs.New()
	spool := openSpool(t, spoolOn(fs, send.SpoolConfig{}))
	disk := faultfs.KilledInSync(t, fs, func() error { return spool.Append(t.Context(), []send.SpoolEntry{entry(1)}) })
	for range 2 {
		if s := openSpool(t, spoolOn(disk, send.SpoolConfig{})); s.Len() != 1 {
			t.Errorf("%d messages in the spool", s.Len())
		}
		disk = disk.Crash(faultfs.DropUnsynced, 0)
	}
}
