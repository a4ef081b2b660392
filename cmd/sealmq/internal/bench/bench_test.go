package bench

import (
	"bytes"
	"encoding/json"
	"os"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestBodyComesBackAsItWasSent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(MinSize, 2000).Draw(t, "size")
		publisher := rapid.IntRange(0, MaxPublishers-1).Draw(t, "publisher")
		number := rapid.Uint64Range(0, 1<<48-1).Draw(t, "number")
		sent := rapid.Int64Range(0, 1<<62).Draw(t, "sent")
		fill := pattern(size)
		id, message := newEnvelope("run-p1-", publisher, fill).set(number, sent)
		var m struct {
			ID   string `json:"message_id"`
			Body string `json:"ciphertext"`
		}
		if err := json.Unmarshal(message, &m); err != nil {
			t.Fatal(err)
		}
		if m.ID != string(id) || len(m.Body) != size {
			t.Fatalf("id %q and a body of %d bytes, want %q and %d", m.ID, len(m.Body), id, size)
		}
		got, ok := parse(message, fill)
		if want := (parsed{publisher, number, sent}); !ok || got != want {
			t.Fatalf("got %+v %v, want %+v", got, ok, want)
		}
	})
}

func TestEveryChangedByteOfTheBodyIsFound(t *testing.T) {
	fill := pattern(DefaultSize)
	e := newEnvelope("run-p1-", 7, fill)
	_, message := e.set(1234, 5678)
	want, _ := parse(message, fill)
	for i := range DefaultSize {
		changed := bytes.Clone(message)
		changed[e.body+i] ^= 0x55
		// A changed number makes it another message, which counts as a duplicate or lost.
		if got, ok := parse(changed, fill); ok && got == want {
			t.Fatalf("byte %d changed, but parse accepted it", i)
		}
	}
	for _, cut := range [][]byte{nil, message[:10], message[:len(message)-3], append(bytes.Clone(message), ' ')} {
		if _, ok := parse(cut, fill); ok {
			t.Errorf("accepted %q", cut)
		}
	}
}

func TestLineBytesIsWhatADeliveryTakes(t *testing.T) {
	o := Options{Load: Load{Size: DefaultSize}}
	id, message := newEnvelope(runPrefix("0123456789ab", 0), 0, pattern(o.Size)).set(1, 1)
	line := "Message: " + string(id) + " " + string(message)
	if len(line) != o.lineBytes() {
		t.Errorf("a line has %d bytes, lineBytes says %d", len(line), o.lineBytes())
	}
	if len(line) < 380 || len(line) > 450 {
		t.Errorf("a line has %d bytes, want about 400", len(line))
	}
}

func TestBitsetCountsWhatIsMissing(t *testing.T) {
	var sent, seen bitset
	const n = 3*pageBits + 100
	var wg sync.WaitGroup
	for part := range uint64(4) {
		wg.Go(func() {
			for i := part; i < n; i += 4 {
				if sent.set(i) {
					t.Errorf("%d was there", i)
				}
				if i%1000 != 6 {
					seen.set(i)
				}
			}
		})
	}
	wg.Wait()
	if !sent.set(5) || sent.has(n) {
		t.Error("set or has is wrong")
	}
	want := uint64((n-8)/1000 + 1)
	if got := sent.missing(&seen, n); got != want {
		t.Errorf("%d missing, want %d", got, want)
	}
}

func TestQuantilesOfNothingAndOfMany(t *testing.T) {
	if q := merged([]*latency{nil, newLatency()}); q != (Quantiles{}) {
		t.Errorf("got %+v", q)
	}
	a, b := newLatency(), newLatency()
	for i := range 1000 {
		[]*latency{a, b}[i%2].record(int64(time.Duration(i+1) * time.Millisecond))
	}
	a.record(int64(24 * time.Hour)) // beyond the range counts as the longest
	q := merged([]*latency{a, b})
	if q.P50 < 499 || q.P50 > 502 || q.P99 < 988 || q.P99 > 993 || q.P999 < 998 || q.P999 > 1001 {
		t.Errorf("got %+v", q)
	}
}

func TestOptionsReportEveryProblem(t *testing.T) {
	_, err := New(Options{Load: Load{Phase: "x", Publishers: -1, Size: 5, Window: -1, Prefetch: 1 << 20, Queues: -1}})
	if err == nil || bytes.Count([]byte(err.Error()), []byte("\n")) != 6 {
		t.Errorf("got %v", err)
	}
}

func TestSyncTimeLeavesNothingBehind(t *testing.T) {
	dir := t.TempDir()
	took, err := SyncTime(dir)
	if err != nil || took <= 0 {
		t.Fatalf("got %v, %v", took, err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	if name, _, err := FileSystem(dir); err != nil || name == "" {
		t.Errorf("file system %q, %v", name, err)
	}
	if _, err := SyncTime(dir + "/missing"); err == nil {
		t.Error("measured a folder that does not exist")
	}
}
