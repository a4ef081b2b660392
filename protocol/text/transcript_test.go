package text_test

import (
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"

	"github.com/sealmq/sealmq/internal/testing/transcript"
)

const transcripts = "testdata/transcripts"

// play replays a transcript on an empty broker.
func play(tr *transcript.Transcript, cut transcript.Cutter) error {
	n, stop, err := startNode()
	if err != nil {
		return err
	}
	defer stop()
	return tr.Play(n.dialer, cut)
}

func TestTranscripts(t *testing.T) {
	for _, name := range transcript.Names(t, transcripts) {
		t.Run(name, func(t *testing.T) {
			tr := transcript.Load(t, transcripts, name)
			for how, cut := range map[string]transcript.Cutter{"whole": transcript.Whole, "byte by byte": transcript.Bytewise} {
				if err := play(tr, cut); err != nil {
					t.Errorf("%s: %v", how, err)
				}
			}
		})
	}
}

// framing are the transcripts whose lines differ in kind. The others repeat lines by
// the hundred and are cut at random.
var framing = []string{"T01", "T03", "T04", "T05", "T07", "T09", "T12", "T13"}

// TestTranscriptsAtEverySplitPoint cuts every connection's stream at each of its bytes.
func TestTranscriptsAtEverySplitPoint(t *testing.T) {
	for _, name := range framing {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tr := transcript.Load(t, transcripts, name)
			longest := slices.Max(tr.Sent())
			step := 1
			if testing.Short() {
				step = 17
			}
			each(t, longest/step, func(i int) error { return play(tr, transcript.CutAt(i*step+1)) })
		})
	}
}

// TestTranscriptsAtRandomSplits makes 1,000 replays, each cut at random points by a seed
// that is its number.
func TestTranscriptsAtRandomSplits(t *testing.T) {
	names := transcript.Names(t, transcripts)
	names = slices.DeleteFunc(names, func(n string) bool { return n == "T20" }) // it waits for time-outs
	var list []*transcript.Transcript
	for _, name := range names {
		list = append(list, transcript.Load(t, transcripts, name))
	}
	replays := 1000
	if testing.Short() {
		replays = 100
	}
	each(t, replays, func(seed int) error {
		tr := list[seed%len(list)]
		r := rand.New(rand.NewPCG(uint64(seed), 1))
		points := make([]int, 1+r.IntN(40))
		for i := range points {
			points[i] = 1 + r.IntN(slices.Max(tr.Sent()))
		}
		return play(tr, transcript.CutAt(points...))
	})
}

// each calls f for every number below n, on all processors, until one fails.
func each(t *testing.T, n int, f func(i int) error) {
	t.Helper()
	var group sync.WaitGroup
	workers := runtime.GOMAXPROCS(0)
	for w := range workers {
		group.Go(func() {
			for i := w; i < n && !t.Failed(); i += workers {
				if err := f(i); err != nil {
					t.Errorf("replay %d: %v", i, err)
				}
			}
		})
	}
	group.Wait()
}
