package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq/internal/brokerproc"
	"github.com/sealmq/sealmq/internal/testing/program"
)

// A receiver is killed again and again, at any moment, while messages come. In the end
// each message is in its file once.
func TestKilledReceiverKeepsEachMessageOnce(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts a broker and kills processes")
	}
	t.Parallel()
	const total, kills = 4000, 8
	exe, dir := program.Path(t), t.TempDir()
	broker, err := brokerproc.Start(t.Context(), brokerproc.Config{Exe: exe, Data: filepath.Join(dir, "data"), Log: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { broker.Kill() })
	sealmq := func(ctx context.Context, stdin string, args ...string) (string, error) {
		cmd := exec.CommandContext(ctx, exe, append(args, "--data", filepath.Join(dir, "data"))...)
		cmd.Dir, cmd.Stdin = dir, strings.NewReader(stdin)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	must := func(out string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	// A small key and prefetch, so that the time goes into many small commits.
	key, err := os.ReadFile(filepath.Join("..", "..", "seal", "ciphermq", "testdata", "g2-1048.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "lab.key"), key, 0o600); err != nil {
		t.Fatal(err)
	}
	public, err := sealmq(t.Context(), "", "key", "show", "--public", "lab.key")
	must(public, err)
	if err := os.WriteFile(filepath.Join(dir, "lab.pub"), []byte(public), 0o600); err != nil {
		t.Fatal(err)
	}
	var texts strings.Builder
	for i := range total {
		fmt.Fprintf(&texts, "text %d\n", i)
	}
	must(sealmq(t.Context(), texts.String(), "send", "--addr", broker.Addr, "--to", "lab.pub",
		"--exchange", "x", "--key", "q", "--declare", "--lines"))

	receive := []string{"receive", "q", "--addr", broker.Addr, "--key-file", "lab.key", "--out", "out.jsonl", "--prefetch", "10"}
	for range kills {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(20+rand.IntN(150))*time.Millisecond)
		if out, err := sealmq(ctx, "", receive...); err == nil {
			t.Errorf("a receiver ended by itself: %s", out)
		}
		cancel()
	}
	before, _ := os.ReadFile(filepath.Join(dir, "out.jsonl"))
	t.Logf("%d of %d messages are there after %d kills", strings.Count(string(before), "\n"), total, kills)
	// On a busy machine, an idle second does not mean that everything has arrived.
	for again := true; again && !t.Failed(); {
		must(sealmq(t.Context(), "", append(receive, "--idle", "1s")...))
		list, err := sealmq(t.Context(), "", "queue", "list", "--addr", broker.Addr, "--json")
		must(list, err)
		again = waitsIn(t, []byte(list), "q")
	}

	data, err := os.ReadFile(filepath.Join(dir, "out.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]int)
	for text := range strings.Lines(string(data)) {
		var l struct{ Message string }
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			t.Fatalf("line %q: %v", text, err)
		}
		seen[l.Message]++
	}
	for i := range total {
		if text := fmt.Sprint("text ", i); seen[text] != 1 {
			t.Errorf("%q is there %d times", text, seen[text])
		}
	}
}
