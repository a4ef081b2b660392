package main

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq/cmd/sealmq/internal/jsonl"
	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/receive"
	"github.com/sealmq/sealmq/seal"
	"github.com/sealmq/sealmq/seal/ciphermq"
)

// received is a message as a receiver of these tests gets it.
func received(n int) *seal.Message {
	return &seal.Message{ID: fmt.Sprint("id-", n), Text: fmt.Append(nil, "text ", n), Suite: ciphermq.RSA}
}

// receivedFolder has an output and its ledger: committed messages, two to a commit, and then
// lines that the ledger does not know, as a kill between the two leaves them.
func receivedFolder(t *testing.T, committed, unknown int) map[string][]byte {
	t.Helper()
	dir := t.TempDir()
	out := filepath.Join(dir, "out.jsonl")
	ledger, err := receive.OpenLedger(out+ledgerSuffix, receive.LedgerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	file, err := jsonl.Open(durable.OS(), out, 0, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; n < committed+unknown; n += 2 {
		for _, m := range []*seal.Message{received(n), received(n + 1)} {
			err = errors.Join(err, file.Append(&jsonl.Record{MessageID: m.ID, Message: m.Text, Received: time.Unix(1, 0)}))
		}
		err = errors.Join(err, file.Commit())
		if n < committed {
			err = errors.Join(err, ledger.Commit(receive.Output{Length: file.Size(), Messages: uint64(file.Len())}, received(n), received(n+1)))
		}
	}
	if err := errors.Join(err, file.Close(), ledger.Close()); err != nil {
		t.Fatal(err)
	}
	return readFolder(t, dir)
}

func readFolder(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	files := make(map[string][]byte)
	names, err := durable.OS().ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if files[name], err = os.ReadFile(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

// Harm to any byte of a ledger or of the end of an output loses no line in silence, and shows
// no message twice: the start is refused, changes nothing and says what to do; or every line is
// where it was and known; or a message names the file that has what was cut off.
func TestHarmedLedgerAndOutput(t *testing.T) {
	t.Parallel()
	const committed, unknown = 10, 2
	healthy := receivedFolder(t, committed, unknown)
	harms := map[string]func(b []byte, at int) []byte{
		"flipped": func(b []byte, at int) []byte { b[at] ^= 1 << (at % 8); return b },
		"zeros":   func(b []byte, at int) []byte { clear(b[at:min(at+64, len(b))]); return b },
		"cut off": func(b []byte, at int) []byte { return b[:at] },
		"torn":    func(b []byte, at int) []byte { return append(b, b[:at%40]...) },
	}
	for _, name := range []string{"out.jsonl", "out.jsonl" + ledgerSuffix} {
		for what, harm := range harms {
			for at := 0; at < len(healthy[name]); at += 5 {
				files := maps.Clone(healthy)
				files[name] = harm(bytes.Clone(files[name]), at)
				if err := judgeHarmedReceiver(t, files, committed+unknown); err != nil {
					t.Errorf("%s at byte %d of %d of %s: %v", what, at, len(healthy[name]), name, err)
				}
			}
		}
	}
}

// Where whole lines of one length are gone, a line that the ledger does not know ends where the
// last one that it knows should. Its message was not acknowledged and would be written again.
func TestLinesGoneFromAnOutput(t *testing.T) {
	for from := range 22 {
		for gone := range 4 {
			files := receivedFolder(t, 20, 2)
			lines := slices.Collect(strings.Lines(string(files["out.jsonl"])))
			kept := slices.Delete(lines, from, min(from+gone, len(lines)))
			files["out.jsonl"] = []byte(strings.Join(kept, ""))
			if err := judgeHarmedReceiver(t, files, 22); err != nil {
				t.Errorf("%d lines from line %d: %v", gone, from, err)
			}
		}
	}
}

func judgeHarmedReceiver(t *testing.T, files map[string][]byte, messages int) error {
	dir := t.TempDir()
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var notes strings.Builder
	cmd := &cobra.Command{}
	cmd.SetErr(&notes)
	f := &receiveFlags{out: filepath.Join(dir, "out.jsonl"), ledger: filepath.Join(dir, "out.jsonl"+ledgerSuffix)}
	out, err := f.openOutput(call{ctx: t.Context(), cmd: cmd})
	if err != nil {
		if hintFor(err) == "" {
			return fmt.Errorf("no way out: %w", err)
		}
		if !maps.EqualFunc(files, readFolder(t, dir), bytes.Equal) {
			return fmt.Errorf("refused, and the files were changed: %w", err)
		}
		return nil
	}
	defer out.close()
	after := readFolder(t, dir)
	was, is := files["out.jsonl"], after["out.jsonl"]
	if !bytes.HasPrefix(was, is) {
		return errors.New("the output was changed")
	}
	if gone := was[len(is):]; len(gone) > 0 {
		kept := slices.ContainsFunc(slices.Collect(maps.Keys(after)), func(name string) bool {
			return strings.Contains(notes.String(), name+" now") && bytes.Equal(after[name], gone)
		})
		if !kept || bytes.IndexByte(gone, 0) < 0 && bytes.Contains(gone, []byte("}\n")) {
			return fmt.Errorf("%q was cut off: %s", gone, &notes)
		}
	}
	if len(was) == 0 {
		if !strings.Contains(notes.String(), "is missing or empty, though") {
			return fmt.Errorf("the output is empty, and it says %s", &notes)
		}
		return nil
	}
	for n := range messages {
		m := received(n)
		whole := fmt.Sprintf(`{"message_id":%q,"message":%q`, m.ID, m.Text)
		if j := out.ledger.Judge(m); bytes.Contains(is, []byte(whole)) && j != receive.LedgerSeen {
			return fmt.Errorf("message %d is in the output, and the ledger judges it %d: %s", n, j, &notes)
		}
	}
	return nil
}
