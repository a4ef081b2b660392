package jsonl_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/sealmq/sealmq/cmd/sealmq/internal/jsonl"
	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/internal/testing/faultfs"
)

const name = "out.jsonl"

func record(id, text string) *jsonl.Record {
	return &jsonl.Record{MessageID: id, Message: []byte(text), Received: time.UnixMilli(1_700_000_000_123)}
}

// remembering is a file with the content of its lines when it was opened.
type remembering struct {
	*jsonl.File
	texts map[string]string
}

func openFile(fs durable.FS, name string) (*remembering, error) {
	r := &remembering{texts: make(map[string]string)}
	var err error
	r.File, err = jsonl.Open(fs, name, 0, 0, r)
	return r, err
}

func (r *remembering) Add(_, id string, message []byte) { r.texts[id] = string(message) }

func (r *remembering) Has(_, id string, message []byte) bool { return r.holds(id, string(message)) }

func open(t *testing.T, fs durable.FS) *remembering {
	t.Helper()
	f, err := openFile(fs, name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func (r *remembering) holds(id, text string) bool {
	got, ok := r.texts[id]
	return ok && got == text
}

func mustAppend(t *testing.T, f *remembering, records ...*jsonl.Record) {
	t.Helper()
	for _, r := range records {
		if err := f.Append(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Commit(); err != nil {
		t.Fatal(err)
	}
}

// ids returns the message ids in the file, in order.
func ids(t *testing.T, data []byte) []string {
	t.Helper()
	list := []string{}
	for text := range strings.Lines(string(data)) {
		var l struct {
			ID string `json:"message_id"`
		}
		if err := json.Unmarshal([]byte(text), &l); err != nil || !strings.HasSuffix(text, "\n") {
			t.Errorf("line %q: %v", text, err)
		}
		list = append(list, l.ID)
	}
	return list
}

func TestLines(t *testing.T) {
	fs := faultfs.New()
	f := open(t, fs)
	mustAppend(t, f,
		record("a", "<grüße> & \"quotes\"\nand a line"),
		record("b", "\xff\x00binary"),
		&jsonl.Record{MessageID: "c", Message: []byte("x"), Received: time.UnixMilli(1), Queue: "q", Publisher: "p", Exchange: "x",
			Key: "k", Published: time.Date(2026, 1, 2, 3, 4, 5, 6e6, time.UTC), Attempt: 2})
	want := `{"message_id":"a","message":"<grüße> & \"quotes\"\nand a line","timestamp":1700000000.123}
{"message_id":"b","message_base64":"/wBiaW5hcnk=","timestamp":1700000000.123}
{"message_id":"c","message":"x","timestamp":0.001,"queue":"q","publisher":"p","exchange":"x","key":"k","published":"2026-01-02T03:04:05.006Z","attempt":2}
`
	if d := cmp.Diff(want, string(fs.Get(name))); d != "" {
		t.Error(d)
	}
}

func TestWhatTheLinesHold(t *testing.T) {
	fs := faultfs.New()
	f := open(t, fs)
	mustAppend(t, f, record("a", "one"), record("b", "\xff"))
	again := open(t, fs)
	want := map[string]string{"a": "one", "b": "\xff"}
	if d := cmp.Diff(want, again.texts); d != "" || again.Len() != 2 || again.Cut() != (jsonl.Cut{}) {
		t.Errorf("%d lines, %v cut, %s", again.Len(), again.Cut(), d)
	}
}

// A line that is written by hand is read correctly.
func TestEveryTextReadsAsItWas(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text, id := rapid.String().Draw(t, "text"), rapid.String().Draw(t, "id")
		fs := faultfs.New()
		f, err := jsonl.Open(fs, name, 0, 0, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(f.Append(record(id, text)), f.Commit(), f.Close()); err != nil {
			t.Fatal(err)
		}
		line := fs.Get(name)
		var l struct {
			ID      string `json:"message_id"`
			Message string `json:"message"`
		}
		if err := json.Unmarshal(line, &l); err != nil || l.ID != id || l.Message != text || bytes.Count(line, []byte("\n")) != 1 || bytes.ContainsAny(line, "\u2028\u2029") {
			t.Fatalf("%q reads as %+v, %v", line, l, err)
		}
	})
}

func TestTornLastLineIsCutOff(t *testing.T) {
	whole := `{"message_id":"a","message":"one","timestamp":1}` + "\n"
	last := `{"message_id":"b","message":"two, which is longer than what follows it","timestamp":1700000000.123}`
	for cut := range len(last) {
		fs := faultfs.New()
		fs.Put(name, []byte(whole+last[:cut]))
		f := open(t, fs)
		if f.Len() != 1 || f.Cut().Bytes != int64(cut) {
			t.Fatalf("cut at %d: %d lines, %v cut", cut, f.Len(), f.Cut())
		}
		mustAppend(t, f, record("c", "three"))
		if d := cmp.Diff([]string{"a", "c"}, ids(t, fs.Get(name))); d != "" {
			t.Fatalf("cut at %d: %s", cut, d)
		}
	}
	// A complete record without its line feed is not torn.
	fs := faultfs.New()
	fs.Put(name, []byte(whole+last))
	f := open(t, fs)
	mustAppend(t, f, record("c", "three"))
	if d := cmp.Diff([]string{"a", "b", "c"}, ids(t, fs.Get(name))); d != "" {
		t.Error(d)
	}
}

// A killed process leaves lines that the next one reads from memory. They are
// acknowledged because they are known, so they must be on stable storage by then.
func TestWhatIsKnownIsDurable(t *testing.T) {
	fs := faultfs.New()
	file, err := fs.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteAt([]byte(`{"message_id":"a","message":"one","timestamp":1}`+"\n"), 0); err != nil {
		t.Fatal(err)
	}
	if !open(t, fs).holds("a", "one") {
		t.Fatalf("it is not known")
	}
	for _, mode := range faultfs.CrashModes {
		if !open(t, fs.Crash(mode, 1)).holds("a", "one") {
			t.Errorf("%v: it is not known", mode)
		}
	}
}

func TestFileOfCipherMQIsUnderstood(t *testing.T) {
	fs := faultfs.New()
	fs.Put(name, []byte(`{"message_id": "a", "message": "Secure", "timestamp": 1750000000.25}`+"\n"))
	if !open(t, fs).holds("a", "Secure") {
		t.Errorf("it is not known")
	}
}

func TestForeignAndDamagedFilesAreLeftAlone(t *testing.T) {
	good := `{"message_id":"a","message":"one","timestamp":1}` + "\n"
	for what, content := range map[string]string{
		"text":                    "hello\n",
		"text without line feed":  "hello",
		"binary":                  "\x7fELF\x00\x01",
		"binary with line feeds":  "\x7fELF\n\x00\x01\n",
		"other JSON lines":        `{"id":1}` + "\n",
		"no message":              `{"message_id":"a"}` + "\n",
		"JSON array":              "[1]\n",
		"flipped byte in between": good + strings.Replace(good, `"one"`, `"one\x22`, 1) + good,
		"empty line in between":   good + "\n" + good,
		"lost id":                 good + strings.Replace(good, `"message_id"`, `"message_ie"`, 1),
	} {
		t.Run(what, func(t *testing.T) {
			fs := faultfs.New()
			fs.Put(name, []byte(content))
			var damaged *jsonl.DamagedError
			if _, err := jsonl.Open(fs, name, 0, 0, nil); !errors.As(err, &damaged) {
				t.Errorf("opened: %v", err)
			}
			if string(fs.Get(name)) != content {
				t.Error("the file was changed")
			}
		})
	}
}

func TestLargeFile(t *testing.T) {
	fs := faultfs.New()
	f := open(t, fs)
	long := strings.Repeat("é", 1_500_000)
	mustAppend(t, f, record("long", long))
	for i := range 5000 {
		if err := f.Append(record(fmt.Sprint(i), strings.Repeat("x", i%300))); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Commit(); err != nil {
		t.Fatal(err)
	}
	again := open(t, fs)
	if again.Len() != 5001 || !again.holds("4999", strings.Repeat("x", 4999%300)) || !again.holds("long", long) {
		t.Errorf("%d lines", again.Len())
	}
	if err := f.Append(record("huge", strings.Repeat("x", jsonl.MaxLineBytes))); err == nil {
		t.Error("a line over the limit was taken")
	}
}

func TestSecondReceiverIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), name)
	f, err := jsonl.Open(durable.OS(), path, 0, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := jsonl.Open(durable.OS(), path, 0, 0, nil); !errors.Is(err, durable.ErrLocked) {
		t.Errorf("second: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	f, err = jsonl.Open(durable.OS(), path, 0, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if info, err := os.Stat(path); err != nil || info.Mode().Perm()&0o077 != 0 {
		t.Errorf("the file can be read by others: %v, %v", info.Mode(), err)
	}
}

func TestFailedWriteOrSyncEndsTheFile(t *testing.T) {
	for _, kind := range []faultfs.Kind{faultfs.Write, faultfs.Sync} {
		fs := faultfs.New()
		f := open(t, fs)
		mustAppend(t, f, record("a", "one"))
		fs.Fail(kind, 1, faultfs.Fault{Err: errors.New("disk")})
		if err := f.Append(record("b", "two")); err != nil {
			t.Fatal(err)
		}
		if err := f.Commit(); err == nil {
			t.Fatalf("%v: committed", kind)
		}
		if err := f.Commit(); err == nil {
			t.Errorf("%v: committed by trying again", kind)
		}
		if err := f.Append(record("c", "three")); err == nil {
			t.Errorf("%v: taken after a failure", kind)
		}
	}
}

// receive is a receiver that gets every message until it is acknowledged: it writes what
// is new, commits, and then acknowledges.
func receive(f *remembering, total int, rng *rand.Rand, acked map[string]bool) error {
	var batch []string
	for i := range total {
		id := fmt.Sprint("m", i)
		if acked[id] {
			continue
		}
		text := strings.Repeat("x", len(id)*37%900)
		if !f.holds(id, text) {
			if err := f.Append(record(id, text)); err != nil {
				return err
			}
		}
		batch = append(batch, id)
		if rng.IntN(5) == 0 || i == total-1 {
			if err := f.Commit(); err != nil {
				return err
			}
			for _, id := range batch {
				acked[id] = true
			}
			batch = nil
		}
	}
	return nil
}

// TestPowerCutAtEveryStep cuts the power at every change of the file system, and once more
// while the receiver goes on. Every acknowledged message is there, and in the end each
// message is there once.
func TestPowerCutAtEveryStep(t *testing.T) {
	const total = 40
	steps := 0
	for first := 1; ; first++ {
		fs := faultfs.New()
		fs.PowerOffAt(first)
		acked := make(map[string]bool)
		over := run(fs, total, uint64(first), acked) == nil
		for _, mode := range faultfs.CrashModes {
			for seed := range uint64(3) {
				steps++
				kept := make(map[string]bool)
				for id := range acked {
					kept[id] = true
				}
				after := fs.Crash(mode, seed)
				after.PowerOffAt(1 + int(seed)*3 + first%5)
				run(after, total, seed, kept)
				last := after.Crash(mode, seed+100)
				for id := range kept {
					if !strings.Contains(string(last.Get(name)), `"message_id":"`+id+`"`) {
						t.Fatalf("cut %d, %v, seed %d: %s was acknowledged and is gone", first, mode, seed, id)
					}
				}
				if err := run(last, total, seed, kept); err != nil {
					t.Fatalf("cut %d, %v, seed %d: %v", first, mode, seed, err)
				}
				once(t, last.Get(name), total)
			}
		}
		if over {
			break
		}
	}
	if steps < 100 {
		t.Errorf("only %d cuts", steps)
	}
}

func run(fs *faultfs.FS, total int, seed uint64, acked map[string]bool) error {
	f, err := openFile(fs, name)
	if err != nil {
		return err
	}
	defer f.Close()
	return receive(f, total, rand.New(rand.NewPCG(seed, 1)), acked)
}

func once(t *testing.T, data []byte, total int) {
	t.Helper()
	count := make(map[string]int)
	for _, id := range ids(t, data) {
		count[id]++
	}
	for i := range total {
		if n := count[fmt.Sprint("m", i)]; n != 1 {
			t.Errorf("m%d is there %d times", i, n)
		}
	}
}
