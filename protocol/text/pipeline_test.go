package text_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/protocol"
	"github.com/sealmq/sealmq/protocol/text"
)

func message(id string) string { return `{"message_id":"` + id + `"}` }

func publish(id string) string { return "publish x k " + message(id) }

// bound declares what publish needs.
func (n *node) bound(tb testing.TB) {
	tb.Helper()
	n.admin(tb).do("bind q x k", "Queue bound")
}

func TestRepliesWaitForTheDiskInOrder(t *testing.T) {
	n, disk := newSlowNode(t)
	n.bound(t)
	c := n.client(t, "a")
	c.send(publish("1"), "ping", "hello", publish("2"), "ack never-seen", publish("bad id"))
	if out := output(c.session, nil); len(out) > 0 {
		t.Fatalf("%q left before the disk answered", out)
	}
	disk.sync()
	c.want("ACK 1", "Pong", "Unknown command", "ACK 2", "ACK_CONFIRMED never-seen")
	if got := c.next(); !strings.HasPrefix(got, "Invalid message format: message_id contains white space") {
		t.Errorf("received %q", got)
	}
	c.quiet()
}

func TestOneReadIsFewCalls(t *testing.T) {
	n, disk := newSlowNode(t)
	n.bound(t)
	c := n.client(t, "a")
	var lines, acks []string
	for i := range 100 {
		lines = append(lines, publish(fmt.Sprint(i)))
		acks = append(acks, fmt.Sprintf("ack %d", i))
	}
	c.send(lines...)
	disk.sync()
	for i := range 100 {
		c.want(fmt.Sprintf("ACK %d", i))
	}
	c.do("consume q", "Subscribed to queue")
	for range 100 {
		c.next()
	}
	c.send(acks...)
	disk.sync()
	for i := range 100 {
		c.want(fmt.Sprintf("ACK_CONFIRMED %d", i))
	}
	batches, settles := disk.calls()
	if want := []int{100}; !slices.Equal(batches, want) || !slices.Equal(settles, want) {
		t.Errorf("publishes in calls of %v, acks in calls of %v, want %v each", batches, settles, want)
	}
}

// TestReplyOrder sends random commands, cut at random, over a disk that answers at
// random moments, and demands exactly one right reply each, in order.
func TestReplyOrder(t *testing.T) {
	kinds := map[string]func(i int) (line, reply string){
		"publish": func(i int) (string, string) { return publish(fmt.Sprint("m", i)), fmt.Sprint("ACK m", i) },
		"unroutable": func(i int) (string, string) {
			return "publish x nokey " + message("u"), "Error: No queues bound to exchange 'x' with routing key 'nokey'"
		},
		"noexchange": func(i int) (string, string) {
			return "publish nox k " + message("u"), "Error: Exchange 'nox' not found"
		},
		"malformed": func(i int) (string, string) {
			return "publish x k {}", "Invalid message format: missing field message_id at byte 0"
		},
		"ack":  func(i int) (string, string) { return fmt.Sprint("ack m", i-1), fmt.Sprint("ACK_CONFIRMED m", i-1) },
		"nack": func(i int) (string, string) { return fmt.Sprint("nack m", i-1), fmt.Sprint("NACK_CONFIRMED m", i-1) },
		"release": func(i int) (string, string) {
			return fmt.Sprint("release m", i-1), fmt.Sprint("RELEASE_CONFIRMED m", i-1)
		},
		"extend": func(int) (string, string) {
			return "extend none", "Error: this connection does not hold the message"
		},
		"ping":    func(i int) (string, string) { return "ping", "Pong" },
		"unknown": func(i int) (string, string) { return "nonsense", "Unknown command" },
		"declare": func(i int) (string, string) { return "declare_queue q", "Queue declared" },
		"bind":    func(i int) (string, string) { return "bind q x k", "Queue bound" },
		"missing": func(i int) (string, string) { return "bind q", "Missing parameters" },
		"batch": func(i int) (string, string) {
			return fmt.Sprintf("publish_batch x k [%s, %s]", message(fmt.Sprint("b", i)), message(fmt.Sprint("c", i))), fmt.Sprintf("ACK b%d\nACK c%d", i, i)
		},
		"badbatch": func(i int) (string, string) {
			return fmt.Sprintf("publish_batch x nokey [%s]", message("z")), "Error: No queues bound to exchange 'x' with routing key 'nokey' for message z"
		},
		"meta": func(i int) (string, string) { return "meta off", "Meta off" },
	}
	var names []string
	for name := range kinds {
		names = append(names, name)
	}
	slices.Sort(names)
	rapid.Check(t, func(rt *rapid.T) {
		n, disk := newSlowNode(t)
		n.bound(t)
		c := n.client(t, "a")
		var input, want bytes.Buffer
		for i := range rapid.IntRange(1, 60).Draw(rt, "commands") {
			line, reply := kinds[rapid.SampledFrom(names).Draw(rt, "kind")](i)
			input.WriteString(line + "\n")
			want.WriteString(reply + "\n")
		}
		var got []byte
		for input.Len() > 0 {
			_ = c.Write(input.Next(rapid.IntRange(1, 400).Draw(rt, "piece")))
			switch rapid.IntRange(0, 2).Draw(rt, "then") {
			case 0:
				disk.sync()
			case 1:
				got = output(c.session, got)
			}
		}
		for len(got) < want.Len() {
			disk.sync()
			piece, err := c.Read(time.Minute)
			if err != nil {
				rt.Fatalf("got %q, want %q", got, want.String())
			}
			got = append(got, piece...)
		}
		if string(got) != want.String() {
			rt.Fatalf("got %q, want %q", got, want.String())
		}
	})
}

func TestReadingPausesAtTheLimitAndGoesOn(t *testing.T) {
	for name, limits := range map[string]text.Limits{
		"replies":           {Waiting: 10},
		"bytes of replies":  {WaitingBytes: 50},
		"bytes of messages": {UnconfirmedBytes: 100},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n, disk := newSlowNode(t)
				n.bound(t)
				c := n.dialWith(protocol.Peer{Identity: client("a", false)}, text.Config{Limits: limits})
				defer c.session.Close()
				var input []byte
				for i := range 12 {
					input = append(input, publish(fmt.Sprint(i))+"\n"...)
				}
				if used, _ := c.session.Input(input); used != len(input) {
					t.Fatalf("used %d of %d", used, len(input))
				}
				ready := make(chan bool)
				go func() { ready <- c.session.Ready() }()
				synctest.Wait()
				select {
				case <-ready:
					t.Fatal("more would be read")
				default:
				}
				disk.sync()
				if name != "bytes of messages" { // those do not wait for the peer to read
					synctest.Wait()
					output(c.session, nil)
				}
				if !<-ready {
					t.Error("not ready")
				}
			})
		})
	}
}

// TestLargeRepliesStopTheInput demands that a few bytes of input cannot make a heap of
// large replies.
func TestLargeRepliesStopTheInput(t *testing.T) {
	n := newNode(t)
	for i := range 50 {
		n.client(t, "a").do(fmt.Sprintf("declare_queue q%d", i), "Queue declared")
	}
	c := n.dialWith(protocol.Peer{Identity: client("a", false)}, text.Config{Limits: text.Limits{WaitingBytes: 20_000}})
	defer c.session.Close()
	input := bytes.Repeat([]byte("queues\n"), 1000)
	used, more := c.session.Input(input)
	if out := output(c.session, nil); !more || used > 100 || len(out) > 60_000 {
		t.Errorf("used %d bytes of input (more %v) for %d bytes of replies", used, more, len(out))
	}
}

// TestPanicInACallbackEndsOneSession: the goroutine is the broker's, and the others'.
func TestPanicInACallbackEndsOneSession(t *testing.T) {
	n, disk := newSlowNode(t)
	n.bound(t)
	other := n.client(t, "b")
	var armed atomic.Bool
	told := make(chan any, 10)
	s := text.Protocol(text.Config{Broker: n.broker}).Open(protocol.Peer{
		Identity: client("a", false),
		Wake: func() {
			if armed.Load() {
				panic("a defect")
			}
		},
		Panicked: func(v any, stack []byte) {
			if !bytes.Contains(stack, []byte("publishDone")) {
				t.Errorf("stack %s", stack)
			}
			told <- v
		},
	})
	s.Input([]byte(publish("1") + "\n"))
	other.send(publish("2"))
	armed.Store(true)
	disk.sync()
	if v := <-told; v != "a defect" || len(told) > 0 {
		t.Errorf("told %v, and %d more", v, len(told))
	}
	s.Close()
	if s.Ready() {
		t.Error("it is still open")
	}
	other.want("ACK 2")
}

// TestManySmallRepliesStopTheInput: the overhead of a reply counts too.
func TestManySmallRepliesStopTheInput(t *testing.T) {
	n := newNode(t)
	c := n.dialWith(protocol.Peer{Identity: client("a", false)}, text.Config{Limits: text.Limits{WaitingBytes: 10_000}})
	defer c.session.Close()
	pair := "ping\nack x\n" // not of one kind, so each reply is separate
	used, more := c.session.Input([]byte(strings.Repeat(pair, 1000)))
	if pairs := used / len(pair); !more || pairs > 10_000/2/256+1 {
		t.Errorf("%d pairs of commands were carried out (more %v)", pairs, more)
	}
}

func TestCloseReleasesWhoWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, _ := newSlowNode(t)
		n.bound(t)
		full := n.dialWith(protocol.Peer{Identity: client("a", false)}, text.Config{Limits: text.Limits{Waiting: 1}})
		full.session.Input([]byte(publish("1") + "\n"))
		barrier := n.dialWith(protocol.Peer{Identity: client("a", false)}, text.Config{})
		done := make(chan bool, 2)
		go func() { done <- full.session.Ready() }()
		go func() {
			barrier.session.Input([]byte(publish("2") + "\nfetch q\n"))
			done <- barrier.session.Ready()
		}()
		synctest.Wait()
		full.session.Close()
		barrier.session.Close()
		first, second := <-done, <-done
		if first || second {
			t.Error("a closed session is ready")
		}
	})
}

func TestLongLineIsAnsweredOnceAndForgotten(t *testing.T) {
	n := newNode(t)
	metrics := text.NewMetrics()
	p := n.dialWith(protocol.Peer{Identity: client("a", false)}, text.Config{Limits: text.Limits{LineBytes: 1000}, Metrics: metrics})
	defer p.session.Close()
	c := &lines{tb: t, pipe: p}
	flood := bytes.Repeat([]byte("x"), 700)
	for range 10_000 {
		_ = c.Write(flood)
		if len(c.rest) > 1000 {
			t.Fatalf("%d bytes are kept", len(c.rest))
		}
	}
	c.want("Error: line is longer than 1000 bytes")
	c.send("publish the end of the long line", "ping")
	c.want("Pong")
	c.send(strings.Repeat("y", 1000), strings.Repeat("z", 1001), "ping")
	c.want("Unknown command", "Error: line is longer than 1000 bytes", "Pong")
}

func TestInternalErrorsAreNotShown(t *testing.T) {
	n, disk := newSlowNode(t)
	n.bound(t)
	var log bytes.Buffer
	p := n.dialWith(protocol.Peer{Identity: client("a", false), Log: slog.New(slog.NewTextHandler(&log, nil))}, text.Config{})
	defer p.session.Close()
	c := &lines{tb: t, pipe: p}
	disk.fail(errors.New("open /secret/path: permission denied"))
	reply := c.ask(publish("1"))
	id := regexp.MustCompile(`^Error: internal error \(([0-9a-f]{8})\)$`).FindStringSubmatch(reply)
	if id == nil {
		t.Fatalf("received %q", reply)
	}
	if !strings.Contains(log.String(), id[1]) || !strings.Contains(log.String(), "/secret/path") {
		t.Errorf("the log does not tell what %s was: %s", id[1], log.String())
	}
	reply = c.ask("publish_batch x k [" + message("1") + "]")
	if !strings.HasSuffix(reply, ") for message 1") {
		t.Errorf("received %q", reply)
	}
}

func TestRefusalsAreOneLine(t *testing.T) {
	n, disk := newSlowNode(t)
	n.bound(t)
	c := n.client(t, "a")
	disk.fail(&sealmq.Error{Code: sealmq.QueueFull, Message: "queue 'q' is full\nMessage: forged {}"})
	c.do(publish("1"), "Error: queue 'q' is full?Message: forged {}")
	disk.fail(fmt.Errorf("wrapped: %w", sealmq.ErrNoStorage))
	c.do(publish("1"), "Error: the broker's disk is full; try again later")
}

// TestAcksOfAFailedStoreAreNotConfirmed: the message will come again after the restart.
func TestAcksOfAFailedStoreAreNotConfirmed(t *testing.T) {
	n, disk := newSlowNode(t)
	n.bound(t)
	c := n.client(t, "a")
	c.send(publish("1"))
	disk.sync()
	c.want("ACK 1")
	c.do("fetch q", "Message: 1 "+message("1"))
	disk.fail(sealmq.ErrUnavailable)
	c.do("ack 1", "Error: the broker is stopping or its store has failed")
}

func TestBatchReplyFitsOneRecord(t *testing.T) {
	n, disk := newSlowNode(t)
	n.bound(t)
	c := n.client(t, "a")
	var batch []string
	for i := range 390 {
		batch = append(batch, message(fmt.Sprintf("%036d", i)))
	}
	// The reply of 15,990 bytes fits in one record, but not after other replies.
	for range 500 {
		c.send("ping")
	}
	c.send("publish_batch x k ["+strings.Join(batch, ",")+"]", "ping")
	disk.sync()
	for !c.session.Drained() {
		out := output(c.session, nil)
		if i := bytes.Index(out, []byte("ACK ")); i >= 0 && i%maxRecord+390*41 > maxRecord {
			t.Errorf("the reply to a batch starts at byte %d of a piece of output", i)
		}
	}
}
