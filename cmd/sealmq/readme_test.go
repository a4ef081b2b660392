package main

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sealmq/sealmq/cmd/sealmq/internal/bench"
	"github.com/sealmq/sealmq/internal/testing/server"
)

// TestReadme pastes the first commands of the README into a shell, all but the build, as a new
// user would. The first start prints the same ones.
func TestReadme(t *testing.T) {
	t.Parallel()
	var said strings.Builder
	usual := defaultConfig()
	for _, line := range strings.Split(strings.TrimSpace(firstSteps(usual, usual.Server.Addr)), "\n")[2:] {
		said.WriteString(strings.TrimSpace(line) + "\n")
	}
	blocks := tour(t, "README.md")
	if diff := cmp.Diff(said.String(), blocks[2]); diff != "" {
		t.Errorf("the README differs from what serve says (-serve +README):\n%s", diff)
	}
	follow(t, append(blocks, "kill %1\n"), []string{
		"sealing key  sha256:", "made exchange post", "made queue bob", "sent 1 message", "received 1 new message", `"message":"Noon is fine.\n"`, `"sender":"alice"`,
	})
}

// TestTutorial does the same with the tutorial.
func TestTutorial(t *testing.T) {
	t.Parallel()
	follow(t, tour(t, "docs/tutorial.md"), []string{
		"sealmq-data/certs/admin.crt", "accepting clients",
		"sealmq-identities/alice", "sealmq-identities/bob",
		"queue letters gets what is published to post with key bob", "bob hpke-mlkem768x25519-aes256gcm, entry 1",
		"sent 1 message", "letters                 1", "the broker cannot read it",
		"received 1 new message", `"message":"Dear Bob, noon is fine.\n"`, `"sender":"alice"`, `"publisher":"alice"`,
		"(2 keys open messages)", "received 2 new messages", "received ", "numbers.jsonl (100000 in it)", "100000\n",
		"sealmq: error: not allowed to delete 'letters'", "sealmq: hint: ", "deleted",
		"queued as ", "acme-01 ", "nobody can read it there", "revoked every certificate of acme-01",
		"0 lost, 0 delivered twice, 0 changed",
	})
}

// tour returns the commands of a page, block by block. The first block builds the program.
func tour(t *testing.T, page string) (blocks []string) {
	t.Helper()
	if testing.Short() || runtime.GOOS != "linux" {
		t.Skip("it needs a shell and runs for several seconds")
	}
	for _, f := range fences(t, page) {
		if f.language == "sh" {
			blocks = append(blocks, f.text)
		}
	}
	if len(blocks) < 3 || !strings.HasPrefix(blocks[0], "make build\n") {
		t.Fatalf("%s begins with other blocks: %q", page, blocks)
	}
	return blocks
}

// follow runs the blocks behind the first, and looks for what the commands print, in order.
func follow(t *testing.T, blocks, wanted []string) {
	t.Helper()
	var script strings.Builder
	for _, b := range blocks[1:] {
		script.WriteString(b)
	}
	script.WriteString("wait\n")

	out, err := paste(t, script.String())
	if err != nil {
		t.Errorf("the last command failed: %v", err)
	}
	rest := string(out)
	for _, want := range wanted {
		_, after, found := strings.Cut(rest, want)
		if !found {
			t.Fatalf("%q is missing, or not at its place, in:\n%s", want, out)
		}
		rest = after
	}
}

// diskFolder is a new folder that is not in memory.
func diskFolder(t *testing.T) string {
	t.Helper()
	for _, parent := range []string{"/var/tmp", "."} {
		if _, inMemory, err := bench.FileSystem(parent); err != nil || inMemory {
			continue
		}
		dir, err := os.MkdirTemp(parent, "walk.")
		if err != nil {
			continue
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		return dir
	}
	t.Skip("every folder here is in memory, where bench refuses to measure")
	return ""
}

// freeAddr is an address that nobody listens on, and that no test was given.
func freeAddr(t *testing.T) string {
	t.Helper()
	port, err := server.Port()
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint("127.0.0.1:", port)
}
