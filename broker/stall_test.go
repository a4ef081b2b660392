package broker_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/broker"
	"github.com/sealmq/sealmq/engine"
	"github.com/sealmq/sealmq/engine/local"
	"github.com/sealmq/sealmq/internal/testing/faultfs"
)

// TestDeletionWhilePublishersWaitForTheDisk: publishers wait for a disk that takes nothing
// more. Queues of theirs are deleted meanwhile. That holds up nobody, and once the disk
// goes on each message is stored where it goes by then, once and in order.
func TestDeletionWhilePublishersWaitForTheDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := faultfs.New()
		e, err := local.Open(local.Config{Dir: "store", FS: fs, SegmentBytes: 1 << 20, MaxPendingBytes: 8 << 10})
		if err != nil {
			t.Fatal(err)
		}
		n := &node{TB: t, audit: &trail{}, cfg: broker.Config{Engine: e}}
		n.start()
		n.must(n.declareExchange(alice, "f", broker.Fanout))
		for _, queue := range []string{"stays", "goes", "comes"} {
			n.must(n.bind(alice, queue, "f", "k"))
		}
		n.must(n.bind(alice, "alone", "x", "k"))
		n.must(n.bind(alice, "other", "y", "k"))

		goOn := make(chan struct{})
		fs.Hook(func(op faultfs.Op) *faultfs.Fault {
			if op.Kind == faultfs.Sync && strings.HasSuffix(op.Path, ".seg") {
				return &faultfs.Fault{Hang: goOn}
			}
			return nil
		})
		// Each publisher sends batches of two exchanges in turn until it is held up.
		const publishers, messages, size = 4, 40, 1 << 10
		answers := make([]map[string]engine.PublishResult, publishers)
		var returned [publishers]int
		for p := range publishers {
			answers[p] = make(map[string]engine.PublishResult)
			go func() {
				for i := 0; i < messages; i += 4 {
					var batch []engine.Publish
					for k := range 4 {
						batch = append(batch, engine.Publish{Message: sealmq.Message{
							Exchange: []string{"f", "x"}[k%2], Key: "k", ID: fmt.Sprintf("%d/%02d", p, i+k), Body: make([]byte, size)}})
					}
					n.Publish(alice, batch, func(results []engine.PublishResult) {
						for k, r := range results {
							answers[p][fmt.Sprintf("%d/%02d", p, i+k)] = r
						}
					})
					returned[p]++
				}
			}()
		}
		synctest.Wait()
		if got := slices.Max(returned[:]); got == messages/4 {
			t.Fatal("the disk held nobody up")
		}
		if len(answers[0]) > 0 {
			t.Error("something was answered that is not on the disk")
		}

		// Nobody below waits for the publishers: if they did the test would hang here.
		answered := make(map[string]error)
		done := func(what string) func(error) { return func(err error) { answered[what] = err } }
		counted := func(what string) func(int, error) { return func(_ int, err error) { answered[what] = err } }
		n.DeleteQueue(admin, "goes", 0, counted("delete"))
		n.DeleteQueue(admin, "alone", 0, counted("delete alone"))
		n.DeleteQueue(admin, "comes", 0, counted("delete comes"))
		n.Bind(alice, "comes", "f", "k", done("bind again"))
		n.DeclareExchange(alice, "new", broker.Topic, done("declare"))
		if got := n.Exchanges(alice); len(got) != 4 {
			t.Errorf("exchanges %v", got)
		}
		n.Counts()
		if err := n.CanPublish(alice, "y"); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if len(answered) > 0 {
			t.Errorf("answered before the disk went on: %v", answered)
		}
		close(goOn)
		synctest.Wait()
		for what, err := range answered {
			if err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
		if len(answered) != 5 {
			t.Errorf("answered: %v", answered)
		}

		for p := range publishers {
			if len(answers[p]) != messages {
				t.Errorf("publisher %d has %d answers", p, len(answers[p]))
			}
		}
		var want []string
		for p := range publishers {
			for i := range messages {
				id := fmt.Sprintf("%d/%02d", p, i)
				r := answers[p][id]
				switch {
				case i%2 == 0 && r.Outcome == engine.Stored:
					want = append(want, id)
				case i%2 == 1 && r.Outcome == engine.Stored: // before its queue was deleted
				case i%2 == 1 && sealmq.CodeOf(r.Err) == sealmq.Unroutable:
				default:
					t.Errorf("%s: outcome %d, error %v", id, r.Outcome, r.Err)
				}
			}
		}
		got := n.waiting("stays")
		inOrder := slices.Clone(got)
		slices.Sort(inOrder)
		if diff := cmp.Diff(want, inOrder); diff != "" {
			t.Errorf("the queue that stays (-want +got):\n%s", diff)
		}
		for p := range publishers {
			own := slices.DeleteFunc(slices.Clone(got), func(id string) bool { return !strings.HasPrefix(id, fmt.Sprint(p)) })
			if !slices.IsSorted(own) {
				t.Errorf("publisher %d: %v", p, own)
			}
		}
		n.Broker.Close()
		n.must(e.Close())
	})
}
