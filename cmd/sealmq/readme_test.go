package main

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/sealmq/sealmq/cmd/sealmq/internal/bench"
)

// TestReadmeWalk pastes the commands of the README's walk into a shell, all but the
// build, as a new user would.
func TestReadmeWalk(t *testing.T) {
	if testing.Short() || runtime.GOOS != "linux" {
		t.Skip("it needs a shell and runs for several seconds")
	}
	page, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, walk, _ := strings.Cut(string(page), "## A five-minute walk")
	walk, _, _ = strings.Cut(walk, "\n## ")
	blocks := regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(walk, -1)
	if len(blocks) < 8 {
		t.Fatalf("the walk has %d blocks", len(blocks))
	}
	var script strings.Builder
	for _, b := range blocks[1:] {
		script.WriteString(b[1])
	}
	script.WriteString("wait\n")

	out, err := paste(t, script.String())
	if err != nil {
		t.Errorf("the last command failed: %v", err)
	}
	rest := string(out)
	for _, want := range []string{
		"sealmq-data/certs/admin.crt", "accepting clients",
		"sealmq-data/certs/alice.crt", "sealmq-data/certs/bob.crt", "sealmq-data/keys/bob.key",
		"queue letters gets what is published to post with key bob", "name         bob", "read out",
		"sent 1 message", "letters                 1", "the broker cannot read it",
		"received 1 new message", `"message":"Dear Bob, noon is fine.\n"`, `"sender":"alice"`, `"publisher":"alice"`,
		"(2 keys open messages)", "received 2 new messages", "received ", "numbers.jsonl (100000 in it)", "100000\n",
		"sealmq: error: not allowed to delete 'letters'", "sealmq: hint: ", "deleted",
		"queued as ", "acme-01 ", "nobody can read it there", "revoked every certificate of acme-01",
		"0 lost, 0 delivered twice, 0 changed",
	} {
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

// freeAddr is an address that nobody listened on a moment ago. Its port is none of those
// that systems hand out, or another test might be given it meanwhile.
func freeAddr(t *testing.T) string {
	for range 100 {
		l, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", 20_000+rand.IntN(12_000)))
		if err == nil {
			defer l.Close()
			return l.Addr().String()
		}
	}
	t.Fatal("no port is free")
	return ""
}
