package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/brokerproc"
	"github.com/sealmq/sealmq/internal/testing/program"
	"github.com/sealmq/sealmq/internal/testing/server"
)

var kills = flag.Int("kills", 30, "how often TestKilledAnywhereEachLineArrivesOnce kills sender, broker or receiver")

// Sender, broker and receiver are killed at random moments, as processes, and started
// again by the same commands. In the end each line of the file is in the output once, and in
// order but for what a dead receiver had in hand.
func TestKilledAnywhereEachLineArrivesOnce(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts a broker and kills processes")
	}
	t.Parallel()
	lines := 800 * *kills // as many as last until about the last kill
	h := newHarness(t)
	var text strings.Builder
	for i := range lines {
		fmt.Fprintf(&text, "line %d\n", i)
	}
	if err := os.WriteFile(filepath.Join(h.dir, "lines.txt"), []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	h.must("key", "generate", "bob")
	h.must("bind", "inbox", "post", "bob")

	left := make(chan struct{}, *kills) // deaths that are still to come
	for range *kills {
		left <- struct{}{}
	}
	sent := make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		defer close(sent)
		n := h.untilDone(left, "send", "--to", "bob=data/keys/bob.pub", "--exchange", "post", "--key", "bob", "--spool", "spool", "--lines", "--file", "lines.txt",
			"--window", "64", "--rate", "5000", "--give-up", "1m")
		t.Logf("the sender was killed %d times", n)
	})
	receive := []string{"receive", "inbox", "--key-file", "bob", "--out", "out.jsonl", "--prefetch", "50", "--give-up", "1m"}
	deaths := 0 // of the receiver
	all.Go(func() {
		for {
			select {
			case <-sent:
				// On a busy machine, two idle seconds do not mean that everything has arrived.
				for again := true; again; again = h.waits("inbox") && !t.Failed() {
					deaths += h.untilDone(left, append(receive, "--idle", "2s")...)
				}
				t.Logf("the receiver was killed %d times", deaths)
				return
			default:
				if h.kill(left, receive...) {
					deaths++
				}
			}
		}
	})
	all.Go(func() {
		n := 0
		for {
			select {
			case <-sent:
				t.Logf("the broker was killed %d times", n)
				return
			case <-time.After(time.Duration(300+rand.IntN(900)) * time.Millisecond):
			}
			select {
			case <-left:
				h.restart()
				n++
			default:
			}
		}
	})
	all.Wait()
	h.checkLines("out.jsonl", lines, deaths)
}

// harness is a broker process and a folder in which commands run.
type harness struct {
	t        *testing.T
	exe, dir string
	mu       sync.Mutex
	broker   *brokerproc.Process
}

func newHarness(t *testing.T) *harness {
	h := &harness{t: t, exe: program.Path(t), dir: t.TempDir()}
	port, err := server.Port() // the broker's also while it is dead
	if err != nil {
		t.Fatal(err)
	}
	h.start(fmt.Sprint("127.0.0.1:", port))
	t.Cleanup(func() { h.broker.Kill() })
	return h
}

func (h *harness) start(addr string) {
	var err error
	for range 5 { // somebody else may have the port for a moment
		h.broker, err = brokerproc.Start(h.t.Context(), brokerproc.Config{Exe: h.exe, Data: filepath.Join(h.dir, "data"), Addr: addr})
		if err == nil {
			return
		}
	}
	h.t.Errorf("start the broker: %v", err)
}

func (h *harness) restart() {
	h.mu.Lock()
	defer h.mu.Unlock()
	addr := h.broker.Addr
	h.broker.Kill()
	h.start(addr)
}

func (h *harness) command(ctx context.Context, args ...string) (*exec.Cmd, *bytes.Buffer) {
	cmd := exec.CommandContext(ctx, h.exe, append(args, "--data", filepath.Join(h.dir, "data"))...)
	h.mu.Lock()
	cmd.Env = append(os.Environ(), "SEALMQ_SERVER_ADDR="+h.broker.Addr, "XDG_CONFIG_HOME="+h.dir)
	h.mu.Unlock()
	var out bytes.Buffer
	cmd.Dir, cmd.Stdout, cmd.Stderr = h.dir, &out, &out
	return cmd, &out
}

func (h *harness) must(args ...string) {
	h.t.Helper()
	cmd, out := h.command(h.t.Context(), args...)
	if err := cmd.Run(); err != nil {
		h.t.Fatalf("%v: %s", err, out)
	}
}

// kill runs a command and kills it at a random moment, if there are deaths left. It
// reports whether it was killed; without a death left it waits a moment.
func (h *harness) kill(left chan struct{}, args ...string) bool {
	ctx, cancel := context.WithTimeout(h.t.Context(), time.Duration(20+rand.IntN(400))*time.Millisecond)
	defer cancel()
	cmd, out := h.command(ctx, args...)
	err := cmd.Run()
	if err != nil && ctx.Err() != nil {
		select {
		case <-left:
		default:
		}
		return true
	}
	h.t.Errorf("%s ended by itself: %v: %s", args[0], err, out)
	return false
}

// untilDone runs a command until it succeeds, and kills it while there are deaths left.
func (h *harness) untilDone(left chan struct{}, args ...string) (killed int) {
	for {
		ctx, cancel := h.t.Context(), context.CancelFunc(func() {})
		select {
		case <-left:
			ctx, cancel = context.WithTimeout(ctx, time.Duration(20+rand.IntN(400))*time.Millisecond)
		default:
		}
		cmd, out := h.command(ctx, args...)
		err := cmd.Run()
		died := ctx.Err() != nil
		cancel()
		if err == nil {
			return killed
		}
		if !died {
			h.t.Errorf("%s: %v: %s", args[0], err, out)
			return killed
		}
		killed++
	}
}

// waits reports whether messages wait in a queue.
func (h *harness) waits(queue string) bool {
	h.t.Helper()
	cmd, out := h.command(h.t.Context(), "queue", "list", "--json")
	if err := cmd.Run(); err != nil {
		h.t.Errorf("list the queues: %v: %s", err, out)
	}
	return waitsIn(h.t, out.Bytes(), queue)
}

// waitsIn says so of what "sealmq queue list --json" has printed.
func waitsIn(t *testing.T, list []byte, queue string) bool {
	t.Helper()
	var queues []sealmq.QueueInfo
	if err := json.Unmarshal(list, &queues); err != nil {
		t.Errorf("list of queues %q: %v", list, err)
	}
	return slices.ContainsFunc(queues, func(q sealmq.QueueInfo) bool { return q.Name == queue && q.Ready+q.Unacked > 0 })
}

func (h *harness) checkLines(name string, lines, deaths int) {
	h.t.Helper()
	data, err := os.ReadFile(filepath.Join(h.dir, name))
	if err != nil {
		h.t.Fatal(err)
	}
	count := make(map[string]int)
	next, last, back := 0, -1, 0
	for text := range strings.Lines(string(data)) {
		var l struct{ Message string }
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			h.t.Fatalf("line %q: %v", text, err)
		}
		count[l.Message]++
		number := 0
		if _, err := fmt.Sscanf(l.Message, "line %d", &number); err != nil {
			h.t.Fatalf("line %q: %v", text, err)
		}
		if number < last {
			back++
		}
		last = number
		next++
	}
	for i := range lines {
		if text := fmt.Sprint("line ", i); count[text] != 1 {
			h.t.Errorf("%q is there %d times", text, count[text])
			if h.t.Failed() && i > 20 {
				break
			}
		}
	}
	// A receiver that is back before the broker has noticed the death of the one before
	// gets what comes next first, and then what that one had in hand.
	if back > deaths || next != lines {
		h.t.Errorf("%d lines, which go back %d times after %d deaths of the receiver", next, back, deaths)
	}
}
